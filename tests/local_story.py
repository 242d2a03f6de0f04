"""What a person does with `make local`, step by step: the same on Lambda and on Fargate.

test_local.py and test_local_fargate.py inherit these tests, each with one `make local`, their
fixture `local`.
"""

import re

from local_session import COLUMNS, ENDED, Local, control, wide

SERVICE = "order_events/service.py"
# The first line of the service's own code: what is put in front of it runs for each message.
FIRST_LINE = "    age = datetime"
NOBODY = "No local AWS is running: start it with `make local`, in another terminal."


def with_code(local: Local, *lines: str) -> None:
    """Save the service's code with these lines in front of its own."""
    added = "".join(f"    {line}\n" for line in lines)
    code = re.sub(r"(?s)(\n    \"\"\"\n).*?(?=    age = )", r"\1", local.read(SERVICE), count=1)
    local.mark()
    local.save(SERVICE, code.replace(FIRST_LINE, added + FIRST_LINE, 1))
    local.until(f"Reloaded: {SERVICE} (")


def publish(local: Local) -> None:
    """Publish a sample, as somebody does in another terminal."""
    local.mark()
    local.make("publish", "ENV=local")


class Story:
    """From the start of it to a deployed change; the order counts."""

    def test_it_says_what_it_waits_for_and_what_to_try(self, local: Local) -> None:
        text = local.shown().partition("Press Ctrl-C")[0]
        assert wide(text) == []
        assert control(text) == []
        assert " … 10 s" in text  # a sign of life: the provider waits for longer
        steps = ["local AWS for ", "terraform init", "SNS topic", "terraform apply", "Listening: "]
        assert [step for step in steps if step in text] == steps
        for part in ("make publish ENV=local", "make status ENV=local", "?token="):
            assert part in text

    def test_a_second_one_says_that_one_is_running(self, local: Local) -> None:
        said = local.refused("local")
        assert "A local AWS is running for this service already, at http://127.0.0.1:" in said
        assert "use it with ENV=local, or end it with Ctrl-C where it runs." in said

    def test_a_published_message_is_seen_in_the_log(self, local: Local) -> None:
        publish(local)
        local.until("Message processed")
        status = local.make("status", "ENV=local")
        assert re.search(r"dead letters: +none", status)
        assert re.search(r"-dlq(\.fifo)? is empty", local.refused("dlq-peek", "ENV=local"))

    def test_code_that_cannot_be_imported_is_shown_and_ends_nothing(self, local: Local) -> None:
        good = local.read(SERVICE)
        for broken, error in (
            (f"{good}\nimport nowhere\n", "No module named"),
            (good[:-9], "Syntax"),
        ):
            local.mark()
            local.save(SERVICE, broken)
            local.until(error)
            local.until("until you save a fix.")
        local.mark()
        local.save(SERVICE, good)
        local.until(f"Reloaded: {SERVICE} (")
        publish(local)
        local.until("Message processed")

    def test_a_dead_letter_has_its_reason_and_a_redrive_after_the_fix(self, local: Local) -> None:
        with_code(local, 'raise ValueError("no such order")')
        publish(local)
        local.until("no such order")
        local.until("Message failed")
        local.eventually_in("dlq-peek", "ValueError")
        with_code(local)
        local.mark()
        local.make("dlq-redrive", "ENV=local")
        local.until("Message processed")
        local.eventually_in("status", "dead letters: none")

    def test_paused_messages_wait(self, local: Local) -> None:
        local.make("pause", "ENV=local")
        publish(local)
        local.eventually_in("status", "queue:        1 waiting")
        assert "Message processed" not in local.since()
        local.make("resume", "ENV=local")
        local.until("Message processed")

    def test_saved_terraform_is_a_plan_away(self, local: Local) -> None:
        settings = "terraform/environments/dev.tfvars"
        local.mark()
        local.save(settings, local.read(settings) + '\nlog_level = "DEBUG"\n')
        local.until(f"{settings} changed: `make plan ENV=local` shows what that changes")
        said = local.make("plan", "ENV=local")
        assert "LOG_LEVEL" in said
        local.make("apply", "ENV=local")
        publish(local)
        local.until(" is ")  # the service's own line, which is of level DEBUG
        local.until("Message processed")


class End:
    """How it ends."""

    def test_ctrl_c_ends_everything(self, local: Local) -> None:
        local.mark()
        assert local.ctrl_c() in ENDED
        said = local.since()
        assert "Traceback" not in said
        assert control(said.replace("^C", "")) == []
        assert max(map(len, said.splitlines())) <= COLUMNS
        assert NOBODY in local.refused("status", "ENV=local")
