"""What every event has, and how the body of a message becomes an event of the right model.

This file is the template's; the models are in events.py.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec


class MessageError(Exception):
    """A message that can't be processed. The text is logged: never put payload into it."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body of a message: what all models have in common.

    ``id`` is the producer's: it stays the same when the event is delivered twice.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]


def find_model(models: Mapping[str, type[Event]], event_type: str) -> type[Event] | None:
    """Return the model of an event type: that of its name, or else of the longest prefix.

    :param models: by event type; a name that ends in ``*`` is a prefix.
    :returns: None if the type fits none of them.
    """
    if event_type in models:
        return models[event_type]
    prefixes = [name[:-1] for name in models if name.endswith("*")]
    fitting = [prefix for prefix in prefixes if event_type.startswith(prefix)]
    return models[f"{max(fitting, key=len)}*"] if fitting else None


def decode_event(models: Mapping[str, type[Event]], event_type: str, body: str) -> Event:
    """Read an event from a message's body.

    :param models: by event type, as in events.py's ``EVENTS``.
    :raises MessageError: there is no model for the type, or the body is not JSON of its form.
    """
    model = find_model(models, event_type)
    if model is None:
        raise MessageError(f"event_type is none of EVENTS, {', '.join(models)}")
    try:
        return msgspec.json.decode(body, type=model)
    except msgspec.MsgspecError as error:
        # msgspec names the field and the rule; the value, too, if it must be one of several:
        # "Invalid enum value 'x' - at `$.data.kind`".
        text = str(error)
        if text.startswith(("Invalid enum value ", "Invalid value ")):
            text = f"Invalid value - at `${text.rpartition(' - at `$')[2]}"
        raise MessageError(text) from None
