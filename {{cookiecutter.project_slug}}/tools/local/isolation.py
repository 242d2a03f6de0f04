"""Local runs and tests know nothing of the user's AWS."""

import os


def isolated() -> dict[str, str]:
    """Return this process's environment without the user's AWS.

    That is without profile, credentials, region, endpoints and certificates, and with no file and
    no metadata service that could name others.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **others,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def isolate(**variables: str) -> None:
    """Make that this process's environment, with these variables."""
    remaining = isolated()
    os.environ.clear()
    os.environ.update(remaining, **variables)
