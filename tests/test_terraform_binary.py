"""tools/deploy/terraform_binary.py of the service, before a server on this machine."""

import hashlib
import io
import re
import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import SERVICE, Render, lend_environment, need
from tools import doctor
from tools.deploy import terraform_binary
from tools.deploy.lock import PLATFORMS
from tools.deploy.mirror import this_platform
from tools.deploy.terraform_binary import FOLDER, MissingError, ensure, installed, program
from tools.errors import ToolError

WANTED = "1.11.4"
PATH = f"/terraform/{WANTED}/terraform_{WANTED}_{this_platform()}.zip"
TODAY = f"install version {WANTED}, see https://developer.hashicorp.com/terraform/install"
FETCHED = FOLDER / "terraform"


def stand_in(version: str) -> str:
    return f'#!/bin/sh\necho \'{{"terraform_version": "{version}"}}\'\n'


def zipped(program: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("LICENSE.txt", "the license")
        file.writestr("terraform", program)
    return archive.getvalue()


class Releases:
    """A server like HashiCorp's, with one archive; it can break off in the middle, or be silent."""

    def __init__(self) -> None:
        self.archive = zipped(stand_in(WANTED).encode())
        self.asked: list[str] = []
        self.breaks_off = False
        self.answers = threading.Event()
        self.answers.set()
        releases = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                releases.asked.append(self.path)
                releases.answers.wait()
                if self.path != f"/base{PATH}":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(releases.archive)))
                self.end_headers()
                half = len(releases.archive) // 2
                self.wfile.write(releases.archive[: half if releases.breaks_off else None])

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/base"

    def hashes(self, folder: Path) -> None:
        """Write the hash of this server's archive where a service has those of HashiCorp's."""
        line = f"{hashlib.sha256(self.archive).hexdigest()}  {Path(PATH).name}\n"
        (folder / ".terraform-version.sha256").write_text(line, encoding="utf-8")


