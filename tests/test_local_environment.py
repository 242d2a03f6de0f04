"""ENV=local: only the local AWS that `make local` runs; dev and prod never that one."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import HOST, SERVICE, Render, need_provider, working_in
from test_isolation import Listener, listener, real  # noqa: F401 (fixtures)
from tools import hcl
from tools.__main__ import COMMANDS, main
from tools.build import package
from tools.deploy import settings, terraform
from tools.deploy.terraform import link_code
from tools.errors import ToolError, explain
from tools.local import running
from tools.local.deployment import progress
from tools.local.gate import REFUSAL
from tools.local.isolation import pointed_at
from tools.local.running import Running
from tools.local.server import LocalAws, local_aws
from tools.operate import compute_fargate
from tools.project import Environment

KEY = "local0123456789abcdef"
REGION = "eu-central-1"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
# As in the template's own folder, where the variant for Fargate has another name.
FARGATE = {
    name: place.replace("operate.compute:", "operate.compute_fargate:")
    for name, place in compute_fargate.COMMANDS.items()
}


def with_environment() -> list[str]:
    """Name the commands that take an environment."""
    found = []
    for name, place in {**COMMANDS, **FARGATE}.items():
        module, function = place.split(":")
        if module != "tools.local.loop":
            command = getattr(import_module(module), function)
            found += [name] * any(param.name == "environment" for param in command.params)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Work in a folder with the files that name a service."""
    (tmp_path / "terraform").symlink_to(SERVICE / "terraform")
    with working_in(tmp_path):
        yield tmp_path


@pytest.fixture
def aws(folder: Path) -> Iterator[LocalAws]:
    """Run the local AWS of the service in that folder."""
    with running.hold() as write, local_aws(REGION, for_terraform=False, key=KEY) as aws:
        write(Running(aws.url, REGION, KEY, os.getpid()))
        yield aws


# ---- none runs --------------------------------------------------------------------------------


def test_the_commands_are_those_that_touch_aws() -> None:
    assert {"plan", "apply", "status", "logs", "unlock", "init", "push"} <= {*with_environment()}
    assert not {"package", "validate", "lock"} & {*with_environment()}


