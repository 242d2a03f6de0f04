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
from werkzeug.wrappers import Request, Response

from tools.local.permissions import Wsgi

SERVICE = "GraniteServiceVersion20100801"
PATH = re.compile(rf"/service/{SERVICE}/operation/(\w+)")
ERROR = (
    DenormalizedStructureBuilder()
    .with_members({"__type": {"type": "string"}, "message": {"type": "string"}})
    .build_model()
)


def wrap(app: Wsgi) -> Wsgi:
    """Return a WSGI application that also answers requests in CBOR."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = PATH.fullmatch(environ.get("PATH_INFO", ""))
        if asked is None:
            return app(environ, start_response)
        parser, given = RpcV2CBORParser(), Request(environ).get_data()
        stream = parser.get_peekable_stream_from_bytes(given)
        values = parser.parse_data_item(stream) if given else {}
        body = json.dumps(values, default=lambda time: time.timestamp()).encode()
        as_json = {
            **environ,
            "PATH_INFO": "/",
            "CONTENT_TYPE": "application/x-amz-json-1.0",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_AMZ_TARGET": f"{SERVICE}.{asked[1]}",
            "wsgi.input": io.BytesIO(body),
        }
        found = Response.from_app(app, as_json)
        failed = found.status_code >= 300
        encoded = encode(asked[1], json.loads(found.get_data() or b"{}"), failed=failed)
        headers = {"Smithy-Protocol": "rpc-v2-cbor"}
        made = Response(encoded, found.status, headers, content_type="application/cbor")
        return made(environ, start_response)

    return answer


def encode(operation: str, answer: dict[str, Any], failed: bool) -> bytes:
    """Return an answer of CloudWatch's, or its error, as CBOR."""
    shape = get_service_model("cloudwatch").operation_model(operation).output_shape
    if failed:
        text = answer.get("message") or answer.get("Message") or ""
        shape, answer = ERROR, {"__type": answer.get("__type", "InternalFailure"), "message": text}
    if shape is None:
        return b"\xa0"  # an empty map
    serialized = bytearray()
    RpcV2CBORSerializer()._serialize_data_item(serialized, answer, shape)
    return bytes(serialized)
