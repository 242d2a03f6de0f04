"""What moto would keep until it ends, and AWS doesn't; see patches.py.

`make local` runs for days, and its memory must not grow with the messages that went through.
"""

from collections import deque
from typing import Any

from moto.core.common_models import BaseModel
from moto.logs.models import LogGroup
from moto.sns.models import Topic

from tools.local.patches import replaces

PUBLISHED_KEPT = 100  # messages per topic
LINES_KEPT = 5000  # per log group; `make status` and `make logs` read them all


@replaces(BaseModel, "__new__")
def moto_keeps_no_list_of_all_it_made(_original: Any, cls: Any, *_: Any, **__: Any) -> Any:
    """What is deleted is gone. (moto's dashboard has a list of all; S3 closes its files by it.)"""
    instance = object.__new__(cls)
    if cls.__module__ == "moto.s3.models":
        cls.instances_tracked.append(instance)
    return instance


@replaces(Topic, "__init__")
def sns_forgets_what_it_delivered(original: Any, topic: Any, *given: Any, **named: Any) -> None:
    """A topic keeps no message that it has passed on."""
    original(topic, *given, **named)
    topic.sent_notifications = deque(maxlen=PUBLISHED_KEPT)


@replaces(LogGroup, "put_log_events")
def logs_keep_the_newest_lines(original: Any, group: Any, name: str, events: Any) -> Any:
    """Old log lines go, as after the retention period, and so do log streams without lines."""
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
