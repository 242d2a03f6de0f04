"""The events that the producers publish, typed and validated."""

from datetime import datetime
from typing import Annotated, Any

import msgspec


class MessageError(Exception):
    """A message that can't be processed. The text is logged: never put payload into it."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body of a message. Fields that are not named here are ignored.

    ``id`` is the producer's: it stays the same when the event is delivered twice.
    ``data`` is what happened; give it its own type, another ``msgspec.Struct``.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    data: dict[str, Any]


_decode = msgspec.json.Decoder(Event).decode


def decode_event(body: str) -> Event:
    """Read an event from a message's body.

    :raises MessageError: the body is not JSON, or doesn't have the form of ``Event``.
    """
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        # msgspec names the field and the rule; the value, too, if it must be one of several:
        # "Invalid enum value 'x' - at `$.data.kind`".
        text = str(error)
        if text.startswith(("Invalid enum value ", "Invalid value ")):
            text = f"Invalid value - at `${text.rpartition(' - at `$')[2]}"
        raise MessageError(text) from None
