"""What moto would keep until it ends, and AWS doesn't; see patches.py.

`make local` runs for days, and its memory must not grow with the messages that went through.
"""

from collections import deque
from functools import lru_cache
from typing import Any

from moto.core.common_models import BaseModel
from moto.logs import models as logs
from moto.logs.utils import EventMessageFilter
from moto.sns.models import Topic

from tools.local.patches import replaces

PUBLISHED_KEPT = 100  # messages per topic
LINES_KEPT = 5000  # per log group; `make status` and `make logs` read them all


def moto_keeps_no_list_of_all_it_made() -> None:
    """What is deleted is gone. (moto's dashboard has a list of all; S3 closes its files by it.)"""

    def new(cls: Any, *_: Any, **__: Any) -> Any:
        instance = object.__new__(cls)
        if cls.__module__ == "moto.s3.models":
            cls.instances_tracked.append(instance)
        return instance

    BaseModel.__new__ = new  # type: ignore[method-assign]


def sns_forgets_what_it_delivered() -> None:
    """A topic keeps no message that it has passed on."""

    @replaces(Topic, "__init__")
    def init(original: Any, topic: Any, *given: Any, **named: Any) -> None:
        original(topic, *given, **named)
        topic.sent_notifications = deque(maxlen=PUBLISHED_KEPT)


def logs_keep_the_newest_lines() -> None:
    """Old log lines go, as after the retention period, and so do log streams without lines.

    And a filter pattern is read once, not once for each line.
    """
    vars(logs)["EventMessageFilter"] = lru_cache(100)(EventMessageFilter)

    @replaces(logs.LogGroup, "put_log_events")
    def put_log_events(original: Any, group: Any, name: str, events: Any) -> Any:
        token = original(group, name, events)
        too_many = sum(len(stream.events) for stream in group.streams.values()) - LINES_KEPT
        for stream in list(group.streams.values()):
            if too_many <= 0:
                break
            gone = min(too_many, len(stream.events))
            del stream.events[:gone]
            too_many -= gone
            if not stream.events and stream.log_stream_name != name:
                del group.streams[stream.log_stream_name]
        return token


PATCHES = [
    moto_keeps_no_list_of_all_it_made,
    sns_forgets_what_it_delivered,
    logs_keep_the_newest_lines,
]
