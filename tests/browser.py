"""Chrome or Chromium without a window, driven by its own chromedriver."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from conftest import need

# It asks no one but the page: no updates, no accounts, no experiments.
OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1200,900"),
)
SECONDS = 120.0  # a pause plans and applies


class Browser:
    """A browser with one page. Elements are named by CSS selectors, buttons by their labels."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)

    def text(self, selector: str = "body") -> str:
        """Return the text that an element shows; "" while it isn't there."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.driver.execute_script(script, selector))

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def press(self, label: str) -> None:
        """Press a button by the keyboard, once it can be pressed."""
        button = self.driver.find_element("xpath", f"//button[.='{label}']")
        self.until(lambda: button.get_attribute("aria-disabled") != "true", f"{label} is enabled")
        button.send_keys("\n")

    def until(self, met: Callable[[], object], what: str) -> None:
        """Wait until a condition is met. Fails with what the page shows."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            WebDriverWait(self.driver, SECONDS, 0.1).until(lambda _: met())
        except TimeoutException:
            raise AssertionError(f"Not so: {what}. The page shows:\n{self.text()}") from None


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with an empty profile; skip the test where there is none."""
    # GitHub's machines have it in a place of its own.
    place = os.environ.get("CHROMEWEBDRIVER", "")
    driver = shutil.which("chromedriver") or shutil.which("chromedriver", path=place)
    if driver is None:
        need("chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    # Where both are, the driver is Chrome's. It finds Chrome on macOS by itself.
    if program := shutil.which("google-chrome") or shutil.which("chromium"):
        options.binary_location = program
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which root can't have
    with tempfile.TemporaryDirectory() as profile:
        for option in (*OPTIONS, *sandbox, f"--user-data-dir={profile}"):
            options.add_argument(option)
        started = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            yield Browser(started)
        finally:
            started.quit()
