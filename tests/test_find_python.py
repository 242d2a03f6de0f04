"""tools/find_python.sh of the rendered service, on a machine of fakes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}"
SCRIPT = SERVICE / "tools" / "find_python.sh"

# What the script asks an interpreter is answered by this Python, which says to be of a version.
PYTHON = """#!/bin/sh
shift 2  # -I -c
exec {python} -I -c "
import sys
sys.version_info = ({major}, {minor}, 0)
sys._base_executable = '$0'
$1" "$2"
"""
SHIM = '#!/bin/sh\necho "pyenv: python: command not found" >&2\nexit 127\n'
WITHOUT_ENSUREPIP = '#!/bin/sh\necho "ModuleNotFoundError: ensurepip" >&2\nexit 1\n'


class Machine:
    """Folders with fakes in them, and the script's answer there."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.log = folder / "uv.log"
        self.path: list[Path] = []
        self.home.mkdir()

    def put(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def command(self, folder: str, name: str, text: str) -> Path:
        """Put a command into a folder of the PATH; the first folder that is named comes first."""
        place = self.home / folder
        if place not in self.path:
            self.path.append(place)
        return self.put(place / name, text)

    def uv(self, *, has: Path | None = None, installs: Path | None = None) -> None:
        """Put a uv that knows of one interpreter, or can install one."""
        found = self.home / "found"
        if has:
            found.symlink_to(has)
        install = f'ln -s "{installs}" "{found}"' if installs else "exit 2"
        self.command(
            "uv",
            "uv",
            f"""#!/bin/sh
echo "$*" >> "{self.log}"
case "$2" in
find) [ -e "{found}" ] && readlink "{found}" ;;
install) echo "installing $3"; {install} ;;
esac
""",
        )

    def find(self, *versions: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "HOME": str(self.home),
            # The fakes, then only what the script and they are made with.
            "PATH": os.pathsep.join([*map(str, self.path), str(tools(self.home))]),
        }
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), *versions], env=environment, capture_output=True, text=True
        )

    def found(self, *versions: str) -> Path:
        done = self.find(*versions)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        return Path(done.stdout.strip())


def tools(home: Path) -> Path:
    """Return a folder with the tools that any machine has, and no Python."""
    folder = home / "tools"
    if not folder.exists():
        folder.mkdir()
        for tool in ("sh", "sed", "readlink", "ln"):
            (place,) = [p for p in (Path("/bin", tool), Path("/usr/bin", tool)) if p.exists()][:1]
            (folder / tool).symlink_to(place)
    return folder


def python(version: str) -> str:
    major, _, minor = version.partition(".")
    return PYTHON.format(python=sys.executable, major=major, minor=minor)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_one_on_the_path(machine: Machine) -> None:
    expected = machine.command("a", "python3.12", python("3.12"))
    machine.command("b", "python3.12", python("3.12"))
    assert machine.found("3.12") == expected


def test_the_first_version_wins_that_is_there(machine: Machine) -> None:
    expected = machine.command("a", "python3.12", python("3.12"))
    machine.command("a", "python3.11", python("3.11"))
    assert machine.found("3.13", "3.12", "3.11") == expected


@pytest.mark.parametrize("broken", [SHIM, WITHOUT_ENSUREPIP, python("3.11")])
def test_an_unsuitable_one_is_skipped(machine: Machine, broken: str) -> None:
    machine.command("a", "python3.12", broken)
    expected = machine.command("b", "python3.12", python("3.12"))
    assert machine.found("3.12") == expected


def test_a_plain_python3_of_that_version_is_taken(machine: Machine) -> None:
    expected = machine.command("a", "python3", python("3.12"))
    assert machine.found("3.12") == expected
    assert machine.find("3.13").returncode == 1


def test_pyenvs_versions_are_found_where_only_its_shims_are_on_the_path(machine: Machine) -> None:
    machine.command("shims", "python3.12", SHIM)
    versions = machine.home / ".pyenv" / "versions"
    machine.put(versions / "3.12" / "bin" / "python", python("3.12"))  # of no minor version's name
    expected = machine.put(versions / "3.12.7" / "bin" / "python", python("3.12"))
    assert machine.found("3.12") == expected


def test_uv_is_asked_for_what_it_has_before_it_installs(machine: Machine) -> None:
    expected = machine.put(machine.home / "managed" / "python3.11", python("3.11"))
    machine.uv(has=expected)
    assert machine.found("3.13", "3.11") == expected
    assert "install" not in machine.log.read_text()


def test_uv_installs_what_nobody_has(machine: Machine) -> None:
    installed = machine.put(machine.home / "managed" / "python3.13", python("3.13"))
    machine.uv(installs=installed)
    done = machine.find("3.13", "3.12")
    # What uv prints is none of the answer.
    assert done.stdout == f"{installed}\n"
    assert "installing 3.13" in done.stderr


def test_no_python_is_one_sentence_and_a_failure(machine: Machine) -> None:
    machine.uv()
    done = machine.find("3.13", "3.12")
    assert done.returncode == 1
    assert done.stdout == ""
    said = done.stderr.splitlines()[-1]
    assert said.startswith("There is no Python 3.13 or 3.12 on this machine")
    assert "apt install python3.13-venv" in said
    assert "brew install python@3.13" in said
    assert "https://docs.astral.sh/uv" in said


def test_a_folder_on_the_path_may_have_spaces_and_stars(machine: Machine) -> None:
    expected = machine.command("my * folder", "python3.12", python("3.12"))
    assert machine.found("3.12") == expected


def test_a_virtual_environment_gives_way_to_what_it_was_made_from(tmp_path: Path) -> None:
    """Its own .venv may be what is about to be made anew."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    version = "{}.{}".format(*sys.version_info)
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT), version],
        env={"HOME": str(tmp_path), "PATH": f"{tmp_path}/v/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = Path(done.stdout.strip())
    assert tmp_path not in found.parents
    said = subprocess.run([found, "-V"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"Python {version}.")