@pytest.mark.parametrize("command", with_environment())
def test_without_one_every_command_says_so(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.dict(COMMANDS, FARGATE):
        assert main([command, "--env", "local"]) == 1
    assert capsys.readouterr() == ("", f"{running.NONE}\n")
    assert not any(folder.glob(".*"))


def test_what_a_dead_one_has_left_counts_for_nothing(folder: Path) -> None:
    with running.hold() as write:
        assert running.find() is None
        write(Running("http://127.0.0.1:1", REGION, KEY, 1, {"A": "1"}))
        left = (folder / ".local" / "running.json").read_text()
        assert running.find() == Running("http://127.0.0.1:1", REGION, KEY, 1, {"A": "1"})
    assert not (folder / ".local" / "running.json").exists()
    (folder / ".local" / "running.json").write_text(left)
    assert running.find() is None
    with pytest.raises(ToolError, match=re.escape(running.NONE)):
        running.connect()
    with running.hold():  # which begins without it
        assert running.find() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', '{"more": 1}', "null", "\xff"])
def test_what_is_not_written_by_it_counts_for_nothing(folder: Path, text: str) -> None:
    with running.hold():
        (folder / ".local" / "running.json").write_text(text, encoding="latin-1")
        assert running.find() is None


def test_killed_it_is_gone(folder: Path) -> None:
    code = (
        "import time; from tools.local import running\n"
        "with running.hold() as write:\n"
        "    write(running.Running('http://127.0.0.1:1', 'x', 'y', 1))\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    path = {**os.environ, "PYTHONPATH": str(SERVICE)}
    with subprocess.Popen(
        [sys.executable, "-B", "-c", code], cwd=folder, env=path, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert running.find() is not None
        holder.send_signal(signal.SIGKILL)
    assert running.find() is None
    with running.hold():
        pass


# ---- one runs ---------------------------------------------------------------------------------


def test_a_second_one_is_refused_and_harms_nothing(aws: LocalAws, folder: Path) -> None:
    said = f"A local AWS is running for this service already, at {aws.url}: use it with ENV=local"
    with pytest.raises(ToolError, match=re.escape(said)), running.hold():
        pass
    assert running.find() is not None
    assert (folder / ".local" / "running.json").stat().st_mode & 0o777 == 0o600


def test_who_looks_for_it_is_in_nobodys_way(folder: Path) -> None:
    with running.hold():
        pass
    with (folder / ".local" / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        signal.signal(signal.SIGALRM, lambda *_: fcntl.flock(looking, fcntl.LOCK_UN))
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with running.hold():
            pass


def test_a_disk_without_locks_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = r"^\.local/lock can't be locked \(No locks available\): the service's folder must be on"
    with pytest.raises(ToolError, match=said), running.hold():
        pass
    assert running.find() is None


def test_destroy_needs_the_package_that_is_deployed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    for owner, name in ((package, "build"), (package, "runnable"), (terraform, "run")):
        monkeypatch.setattr(owner, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(terraform, "ensure_initialised", lambda _: None)
    assert terraform.destroy.callback
    for environment in ("local", "dev"):
        terraform.destroy.callback(Environment(environment))
    assert done == ["runnable", "run", "build", "run"]


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = rf"^Port {port} of 127\.0\.0\.1 can't be used \(.+\): choose another one\.$"
        with pytest.raises(ToolError, match=said), local_aws(REGION, port=port):
            pass
    with local_aws(REGION, for_terraform=False, port=port) as aws:
        assert aws.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_dev_and_prod_refuse_it(
    aws: LocalAws, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    for environment, end in (("dev", ""), ("dev", "/"), ("prod", "")):
        given = {**others, variable: aws.url + end}
        for command in with_environment():
            with mock.patch.dict(os.environ, given, clear=True), mock.patch.dict(COMMANDS, FARGATE):
                assert main([command, "--env", environment]) == 1
            said = f"{variable} is the local AWS of `make local`, and ENV is {environment}: unset "
            assert capsys.readouterr() == ("", f"{said}it, or use ENV=local.\n")


def test_doctor_says_whether_one_runs(aws: LocalAws, folder: Path) -> None:
    command = [sys.executable, "-B", "-m", "tools.doctor", "local"]
    path = {**os.environ, "PYTHONPATH": str(SERVICE)}

    def said() -> str:
        done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True)
        return done.stdout.partition("To deploy to local\n")[2].splitlines()[0]

    deploying = f"{aws.url}, process {os.getpid()}: Terraform is deploying the service"
    assert said() == f"  ok       make local    {deploying}"
    (folder / ".local" / "running.json").unlink()
    assert said() == f"  missing  make local    {running.NONE}"


# ---- nothing of ENV=local reaches another AWS --------------------------------------------------

LOCK_INFO = {"ID": "1-2-3", "Who": "me@here", "Created": "2026-01-01T00:00:00Z"}


def other_aws(real: dict[str, str], url: str) -> dict[str, str]:  # noqa: F811
    """Return variables that lead boto3 and Terraform to a URL in every way they know."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **real,
        **dict.fromkeys(("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_S3_ENDPOINT"), url),
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_DEFAULT_PROFILE": "corp",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "TF_CLI_ARGS": f"-var=service={url}",
        "TF_CLI_ARGS_init": f'-backend-config=endpoints={{s3="{url}"}}',
        "TF_DATA_DIR": "/nowhere",
        "TF_VAR_aws_region": "us-west-2",
        "TF_WORKSPACE": "prod",
        "PYTHONPATH": str(SERVICE),
    }


def test_a_command_asks_the_local_one_alone(
    aws: LocalAws,
    folder: Path,
    listener: Listener,  # noqa: F811
    real: dict[str, str],  # noqa: F811
) -> None:
    environment = Environment("local")
    environment.backend.write_text(f'bucket = "state"\nregion = "{REGION}"\n')
    backend = hcl.read(Path("terraform/backend.tf"))["terraform"][0]["backend"][0]["s3"]
    s3 = aws.client("s3")
    location = {"LocationConstraint": REGION}
    s3.create_bucket(Bucket="state", CreateBucketConfiguration=location)
    key = f"env:/local/{backend['key']}.tflock"
    s3.put_object(Bucket="state", Key=key, Body=json.dumps(LOCK_INFO).encode())
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tools", "unlock", "--env", "local"],
        cwd=folder,
        env=other_aws(real, listener.url),
        capture_output=True,
        text=True,
    )
    assert "Who        me@here" in done.stdout, done.stderr
    assert listener.connections == 0


def test_what_is_left_of_the_environment(
    aws: LocalAws,
    real: dict[str, str],  # noqa: F811
) -> None:
    with mock.patch.dict(os.environ, other_aws(real, "http://127.0.0.1:1"), clear=True):
        running.connect()
        left = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        no_proxy = os.environ["NO_PROXY"], os.environ["no_proxy"]
    files = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    assert left == {
        **dict.fromkeys(files, os.devnull),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    assert no_proxy == ("127.0.0.1", "127.0.0.1")


def test_terraform_asks_the_local_one_alone(
    fresh: Render,
    listener: Listener,  # noqa: F811
    real: dict[str, str],  # noqa: F811
) -> None:
    service = fresh(**HOST, aws_region=REGION)
    need_provider(service)
    with (
        working_in(service),
        running.hold() as write,
        local_aws(REGION, for_terraform=False, key=KEY) as aws,
    ):
        write(Running(aws.url, REGION, KEY, os.getpid()))
        location = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket="state", CreateBucketConfiguration=location)
        Environment("local").backend.write_text(
            f'bucket = "state"\nregion = "{REGION}"\nuse_path_style = true\n'
        )
        proxies = [name for name in real if "proxy" in name.lower()]
        without = {name: value for name, value in real.items() if name not in proxies}
        given = other_aws(without, listener.url) | {"PYTHONPATH": str(service)}
        done = subprocess.run(
            [sys.executable, "-B", "-m", "tools", "output", "--env", "local"],
            env=given,
            capture_output=True,
            text=True,
        )
        kept = aws.client("s3").list_objects_v2(Bucket="state")["Contents"]
    assert done.returncode == 0, done.stderr
    assert "No outputs found" in done.stdout + done.stderr
    assert [one["Key"] for one in kept] == ["env:/local/services/order-events/terraform.tfstate"]
    assert listener.connections == 0
    assert not (service / "terraform" / ".terraform.lock.hcl").exists()


# ---- who may use it ---------------------------------------------------------------------------

# One of each protocol: JSON, Query, XML, JSON by REST, CBOR.
CALLS = {
    "sqs": "list_queues",
    "sns": "list_topics",
    "s3": "list_buckets",
    "lambda": "list_functions",
    "cloudwatch": "list_metrics",
}
UNTRIED = Config(retries={"total_max_attempts": 1})


def client(aws: LocalAws, service: str, key: str) -> Any:
    return boto3.session.Session().client(
        service,
        REGION,
        endpoint_url=aws.url,
        aws_access_key_id=key,
        aws_secret_access_key="any",
        config=UNTRIED,
    )


@pytest.mark.parametrize("service", CALLS)
def test_another_key_is_refused_in_the_protocol_of_the_call(aws: LocalAws, service: str) -> None:
    for key in ("AKIAIOSFODNN7EXAMPLE", "local", KEY[:-1], KEY + "0"):
        with pytest.raises(ClientError) as refused:
            getattr(client(aws, service, key), CALLS[service])()
        response = refused.value.response
        assert response["Error"]["Code"] == "InvalidClientTokenId"
        assert response["Error"]["Message"] == REFUSAL
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
        said = explain(refused.value)
        assert said
        assert said.endswith(f"({REFUSAL})")
    getattr(client(aws, service, KEY), CALLS[service])()


def test_keys_that_it_gave_out_are_accepted(aws: LocalAws) -> None:
    for name in ("code", "other"):
        role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]
        keys = aws.grant(role["Arn"])
        told = aws.client("sts", keys).get_caller_identity()["Arn"]
        assert told.endswith(f":assumed-role/{name}/{name}")


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_what_is_not_signed_is_refused(aws: LocalAws) -> None:
    queue = aws.client("sqs").create_queue(QueueName="orders")["QueueUrl"]
    for path in ("/", "/moto-api/", "/moto-api/data.json", "/orders", "/?Action=ListQueues"):
        assert ask(aws.url + path)[0] == 403, path
    for path in ("/moto-api/reset", "/", "/123456789012/orders?Action=DeleteQueue"):
        assert ask(aws.url + path, "POST")[0] == 403, path
    assert aws.client("sqs").list_queues()["QueueUrls"] == [queue]


def test_a_presigned_url_needs_the_key(aws: LocalAws) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="bucket", Key="k", Body=b"content")
    of = {"Bucket": "bucket", "Key": "k"}
    url = s3.generate_presigned_url("get_object", Params=of)
    assert ask(url) == (200, "content")
    assert ask(url.replace(KEY, "AKIAIOSFODNN7EXAMPLE"))[0] == 403
    assert ask(aws.url + "/bucket/k")[0] == 403


def test_by_another_name_it_answers_nobody(aws: LocalAws) -> None:
    signed = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/{REGION}/sts/aws4_request"
    query = f"{aws.url}/?Action=GetCallerIdentity&Version=2011-06-15"
    assert ask(query, Authorization=signed)[0] == 200
    port = aws.url.rpartition(":")[2]
    for host in (f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", "127.0.0.1:1"):
        assert ask(query, Authorization=signed, Host=host)[0] == 403, host


def test_the_page_gets_what_is_not_signed_and_nothing_else() -> None:
    paths = []

    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        paths.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]

    with local_aws(REGION, for_terraform=False, key=KEY, page=page) as aws:
        assert ask(f"{aws.url}/") == (200, "page")
        assert ask(f"{aws.url}/x", "POST") == (200, "page")
        assert ask(f"{aws.url}/", Host="evil.example")[0] == 403
        wrong = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/sts/aws4_request"
        assert ask(f"{aws.url}/", Authorization=wrong)[0] == 403
        aws.client("sqs").list_queues()
    assert paths == ["/", "/x"]


def test_without_a_key_everybody_is_answered() -> None:
    with local_aws(REGION, for_terraform=False) as aws:
        client(aws, "sqs", "any").list_queues()
        assert os.environ["AWS_ACCESS_KEY_ID"] == "local"


def test_dev_with_its_own_keys_gets_nothing_from_it(aws: LocalAws, folder: Path) -> None:
    """The endpoint is in a profile, which no variable shows."""
    (folder / "config").write_text(
        f"[default]\nregion = {REGION}\nendpoint_url = {aws.url}\n"
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    variables = {**kept, "AWS_CONFIG_FILE": str(folder / "config"), "PYTHONPATH": str(SERVICE)}
    code = (
        "from tools.__main__ import COMMANDS, main\n"
        "import sys, tools.operate.service as service, tools.deploy.terraform as terraform\n"
        "arn = 'arn:aws:lambda:eu-central-1:123456789012:function:f'\n"
        "terraform.outputs = lambda _: {'service_arn': arn}\n"
        "sys.exit(main(['versions', '--env', 'dev']))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert REFUSAL in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---- its files --------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_its_settings_are_devs_but_for_its_own() -> None:
    local = Environment("local")
    files = [Path(option.removeprefix("-var-file=")) for option in local.var_files()]
    assert files == [Path("terraform/environments/dev.tfvars").absolute(), local.tfvars.absolute()]
    assert local.code == ".local/terraform"
    assert {path.parts[0] for path in (local.tfvars, local.backend, local.data_dir)} == {".local"}
    (only,) = Environment("prod").var_files()
    assert only == f"-var-file={Path('terraform/environments/prod.tfvars').absolute()}"


def test_a_setting_that_is_taken_out_has_its_default_not_devs(
    render: Render, tmp_path: Path
) -> None:
    environments = tmp_path / "terraform" / "environments"
    environments.mkdir(parents=True)
    (environments / "dev.tfvars").write_text('paused = true\nlive_version = "7"\n')
    text = (render() / "terraform" / "variables.tf").read_text()
    found = re.findall(r'(?ms)^variable "(?:paused|live_version)" \{.*?^\}$', text)
    (tmp_path / "terraform" / "variables.tf").write_text("\n".join({*found}))
    with working_in(tmp_path), mock.patch("tools.deploy.terraform.attempt"):
        local = Environment("local")
        local.tfvars.parent.mkdir()
        local.tfvars.write_text('paused = true\nlive_version = "3"\n')
        new = settings.written(local, {"paused": "", "live_version": ""})
        assert hcl.read(new) == {"paused": False, "live_version": None}
        assert new.read_text() == "paused = false\nlive_version = null\n"


def test_its_code_follows_the_services(tmp_path: Path) -> None:
    code = tmp_path / "terraform"
    (code / "modules" / "x").mkdir(parents=True)
    for name in ("main.tf", "a.tf.json", "policy.json", "local_override.tf", "x.auto.tfvars"):
        (code / name).write_text(name)
    for name in ("terraform.tfstate", ".terraform.lock.hcl", "terraform.tfvars", "dev.tfplan"):
        (code / name).touch()
    for name in ("tests", "environments", ".terraform"):
        (code / name).mkdir()
    with working_in(tmp_path):
        local = Environment("local")
        link_code(local)
        names = {"main.tf", "a.tf.json", "policy.json", "modules", "local_override.tf"}
        assert {path.name for path in Path(local.code).iterdir()} == names
        assert "max_retries" in Path(local.code, "local_override.tf").read_text()
        assert (code / "local_override.tf").read_text() == "local_override.tf"
        (code / "main.tf").unlink()
        (code / "new.tf").write_text("new")
        link_code(local)
        assert {path.name for path in Path(local.code).iterdir()} == names - {"main.tf"} | {
            "new.tf"
        }
        assert Path(local.code, "new.tf").read_text() == "new"


def test_an_apply_says_what_it_waits_for() -> None:
    assert progress("") == ""
    plan = "\nPlan: 3 to add, 0 to change, 0 to destroy.\n"
    begun = 'aws_a.b: Creating...\naws_c.d["x"]: Creating...\n'
    assert progress(plan + begun) == ", 0 of 3: waiting for a.b, 1 more"
    still = "aws_a.b: Still creating... [10s elapsed]\n"
    one = begun + still + "aws_a.b: Creation complete after 1s [id=1]\n"
    assert progress(plan + one) == ', 1 of 3: waiting for c.d["x"]'
    last = one + 'aws_c.d["x"]: Creation complete after 1s [id=1]\n'
    assert progress(plan + last) == ", 2 of 3: waiting for the rest"
    long = "".join(f"aws_sqs_queue_redrive_allow_policy.no{n}: Creating...\n" for n in range(99))
    assert len(f"    … 100 s{progress(plan.replace('3', '99') + long)}") <= 80


# ---- invoke and debug --------------------------------------------------------------------------

WHO = """

import os
import boto3

checked = process


def process(event_type, event):
    checked(event_type, event)
    told = boto3.client("sts").get_caller_identity()["Arn"]
    print(f"as {told} with {os.environ.get('PRICES_URL')} at {os.environ['AWS_ENDPOINT_URL']}")
"""


def test_code_is_run_beside_the_one_that_runs(fresh: Render) -> None:
    """As `make invoke` and `make debug` do; the latter runs the code in its own process."""
    service = fresh(**HOST)
    with (service / "order_events" / "service.py").open("a") as file:
        file.write(WHO)
    with (
        working_in(service),
        running.hold() as write,
        local_aws("us-east-1", for_terraform=False, key=KEY) as aws,
    ):
        iam = aws.client("iam")
        role = iam.create_role(RoleName="code", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        code = {
            **{"LOG_LEVEL": "INFO", "POWERTOOLS_METRICS_NAMESPACE": "x", "LOCAL_RUN": "1"},
            **{"PRICES_URL": "http://prices", "ENVIRONMENT": "local", "SERVICE": "order-events"},
            **{"AWS_ENDPOINT_URL": aws.url, **aws.grant(role)},
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

        def said() -> str:
            command = [sys.executable, "-B", "-m", "tools", "debug"]
            done = subprocess.run(command, env=plain, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        write(Running(aws.url, aws.region, KEY, os.getpid()))
        assert said().startswith("On an empty local AWS, with what tests/world.py creates.\n")
        write(Running(aws.url, aws.region, KEY, os.getpid(), code))
        text = said()
        assert f"On the local AWS of `make local`, {aws.url}, with the role's permissions." in text
        assert f"assumed-role/code/code with http://prices at {aws.url}\n" in text
        assert "0 of 1 messages failed." in text


def test_pointed_at_names_all_that_a_client_asks_for() -> None:
    with mock.patch.dict(os.environ, pointed_at("http://127.0.0.1:9", REGION, KEY), clear=True):
        made = boto3.session.Session().client("sqs")
        assert (made.meta.endpoint_url, made.meta.region_name) == ("http://127.0.0.1:9", REGION)
