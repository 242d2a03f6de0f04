"""Terraform refuses wrong settings: each message names the variable, the value and the rule."""

import re
from pathlib import Path

import hcl2
import pytest
from conftest import Render, lend_environment, need, one_provider, run

RUNS = Path(__file__).parent / "terraform"

SERVICES = [("lambda", "events"), ("fargate", "events"), ("lambda", "orders.fifo")]


@pytest.mark.slow
@pytest.mark.parametrize(("compute", "topic"), SERVICES)
def test_wrong_settings_are_refused(fresh: Render, compute: str, topic: str) -> None:
    for tool in ("make", "terraform"):
        need(tool)
    service = fresh(compute=compute, sns_topic_name=topic, idempotency="yes")
    lend_environment(service)
    kinds = ["fifo"] if topic.endswith(".fifo") else [compute, "on_both"]
    files = [RUNS / f"refused_{kind}.tftest.hcl" for kind in kinds]
    runs = "\n".join(file.read_text(encoding="utf-8") for file in files)
    (service / "terraform" / "tests" / "refused.tftest.hcl").write_text(runs, encoding="utf-8")
    # The tests of table and FIFO queues too: test_service.py's service has neither.
    more = "fifo" if topic.endswith(".fifo") else "idempotency"
    only = f"-no-color -filter=tests/refused.tftest.hcl -filter=tests/{more}.tftest.hcl"
    with one_provider(service):
        done = run("make", "validate", cwd=service, TF_CLI_ARGS_test=only)
    count = runs.count("\nrun ") + 2
    assert f"Success! {count} passed, 0 failed." in done.stdout


@pytest.mark.parametrize(("compute", "topic"), [*SERVICES, ("fargate", "orders.fifo")])
def test_a_refusal_names_variable_value_and_rule(render: Render, compute: str, topic: str) -> None:
    service = render(compute=compute, sns_topic_name=topic)
    text = (service / "terraform" / "variables.tf").read_text(encoding="utf-8")
    refusals = [
        (name.strip('"'), validation["error_message"])
        for variable in hcl2.loads(text)["variable"]
        for name, body in variable.items()
        for validation in body.get("validation", [])
    ]
    assert len(refusals) > 25
    for name, message in refusals:
        named = "workspace" if name == "environments" else name
        lacks = [part for part in (named, " must ", "${") if part not in message]
        assert not lacks, f"the error_message of {name} lacks {lacks}: {message}"
    runs = "".join(file.read_text(encoding="utf-8") for file in RUNS.glob("refused_*.hcl"))
    untried = {name for name, _ in refusals} - {*re.findall(r"\bvar\.(\w+)", runs)}
    assert untried == set(), "a run of tests/terraform/refused_*.tftest.hcl must break each rule"
