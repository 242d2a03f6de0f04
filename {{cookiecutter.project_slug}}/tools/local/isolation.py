"""Local runs and tests know nothing of the user's AWS."""

from __future__ import annotations

import os

ADDRESS = "127.0.0.1"  # with a name in its place, S3 clients put the bucket in front of it


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


def pointed_at(url: str, region: str, key: str) -> dict[str, str]:
    """Return the variables that name a local AWS, by its URL, region and access key ID."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "local",
        "NO_PROXY": ADDRESS,
        "no_proxy": ADDRESS,
    }
