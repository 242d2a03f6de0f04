"""The one kind of error that tools raise on purpose, and what the errors of boto3 mean."""

from __future__ import annotations

# Error codes: AWS services have different ones for the same thing.
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
NOT_ACCEPTED = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMS.AccessDeniedException",
}
GONE = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
}

NOT_AWS = (
    "Something other than AWS answered, such as a proxy or a network's sign-in page: check the "
    "network, VPN and proxy."
)


class ToolError(Exception):
    """What is wrong, and what to do about it: the text is all that is shown."""


def problem_of(error: BaseException) -> str:
    """Say in one line what an error means that must not end anything."""
    if isinstance(error, ToolError):
        return str(error)
    return explain(error) or f"{type(error).__name__}: {getattr(error, 'message', error)}"


def explain(error: BaseException) -> str | None:
    """Say in one sentence what an error of boto3 means, and what to do; None for other errors."""
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
    if isinstance(error, of.HTTPClientError | of.ConnectionError):
        return f"AWS cannot be reached: check the network, VPN and proxy. ({error})"
    if not isinstance(error, of.ClientError):
        return f"The call to AWS failed: {error}"

    code = error.response.get("Error", {}).get("Code", "")
    reason = " ".join(error.response.get("Error", {}).get("Message", "").split()) or code
    if reason.startswith("<"):
        return NOT_AWS
    if code in EXPIRED:
        return "Your AWS sign-in has expired: sign in again."
    if code in NOT_ACCEPTED:
        return f"AWS does not accept these credentials: sign in again. ({reason})"
    if code in DENIED:
        return f"You are not allowed to call {error.operation_name}: {reason}"
    if code in GONE:
        return (
            f"{error.operation_name}: AWS has no such resource, though Terraform's outputs name "
            f"it. It was removed by hand: `make plan` shows what is missing. ({reason})"
        )
    return f"{error.operation_name} failed: {reason} ({code})"
