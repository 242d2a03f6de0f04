"""Stands between Terraform and its AWS provider: few processes of it serve many commands, quickly.

Each of Terraform's commands would start the provider, some more than once, and ask for the schemas
of all 2,000 types: 2.5 to 3 seconds of CPU time, which becomes 0.05 when

- a process is there for the next command, if that has the same folder and the same AWS, and
- the schemas are left out of what the code does not use. Terraform refuses code that uses another
  type, as if the provider did not have it.

    python provider_proxy.py <program of the provider> <socket to make> <type>...
"""

import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

try:
    import grpc
except ImportError:
    sys.exit("There is no grpcio here, so each of Terraform's commands starts its own provider.")

SERVICE = "/tfplugin5.Provider/"
SCHEMAS = f"{SERVICE}GetSchema"
# Fields of tfplugin5.proto's GetProviderSchema.Response that map a type's name to its schema:
# resource_schemas, data_source_schemas, ephemeral_resource_schemas.
BY_TYPE = {2, 3, 8}
# What neither the environment nor the folder of the AWS provider decides on.
ANYWHERE = {
    SCHEMAS,
    *(f"{SERVICE}{name}" for name in ("PrepareProviderConfig", "ValidateResourceTypeConfig")),
    *(f"{SERVICE}{name}" for name in ("ValidateDataSourceConfig", "UpgradeResourceState")),
}
STOP = f"{SERVICE}Stop"
# Terraform makes ten requests at a time, and may interrupt meanwhile.
THREADS = 32
ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# Processes of the provider. Each takes half a gigabyte.
MOST = 2

# A command's folder, and its environment.
Place = tuple[Path, dict[str, str]]


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


class Provider:
    """A process of the provider."""

    def __init__(self, program: str, place: Place) -> None:
        folder, environment = place
        log = Path(tempfile.mkstemp()[1])
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [program, "-debug"],
                cwd=folder,
                env={**environment, "TMPDIR": tempfile.gettempdir()},
                stdout=output,
                stderr=output,
            )
        while not (found := re.search("TF_REATTACH_PROVIDERS='(.*)'\n", log.read_text())):
            if self.process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        log.unlink()
        (settings,) = json.loads(found[1]).values()
        self.socket = settings["Addr"]["String"]
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=ANY_SIZE)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        Path(self.socket).unlink(missing_ok=True)


class Pool:
    """The processes of the provider that are there, the newest last."""

    def __init__(self, program: str, types: set[bytes]) -> None:
        self.program = program
        self.types = types
        self.lock = threading.Lock()
        self.there: dict[str, Provider] = {}
        self.schemas = b""

    def call(self, method: str, request: bytes, place: Place) -> bytes:
        """Hand a request to a process that fits."""
        if method == SCHEMAS and self.schemas:
            return self.schemas
        folder, environment = place
        aws = sorted(item for item in environment.items() if item[0].startswith(("AWS_", "HOME")))
        key = repr((folder, aws))
        with self.lock:
            if method in ANYWHERE and self.there:
                key = next(iter(reversed(self.there)))
            if key not in self.there:
                while len(self.there) >= MOST:
                    self.there.pop(next(iter(self.there))).end()
                self.there[key] = Provider(self.program, place)
            provider = self.there[key]
            if method == STOP:  # it does no more after that
                del self.there[key]
        answer: bytes = provider.channel.unary_unary(method)(request)
        if method == SCHEMAS:
            answer = self.schemas = few(answer, self.types)
        return answer


class Connection(grpc.GenericRpcHandler):
    """A connection of Terraform's."""

    def __init__(self, pool: Pool, place: Place) -> None:
        self.pool = pool
        self.place = place

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method: str = details.method
        if not method.startswith(SERVICE):
            return None  # go-plugin's own: unimplemented is an answer that it knows

        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return self.pool.call(method, request, self.place)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(forward)


def place_of(connection: socket.socket) -> Place:
    """Return where the process at the other end works; where that can't be known, this one."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process = Path("/proc", str(struct.unpack("3i", found)[0]))
        variables = (process / "environ").read_text(encoding="utf-8").split("\0")
        environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
        return (process / "cwd").readlink(), environment
    except (AttributeError, OSError):
        return Path.cwd(), dict(os.environ)


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes from one end to the other until either is closed; then close both."""
    with suppress(OSError):
        while some := source.recv(1 << 20):
            target.sendall(some)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(connection: socket.socket, pool: Pool, path: str) -> None:
    """Serve a connection of Terraform's by a server of its own, which knows whose it is."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=ANY_SIZE)
    server.add_generic_rpc_handlers((Connection(pool, place_of(connection)),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    with connection, socket.socket(socket.AF_UNIX) as inner:
        inner.connect(path)
        thread = threading.Thread(target=copy, args=(inner, connection))
        thread.start()
        copy(connection, inner)
        thread.join()
    server.stop(None)


def accept(listener: socket.socket, pool: Pool, path: str) -> None:
    for number in itertools.count():
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, pool, f"{path}{number}")).start()


def main(program: str, path: str, *types: str) -> None:
    """Serve until nobody holds the other end of stdin."""
    pool = Pool(program, {name.encode() for name in types})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=accept, args=(listener, pool, path)).start()
    address = {"Network": "unix", "String": path}
    one = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True}
    print(json.dumps({"registry.terraform.io/hashicorp/aws": {**one, "Addr": address}}), flush=True)
    try:
        sys.stdin.read()
    finally:
        for provider in pool.there.values():
            provider.end()
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
