"""CloudWatch's newest protocol in front of moto, which knows the earlier ones.

Version 6 of Terraform's provider speaks Smithy's RPC v2 with CBOR to CloudWatch, and to nothing
else. Here a request becomes JSON, and moto's answer CBOR; botocore has the codec.
https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

import io
import json
import re
from collections.abc import Iterable
from typing import Any

from botocore.model import DenormalizedStructureBuilder
from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer
from moto.core.utils import get_service_model

PATH = re.compile(r"/service/(GraniteServiceVersion20100801)/operation/(\w+)")
ERROR = (
    DenormalizedStructureBuilder()
    .with_members({"__type": {"type": "string"}, "message": {"type": "string"}})
    .build_model()
)


def wrap(app: Any) -> Any:
    """Return a WSGI application that also answers requests in CBOR."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = PATH.fullmatch(environ.get("PATH_INFO", ""))
        if asked is None:
            found: Iterable[bytes] = app(environ, start_response)
            return found
        service, operation = asked.groups()
        given = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = json.dumps(decode(given), default=lambda time: time.timestamp()).encode()
        as_json = {
            **environ,
            "PATH_INFO": "/",
            "CONTENT_TYPE": "application/x-amz-json-1.0",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_AMZ_TARGET": f"{service}.{operation}",
            "wsgi.input": io.BytesIO(body),
        }
        statuses: list[str] = []
        said = b"".join(app(as_json, lambda status, *_: statuses.append(status)))
        encoded = encode(operation, json.loads(said or b"{}"), failed=statuses[0] >= "300")
        headers = [("Content-Type", "application/cbor"), ("Smithy-Protocol", "rpc-v2-cbor")]
        start_response(statuses[0], [*headers, ("Content-Length", str(len(encoded)))])
        return [encoded]

    return answer


def decode(body: bytes) -> Any:
    """Return what CBOR says."""
    parser = RpcV2CBORParser()
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(body)) if body else {}


def encode(operation: str, answer: dict[str, Any], failed: bool) -> bytes:
    """Return an answer of CloudWatch's, or its error, as CBOR."""
    shape = get_service_model("cloudwatch").operation_model(operation).output_shape
    if failed:
        text = answer.get("message") or answer.get("Message") or ""
        shape, answer = ERROR, {"__type": answer.get("__type", "InternalFailure"), "message": text}
    serialized = bytearray()
    if shape is None:
        return b"\xa0"  # an empty map
    RpcV2CBORSerializer()._serialize_data_item(serialized, answer, shape)
    return bytes(serialized)
