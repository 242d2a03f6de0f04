"""The working tree's code as `make local` runs it: what it is made of, and what has been saved."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tools.build import shared
from tools.build.package import LOCK, make_read_only, own_code, own_files, remove, runnable, unpack
from tools.errors import ToolError
from tools.operate import compute
from tools.project import project

# Path -> what `stat` tells that changes when the file is saved.
Stats = dict[str, tuple[int, ...]]
# Name in the package -> content, and whether it may be executed.
Code = dict[str, tuple[bytes, bool]]


def sources() -> list[str]:
    """Return the files and folders that are the service's own code."""
    return [*compute.CODE, project().package]


def own() -> Code:
    """Return the service's own code as it is now. Raises ToolError if it cannot be packed."""
    return own_code(sources())


def own_in(package: bytes) -> Code:
    """Return the service's own code in a package."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {
            entry.filename: (archive.read(entry), bool(entry.external_attr >> 16 & 0o100))
            for entry in archive.infolist()
            if entry.filename.partition("/")[0] in sources() and entry.filename[-4:] != ".pyc"
        }


def code_stats() -> Stats:
    """Return the state of the service's own code."""
    return stats_of(lambda: own_files(sources()))


def dependency_stats() -> Stats:
    """Return the state of what decides on the dependencies."""
    files = [LOCK, Path("pyproject.toml")]
    known = stats_of(lambda: files)
    return known | stats_of(lambda: own_files(_libraries(repr(known))))


@functools.lru_cache(1)
def _libraries(_: str) -> list[str]:
    """Return the folders of this repository's libraries; the argument is what they depend on."""
    return shared.folders(LOCK.read_text(encoding="utf-8"))


def stats_of(files: Callable[[], Iterable[Path]]) -> Stats:
    """Return the state of files.

    What cannot be packed, or is being replaced just now, is a state of its own.
    """
    try:
        stats = {str(file): file.stat() for file in files()}
    except (ToolError, OSError, ValueError) as error:
        return {str(error): ()}
    return {name: (one.st_mtime_ns, one.st_size, one.st_ino) for name, one in stats.items()}


def changed(before: Stats, after: Stats) -> list[str]:
    """Return the names in which two states differ."""
    return sorted(name for name in before | after if before.get(name) != after.get(name))


class Dependencies:
    """The package's dependencies, in a folder for each state in which they were needed."""

    def __init__(self, parent: Path) -> None:
        """Begin without any; their folders will be in parent, which need not exist."""
        self.folder = self._parent = parent
        self._known: Stats | None = None
        self._count = 0

    def update(self) -> None:
        """Make folder hold what requirements.txt asks for now, if that has changed.

        Raises ToolError if that fails: then the folder of before stays.
        """
        stats = dependency_stats()
        if stats == self._known:
            return
        self._known = stats
        package = runnable()
        self._count += 1
        made = self._parent / f"dependencies-{self._count}"
        unpack(package, made)
        for source in map(Path, sources()):
            for compiled in made.glob(f"__pycache__/{source.stem}.*"):
                compiled.unlink()
            if (made / source).is_dir():
                remove(made / source)
            else:
                (made / source).unlink(missing_ok=True)
        make_read_only(made)
        self.folder = made
