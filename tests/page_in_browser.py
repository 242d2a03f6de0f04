"""The page of a running `make local` in a browser, for the tests that have one running."""

import re
from typing import Any

from browser import browser

# In the owner's code: what fails, and why.
WORKS = "match event:"
BREAKS = 'raise ValueError("<b>out of stock</b>")\n    match event:'


def drive(local: Any) -> None:
    """Publish, watch, break, see the dead letter, fix, redrive: all in a message group.

    What the other buttons run is in test_page.py; pausing takes Terraform half a minute of CPU.
    """
    addresses = re.findall(r"(http://127\.0\.0\.1:\d+)(/\?token=\w+)", local.shown())
    url, token = addresses[-1]
    path = "order_events/service.py"
    code = local.read(path)
    assert code.count(WORKS) == 1
    publish = ("Publish order.created", "publish EVENT=events/order.created.json GROUP=order-1")
    with browser() as page:

        def count(queue: str) -> int:
            numbers = re.findall(r"\d+", page.text(f"[data-counts={queue}]"))
            return sum(map(int, numbers))

        def press(label: str, command: str) -> None:
            page.press(label)
            page.until(
                lambda: page.text("#running") == f"make {command} ENV=local has ended:", label
            )
            assert not re.search("Exit code|\x1b", page.text("#output")), page.text("#command")

        def invocations() -> list[str]:
            return page.text("#invocations").splitlines()

        page.open(f"{url}/")
        assert page.text() == "Open the address that `make local` shows: it ends in a token."
        page.open(f"{url}{token}")
        page.until(lambda: page.text("#paused") == "running", "the code runs")
        page.until(lambda: not count("queue") + count("dead"), "the queues are empty")

        page.run("document.getElementById('group').value = 'order-1'")
        press(*publish)
        page.until(lambda: invocations()[0].endswith("processed"), "it was processed")
        local.mark()
        local.save(path, code.replace(WORKS, BREAKS))
        local.until("Reloaded")
        press(*publish)
        page.until(lambda: count("dead") == 1, "it is a dead letter")
        page.until(lambda: "<b>out of stock</b>" in page.text("#letters"), "the reason is shown")
        assert "order.created in group order-1, received" in page.text("#letters")
        assert any(": failed" in line for line in invocations())
        page.until(lambda: "dead-letter-queue-not-empty" in page.text("#alarms"), "it is an alarm")

        local.save(path, code)
        local.until("Reloaded")
        press("Redrive", "dlq-redrive")
        page.until(lambda: invocations()[0].endswith("processed"), "it was processed")
        page.until(lambda: not count("queue") + count("dead"), "the queues are empty")
