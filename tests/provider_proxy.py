"""Stands between Terraform and its AWS provider, and leaves out what is not needed of its schemas.

Each of Terraform's commands asks for the schemas of all 2,000 types: the provider writes 5 MB,
which Terraform reads, in 2 seconds of CPU time. Of the few types that the code uses it takes 0.05.
Terraform refuses code that uses another one, as if the provider did not have it.

    python provider_proxy.py <socket of the provider> <socket to make> <type>...
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SCHEMAS = "/tfplugin5.Provider/GetSchema"
# Fields of tfplugin5.proto's GetProviderSchema.Response that map a type's name to its schema:
# resource_schemas, data_source_schemas, ephemeral_resource_schemas.
BY_TYPE = {2, 3, 8}
# Terraform makes ten requests at a time, and may interrupt meanwhile.
THREADS = 32
ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Split a protobuf message into its fields, which all are of the kind that has a length.

    :returns: each one's number, its content, and all of it.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = varint(message, at)
        assert key & 7 == 2, f"field {key >> 3} has no length"
        length, at = varint(message, at)
        at += length
        yield key >> 3, message[at - length : at], message[start:at]


def varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a number; return it, and where the next field is."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def few(message: bytes, types: set[bytes]) -> bytes:
    """Leave out of the schemas those of other types."""
    return b"".join(
        whole
        for number, content, whole in fields(message)
        if number not in BY_TYPE or next(fields(content))[1] in types
    )


class Proxy(grpc.GenericRpcHandler):
    """Hands each request to the provider as it is."""

    def __init__(self, channel: grpc.Channel, types: set[bytes]) -> None:
        self.channel = channel
        self.answer: bytes | None = None
        self.types = types

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method: str = details.method
        if not method.startswith("/tfplugin"):
            return None  # go-plugin's own: unimplemented is an answer that it knows
        call = self.channel.unary_unary(method)

        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            if method == SCHEMAS and self.answer:
                return self.answer
            try:
                answer: bytes = call(request)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if method == SCHEMAS:
                answer = self.answer = few(answer, self.types)
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)


def main(provider: str, socket: str, *types: str) -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=ANY_SIZE)
    channel = grpc.insecure_channel(f"unix:{provider}", options=ANY_SIZE)
    server.add_generic_rpc_handlers((Proxy(channel, {name.encode() for name in types}),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
