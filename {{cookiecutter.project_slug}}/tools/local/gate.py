"""Who may use a local AWS that stays up: only those who know its key, so no website in a browser.

https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html has the error that AWS gives.
"""

import hmac
from collections.abc import Iterable
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.request import determine_request_protocol
from moto.core.utils import get_service_model
from moto.sts.models import sts_backends
from werkzeug.wrappers import Response

from tools.local.permissions import Wsgi, credential, response, service_of

REFUSAL = (
    "This is the local AWS of `make local`, which accepts only its own keys: run make with "
    "ENV=local. To use real AWS, unset AWS_ENDPOINT_URL."
)


def wrap(app: Wsgi, moto: Any, host: str, key: str, page: Wsgi | None) -> Wsgi:
    """Return an application that passes on what is signed with the key, or a session's of a role.

    Under any other name than the host's address nothing is answered: a website can have its own
    name lead here (DNS rebinding).

    :param moto: moto's application, which knows what service a request is for.
    :param page: what gets the requests that are not signed; it must check them itself.
    """

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        signed = credential(environ)
        answer: Wsgi | None = None
        if environ.get("HTTP_HOST") == host:
            answer = page if signed is None else app if accepted(signed[1], key) else None
        if answer is None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            answer = refusal(moto, environ)
        return answer(environ, start_response)

    return guarded


def accepted(given: str, key: str) -> bool:
    """Tell whether an access key ID is the key, or that of a role's session."""
    backends = sts_backends[DEFAULT_ACCOUNT_ID].values()
    sessions = [role.access_key_id for backend in backends for role in backend.assumed_roles]
    found = [hmac.compare_digest(given.encode(), known.encode()) for known in (key, *sessions)]
    return any(found)


def refusal(moto: Any, environ: dict[str, Any]) -> Response:
    """Return AWS's error for a wrong key, as far as can be told in the protocol of the request."""
    try:
        model = get_service_model(service_of(moto, environ))
        protocol = determine_request_protocol(model, environ.get("CONTENT_TYPE"))
        made = response(model, protocol, "InvalidClientTokenId", REFUSAL)
    except Exception:  # whatever a request that is none of AWS's looks like
        made = Response(REFUSAL, mimetype="text/plain")
    made.status_code = 403
    return made
