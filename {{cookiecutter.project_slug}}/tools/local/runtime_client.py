"""The compiled half of awslambdaric in plain Python, for systems where it isn't compiled (macOS).

``lambda_runtime.py`` puts it on the function's path as ``runtime_client`` where the compiled one is
missing. The functions are the same, and so is what they talk to:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import http.client
import os

PREFIX = "/2018-06-01/runtime/invocation"
DEADLINE = "Lambda-Runtime-Deadline-Ms"
_headers: dict[str, str] = {}


def initialize_client(user_agent: str) -> None:
    """Remember what to send as User-Agent."""
    _headers["User-Agent"] = user_agent


def next() -> tuple[bytes, dict[str, str | int]]:
    """Wait for an event; return its body and its headers, the deadline as a number."""
    body, headers = _call("GET", f"{PREFIX}/next", None, {})
    deadline = {DEADLINE: int(headers[DEADLINE])}
    return body, {**headers, **deadline}


def post_invocation_result(
    invoke_id: str, data: bytes, content_type: str, invocation_id: str | None = None
) -> None:
    """Report what the handler returned."""
    headers = {"Content-Type": content_type}
    if invocation_id:
        headers["Lambda-Runtime-Invocation-Id"] = invocation_id
    _call("POST", f"{PREFIX}/{invoke_id}/response", data, headers)


def post_error(
    invoke_id: str, error: str, xray_fault: str, invocation_id: str | None = None
) -> None:
    """Report what the handler raised; the X-Ray text has no use here."""
    headers = {"Content-Type": "application/json"}
    if invocation_id:
        headers["Lambda-Runtime-Invocation-Id"] = invocation_id
    _call("POST", f"{PREFIX}/{invoke_id}/error", error.encode(), headers)


def _call(
    method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        connection.request(method, path, body, {**_headers, **headers})
        response = connection.getresponse()
        data = response.read()
        if response.status not in (200, 202):
            raise RuntimeError(f"{method} {path}: the Runtime API answered {response.status}")
        return data, dict(response.getheaders())
    finally:
        connection.close()
