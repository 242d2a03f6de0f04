"""Patches of moto: what it lacks of AWS, as far as this service needs it. patches_*.py have them.

Without some of them Terraform waits until it times out, or plans the same change forever. The
docstring of a patch says what AWS does. `apply` runs before moto's server starts.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Function = Callable[..., Any]
PATCHES: list[tuple[type, str, Function]] = []


def replaces(owner: type, name: str) -> Callable[[Function], Function]:
    """Decorate what replaces or adds a method, or replaces a property.

    Its first argument is the original; None if there is none.
    """

    def register(replacement: Function) -> Function:
        PATCHES.append((owner, name, replacement))
        return replacement

    return register


@functools.cache
def apply() -> None:
    """Patch this process's moto, once. What is replaced twice is so in the order of the files."""
    for path in Path(__file__).parent.glob("patches_*.py"):
        import_module(f"tools.local.{path.stem}")
    for owner, name, replacement in sorted(PATCHES, key=lambda patch: patch[2].__module__):
        original = getattr(owner, name, None)
        if isinstance(original, property):
            setattr(owner, name, property(_bound(replacement, original.fget)))
        else:
            setattr(owner, name, _bound(replacement, original))


def _bound(replacement: Function, original: Any) -> Function:
    # No partial: a method must be a function, or it gets no `self`.
    return lambda *given, **named: replacement(original, *given, **named)
