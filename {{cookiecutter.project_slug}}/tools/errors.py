"""The one kind of error that tools raise on purpose, and what the errors of boto3 mean."""

from __future__ import annotations

import re

# What AWS's error codes mean, by a pattern: its services have different ones for the same thing.
MEANINGS = {
    "ExpiredToken|RequestExpired|TokenRefresh": "Your AWS sign-in has expired: sign in again.",
    "AuthFailure|InvalidClientTokenId|Signature|UnrecognizedClient": (
        "AWS does not accept these credentials: sign in again. ({reason})"
    ),
    "AccessDenied|AuthorizationError": "You are not allowed to call {operation}: {reason}",
    "NonExistentQueue|QueueDoesNotExist|^NotFound|^ResourceNotFound": (
        "{operation}: AWS has no such resource, though Terraform's outputs name it. It was removed "
        "by hand: `make plan` shows what is missing. ({reason})"
    ),
}
NOT_AWS = (
    "Something other than AWS answered, such as a proxy or a network's sign-in page: check the "
    "network, VPN and proxy."
)


class ToolError(Exception):
    """What is wrong, and what to do about it: the text is all that is shown."""


def problem_of(error: BaseException) -> str:
    """Say in one line what an error means that must not end anything."""
    return explain(error) or f"{type(error).__name__}: {getattr(error, 'message', error)}"


def explain(error: BaseException) -> str | None:
    """Say in one sentence what an error means, and what to do; None if that is not known."""
    if isinstance(error, ToolError):
        return str(error)
    try:
        from botocore import exceptions as of
        from botocore.parsers import ResponseParserError
    except ImportError:  # before `make install`
        return None

    if isinstance(error, ResponseParserError):
        return NOT_AWS
    if not isinstance(error, of.BotoCoreError | of.ClientError):
        return None
    if isinstance(error, of.NoCredentialsError | of.PartialCredentialsError):
        return "There are no AWS credentials: sign in with your company's tool, or set AWS_PROFILE."
    if isinstance(error, of.ProfileNotFound):
        return f"{error}: AWS_PROFILE must name a profile in ~/.aws/config."
    if isinstance(error, of.SSOError | of.TokenRetrievalError | of.CredentialRetrievalError):
        return f"Your AWS sign-in is missing or has expired: sign in again. ({error})"
    if isinstance(error, of.MissingDependencyException):
        return (
            "The profile is one of `aws login`, which only the AWS CLI can read here: run "
            'eval "$(aws configure export-credentials --format env)".'
        )
    if isinstance(error, of.HTTPClientError | of.ConnectionError):
        return f"AWS cannot be reached: check the network, VPN and proxy. ({error})"
    if not isinstance(error, of.ClientError):
        return f"The call to AWS failed: {error}"

    code = error.response.get("Error", {}).get("Code", "")
    reason = " ".join(error.response.get("Error", {}).get("Message", "").split()) or code
    if reason.startswith("<"):
        return NOT_AWS
    for codes, meaning in MEANINGS.items():
        if re.search(codes, code):
            return meaning.format(operation=error.operation_name, reason=reason)
    return f"{error.operation_name} failed: {reason} ({code})"