@pytest.fixture
def releases() -> Iterator[Releases]:
    made = Releases()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.answers.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def service(tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with what says which Terraform fits, on a machine without one."""
    folder = tmp_path / "order-events"
    (folder / "terraform").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (folder / ".terraform-version").write_text(f"{WANTED}\n", encoding="utf-8")
    versions = 'terraform {\n  required_version = ">= 1.11"\n}\n'
    (folder / "terraform" / "versions.tf").write_text(versions, encoding="utf-8")
    releases.hashes(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("TERRAFORM_DOWNLOAD", "yes")
    monkeypatch.setenv("TERRAFORM_MIRROR", f"{releases.url}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


def put(path: Path, version: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(stand_in(version), encoding="utf-8")
    path.chmod(0o755)


def nothing_was_fetched() -> bool:
    return not FOLDER.exists() or not list(FOLDER.iterdir())


def test_where_there_is_none_the_wanted_version_is_fetched_once(
    service: Path, releases: Releases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed() is None
    ensure(FOLDER)
    assert capsys.readouterr().out == f"Fetching {releases.url}{PATH} (about 30 MB)\n"
    assert [path.name for path in FOLDER.iterdir()] == ["terraform"]
    assert terraform_binary.version(str(FETCHED)) == WANTED
    assert installed() == program() == str(FETCHED)
    assert doctor.terraform() == WANTED
    ensure(FOLDER)
    assert releases.asked == [f"/base{PATH}"]


def test_what_is_run_without_it_fetches_it(service: Path, releases: Releases) -> None:
    with pytest.raises(ToolError, match=r"on the PATH\nRun `make install`, which fetches version"):
        doctor.terraform()
    assert releases.asked == []
    assert program() == str(FETCHED)
    assert terraform_binary.version(program()) == WANTED


def test_another_archive_is_refused(service: Path, releases: Releases) -> None:
    expected = hashlib.sha256(releases.archive).hexdigest()
    releases.archive += b"more"
    found = hashlib.sha256(releases.archive).hexdigest()
    with pytest.raises(ToolError, match=f"its SHA-256 is {found}, but .* says {expected}") as said:
        ensure(FOLDER)
    assert not isinstance(said.value, MissingError)
    assert nothing_was_fetched()


def test_a_download_that_breaks_off_leaves_nothing(service: Path, releases: Releases) -> None:
    releases.breaks_off = True
    with pytest.raises(MissingError, match=r"can't be fetched \(IncompleteRead.*\): try again"):
        ensure(FOLDER)
    assert nothing_was_fetched()
    releases.breaks_off = False
    ensure(FOLDER)
    assert terraform_binary.version(str(FETCHED)) == WANTED


def test_an_interrupted_write_leaves_nothing(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "chmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure(FOLDER)
    assert nothing_was_fetched()


def test_a_server_that_is_not_there(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TERRAFORM_MIRROR", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(MissingError, match="refused") as said:
            ensure(FOLDER)
    assert str(said.value).startswith(f"Terraform is missing: {TODAY}\n")
    assert "set https_proxy or SSL_CERT_FILE, or set TERRAFORM_MIRROR to a" in str(said.value)


def test_a_server_that_does_not_answer(
    service: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terraform_binary, "ANSWER", 0.1)
    releases.answers.clear()
    with pytest.raises(MissingError, match=r"\(no answer in 0\.1 seconds\)"):
        ensure(FOLDER)


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [("{url}/elsewhere", "Not Found"), ("mirror", "unknown url type")],
)
def test_a_mirror_without_it(
    service: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, mirror: str, reason: str
) -> None:
    monkeypatch.setenv("TERRAFORM_MIRROR", mirror.format(url=releases.url))
    with pytest.raises(MissingError, match=reason):
        ensure(FOLDER)
    assert nothing_was_fetched()


def test_without_a_mirror_it_comes_from_hashicorp(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(url: str) -> bytes:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.delenv("TERRAFORM_MIRROR")
    monkeypatch.setattr(terraform_binary, "download", download)
    with pytest.raises(MissingError, match=r"\(no network\)"):
        ensure(FOLDER)
    assert asked == [f"https://releases.hashicorp.com{PATH}"]


def test_nothing_is_fetched_if_told_so(
    service: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFORM_DOWNLOAD", "no")
    for call in (program, lambda: ensure(FOLDER)):
        with pytest.raises(MissingError) as said:
            call()
        assert str(said.value) == f"Terraform is missing: {TODAY}"
    assert releases.asked == []


@pytest.mark.parametrize("version", ["1.11.0", "1.14.2", "2.0.0-beta1"])
def test_one_on_the_path_that_fits_is_used(
    service: Path, releases: Releases, tmp_path: Path, version: str
) -> None:
    put(tmp_path / "bin" / "terraform", version)
    put(service / FETCHED, "1.11.0")  # from before .terraform-version changed
    ensure(FOLDER)
    assert releases.asked == []
    assert installed() == program() == "terraform"


def test_one_on_the_path_that_is_too_old_is_not_used(
    service: Path, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "bin" / "terraform", "1.10.5")
    ensure(FOLDER)
    assert program() == str(FETCHED)
    FETCHED.unlink()
    monkeypatch.setenv("TERRAFORM_DOWNLOAD", "no")
    with pytest.raises(MissingError) as said:
        ensure(FOLDER)
    assert str(said.value) == f"Terraform is 1.10.5, but it must be >= 1.11: {TODAY}"


@pytest.mark.parametrize("text", ["\x7fELF of another machine", stand_in("1.11.3")])
def test_a_fetched_one_that_is_not_wanted_is_replaced(
    service: Path, releases: Releases, text: str
) -> None:
    put(service / FETCHED, "")
    FETCHED.write_text(text, encoding="utf-8")
    ensure(FOLDER)
    assert terraform_binary.version(str(FETCHED)) == WANTED
    assert len(releases.asked) == 1


def test_a_platform_that_has_no_hash_is_named(
    service: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terraform_binary, "this_platform", lambda: "plan9_mips")
    with pytest.raises(MissingError, match=r"sha256 lacks terraform_1\.11\.4_plan9_mips\.zip: if"):
        ensure(FOLDER)
    assert releases.asked == []


@pytest.mark.parametrize("there", [True, False])
def test_a_version_that_has_no_hash_is_named(
    service: Path, releases: Releases, there: bool
) -> None:
    (service / ".terraform-version").write_text("1.12.0\n", encoding="utf-8")
    if not there:
        (service / ".terraform-version.sha256").unlink()
    with pytest.raises(MissingError) as said:
        ensure(FOLDER)
    sums = "https://releases.hashicorp.com/terraform/1.12.0/terraform_1.12.0_SHA256SUMS"
    assert f"lacks terraform_1.12.0_{this_platform()}.zip: if {sums} has it" in str(said.value)
    assert releases.asked == []


def test_the_repository_has_the_hashes_of_its_version() -> None:
    version = (SERVICE / ".terraform-version").read_text(encoding="utf-8").strip()
    lines = (SERVICE / ".terraform-version.sha256").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  \S+", line) for line in lines)
    archives = [f"terraform_{version}_{platform}.zip" for platform in sorted(PLATFORMS)]
    assert [line.split()[1] for line in lines] == archives


def test_make_install_fetches_terraform_and_make_uses_it(
    fresh: Render, releases: Releases, tmp_path: Path
) -> None:
    """With the real Terraform, which formats a file in the end."""
    need("make")
    need("terraform")
    service = fresh()
    lend_environment(service)
    real = Path(str(shutil.which("terraform"))).resolve()
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "make", "cat"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    environment = {
        "PATH": str(tmp_path / "bin"),
        "HOME": str(tmp_path),
        "TERRAFORM_MIRROR": releases.url,
        "no_proxy": "127.0.0.1",
    }

    def make(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["make", *arguments],
            cwd=service,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert "Traceback" not in done.stdout
        return done.returncode, done.stdout

    code, said = make("install")
    assert code == 2  # the hash is HashiCorp's
    assert hashlib.sha256(releases.archive).hexdigest() in said
    code, said = make("install", "TERRAFORM_DOWNLOAD=no")
    assert (code, said) == (0, f"Terraform is missing: {TODAY}\n")
    assert not (service / FOLDER).exists()

    releases.archive = zipped(real.read_bytes())
    releases.hashes(service)
    assert make("install") == (0, f"Fetching {releases.url}{PATH} (about 30 MB)\n")
    assert make("install") == (0, "")
    file = service / "terraform" / "service.tf"
    formatted = file.read_text(encoding="utf-8")
    file.write_text(formatted + "locals {\nshort=1\nlonger=2\n}\n", encoding="utf-8")
    code, said = make("format")
    assert code == 0, said
    assert "  short  = 1\n" in file.read_text(encoding="utf-8")
    assert [path.name for path in (service / FOLDER).iterdir()] == ["terraform"]
