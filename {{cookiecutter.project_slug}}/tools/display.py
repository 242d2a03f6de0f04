"""Text that others wrote, such as messages and log lines, made fit for a terminal."""


def shown(value: object) -> str:
    """Return text on one line; what could act on a terminal, or can't be seen, is escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value))
