"""What moto's SQS lacks, as far as this service's Terraform needs it; patches_*.py have more.

Without these patches Terraform waits until it times out, or plans the same change forever. Each
patch is a function whose docstring says what AWS does. `apply` runs before moto's server starts.
"""

import functools
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from moto.sqs.models import Queue, SQSBackend

Patch = Callable[[], None]


def replaces(owner: type, method: str) -> Callable[[Callable[..., Any]], None]:
    """Decorate the replacement of a method; it gets the original one as its first argument."""
    original = getattr(owner, method)

    def put(replacement: Callable[..., Any]) -> None:
        # No partial: a method must be a function, or it gets no `self`.
        setattr(owner, method, lambda *given, **named: replacement(original, *given, **named))

    return put


def sqs_redrive_allow_policy() -> None:
    """A queue has the attribute RedriveAllowPolicy; setting it to "" removes it."""
    Queue.BASE_ATTRIBUTES.append("RedriveAllowPolicy")

    @replaces(Queue, "_set_attributes")
    def set_attributes(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
        original(queue, attributes, now)
        queue.redrive_allow_policy = getattr(queue, "redrive_allow_policy", None) or None


def sqs_policy_is_kept() -> None:
    """SetQueueAttributes changes the attributes that it names and leaves the policy otherwise."""

    @replaces(Queue, "_set_attributes")
    def set_attributes(original: Any, queue: Any, attributes: Any, now: Any = None) -> None:
        if "Policy" not in attributes:
            attributes = {**attributes, "Policy": queue.policy}
        original(queue, attributes, now)


def sqs_redrive_policy_is_compact() -> None:
    """GetQueueAttributes returns RedrivePolicy as JSON without white space."""

    @replaces(SQSBackend, "get_queue_attributes")
    def get_queue_attributes(original: Any, backend: Any, *arguments: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = original(backend, *arguments)
        if policy := attributes.get("RedrivePolicy"):
            attributes["RedrivePolicy"] = json.dumps(json.loads(policy), separators=(",", ":"))
        return attributes


PATCHES = [sqs_redrive_allow_policy, sqs_policy_is_kept, sqs_redrive_policy_is_compact]


def all_patches() -> list[Patch]:
    """Return SQS's patches and those of each patches_*.py beside this file."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("patches_*.py"))
    modules = [import_module(f"tools.local.{name}") for name in names]
    return [*PATCHES, *(patch for module in modules for patch in module.PATCHES)]


@functools.cache
def apply() -> None:
    """Patch this process's moto, once."""
    for patch in all_patches():
        patch()
