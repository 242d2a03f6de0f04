"""The documentation's pictures show what the commands print now."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import TEMPLATE, need

sys.path.insert(0, str(TEMPLATE / "scripts"))
import draw
import pictures

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> Iterator[str]:
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        yield (element.text or "").replace("\xa0", " ")


def words(text: str) -> list[str]:
    """Return a text's words, without those with digits: versions, hashes and counts may differ."""
    return [word for word in text.split() if re.fullmatch(r"\D*[^\W\d]\D*", word)]


def kept(name: str) -> str:
    return (pictures.PICTURES / f"{name}.svg").read_text(encoding="utf-8")


def same(name: str, now: list[str]) -> None:
    """Compare words with those in the committed picture."""
    if (then := words(" ".join(texts(kept(name))))) != now:
        gone, new = sorted({*then} - {*now}), sorted({*now} - {*then})
        pytest.fail(
            f"docs/pictures/{name}.svg is out of date: it shows {gone}, the command prints {new}. "
            f"Run: make pictures ONLY={name}",
            pytrace=False,
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> pictures.Service:
    need("make")
    return pictures.Service(tmp_path_factory.mktemp("pictures"))


# These take minutes. test_service.py runs the same targets as the demo and calls in_demo, below;
# test_local.py runs `make local`, and calls in_local.
@pytest.mark.parametrize("name", sorted({*pictures.MADE_BY} - {"demo", "local"}))
@pytest.mark.slow
def test_a_picture_shows_what_is_printed_now(service: pictures.Service, name: str) -> None:
    need("terraform")
    same(name, words(" ".join(texts(pictures.MADE_BY[name](service)))))


def test_the_demo_picture_shows_every_step_of_the_script() -> None:
    script = (TEMPLATE / "scripts" / "demo.sh").read_text(encoding="utf-8")
    said = {
        re.sub(r"\\(.)", r"\1", line).replace("$service", "build/demo/order-events")
        for line in re.findall(r'^say "([^"]+)"$', script, re.MULTILINE)
    }
    shown = words(" ".join(texts(kept("demo"))))
    for line in said:
        step = words(line.replace("$version", "3.13"))
        assert any(shown[at : at + len(step)] == step for at in range(len(shown))), (
            f"docs/pictures/demo.svg is out of date, without {line!r}. Run: make pictures ONLY=demo"
        )


def in_demo(step: int, printed: str) -> None:
    """Compare what the picture shows of a step of the demo with what make printed for it.

    test_service.py calls this, because it runs those targets anyway.
    """
    script = words((TEMPLATE / "scripts" / "demo.sh").read_text(encoding="utf-8").replace('"', " "))
    shown = re.split(r"==> \d+\. ", " ".join(texts(kept("demo"))))[step].partition("==>")[0]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    if gone := {*words(shown)} - {*words(plain)} - {*script}:
        pytest.fail(
            f"docs/pictures/demo.svg is out of date: make no longer prints {sorted(gone)}. "
            "Run: make pictures ONLY=demo",
            pytrace=False,
        )


def test_the_demo_picture_ends_with_a_message_that_went_through() -> None:
    assert "went through" in " ".join(texts(kept("demo")))


def in_local(printed: str) -> None:
    """Compare what the picture shows of the start of `make local` with what it printed.

    RETRY changes what comes after the address, and the package's name depends on the machine.
    """
    shown = " ".join(texts(kept("local"))).partition("?token=")[0].removeprefix("$ make local")
    there = {word for word in words(shown) if not word.startswith("dist/")}
    if gone := there - {*words(printed)}:
        pytest.fail(
            f"docs/pictures/local.svg is out of date: make local no longer prints {sorted(gone)}. "
            "Run: make pictures ONLY=local",
            pytrace=False,
        )


def test_the_local_picture_shows_a_message_before_and_after_a_change() -> None:
    shown = " ".join(texts(kept("local")))
    parts = [shown.count(part) for part in (pictures.PROCESSED, "Reloaded: order_events")]
    assert parts == [2, 1]


@pytest.mark.parametrize("name", sorted(pictures.MADE_BY))
def test_a_picture_is_accessible_and_reveals_nothing_about_the_machine(name: str) -> None:
    svg = kept(name)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert (root.findtext(f"{SVG}title") or "").strip()
    assert (root.findtext(f"{SVG}desc") or "").strip()
    assert not re.search(r"url\((?!#)|@import|href|/(root|home|Users|tmp|private|var)/", svg)
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len({*ids})


def test_every_picture_has_a_function_that_creates_it() -> None:
    assert {path.stem for path in pictures.PICTURES.glob("*")} == {*pictures.MADE_BY}


def test_what_differs_between_runs_is_removed(tmp_path: Path) -> None:
    shown = f"{tmp_path}/x\nWARNING: this machine\n  … 10 s, 2 made\n==== 3 passed in 0.34s ====\n"
    assert pictures.clean(shown, tmp_path) == "~/x\n==== 3 passed ====\n"


def test_a_metric_must_have_a_sample() -> None:
    graph = {"title": "x", "stat": "Sum", "metrics": [["AWS/SQS", "New", "QueueName", "q"]]}
    widget = {"type": "metric", "x": 0, "y": 0, "width": 8, "height": 6, "properties": graph}
    with pytest.raises(KeyError, match="New"):
        draw.dashboard("d", "d", {"widgets": [widget]}, {}, {}, [])
