"""A local AWS: moto's server in this process, on a free port of 127.0.0.1.

    with local_aws("us-east-1") as aws:
        aws.client("sns").create_topic(Name="events-dev")
        subprocess.run(["terraform", "apply"])

While it runs, this process and those that it starts know no other AWS: the environment names this
one as the endpoint of every service, and has made-up keys and no profile or file of the user's.
"""

import contextlib
import functools
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import boto3
from moto.backends import get_backend
from moto.moto_api._internal.models import moto_api_backend

from tools.errors import ToolError
from tools.local import cbor, gate, patches
from tools.local.isolation import ADDRESS, isolated, pointed_at
from tools.local.permissions import Permissions, Wsgi


@dataclass(frozen=True)
class LocalAws:
    """A running local AWS: the URL of all its services, its region, and who may do what."""

    url: str
    region: str
    permissions: Permissions = field(default_factory=Permissions)
    lock: Any = field(default_factory=threading.Lock)  # a session makes one client at a time

    @functools.cached_property
    def session(self) -> Any:
        """Return a session of its own: the default one may know another AWS from before."""
        return boto3.session.Session()

    def client(self, service: str, keys: Mapping[str, str] | None = None) -> Any:
        """Return a boto3 client for a service of this local AWS, "sqs" for example.

        keys are those of `grant`; without them it may do everything.
        """
        given = {name.lower(): key for name, key in (keys or {}).items()}
        with self.lock:
            return self.session.client(service, **given)

    def grant(self, role_arn: str) -> dict[str, str]:
        """Return keys of a role, as environment variables: with them, its policies count."""
        name = role_arn.rpartition("/")[2]
        made = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=name)
        keys = made["Credentials"]
        self.permissions.roles[keys["AccessKeyId"]] = role_arn
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }

    def depth(self, queue_url: str) -> int:
        """Return how many messages a queue holds, including those in flight."""
        account, name = queue_url.split("/")[-2:]
        # SQS's counts are two: what becomes visible between them is in neither.
        return len(get_backend("sqs")[account][self.region].queues[name]._messages)


@contextlib.contextmanager
def local_aws(
    region: str,
    *,
    for_terraform: bool = True,
    key: str | None = None,
    port: int = 0,
    page: Wsgi | None = None,
) -> Iterator[LocalAws]:
    """Run a local AWS, empty at first; afterwards all that was in it is gone.

    for_terraform: with what only Terraform needs, which takes longer to start.
    key: the access key ID, secret as a password: no other is answered, but for keys that this AWS
    gave out itself. Not given: every request is answered.
    port: 0 for a free one.
    page: what answers requests that are not signed, where there is a key; it must check them.
    Raises ToolError if the port can't be had.
    """
    if for_terraform:
        patches.apply()
    moto_api_backend.reset()
    with listen(port) as listening:  # the server has a copy
        host = f"{ADDRESS}:{listening.getsockname()[1]}"
        aws = LocalAws(f"http://{host}", region)
        server = serve(listening, application(aws.permissions, host, key, page))
    try:
        variables = isolated() | pointed_at(aws.url, region, key or "local")
        with mock.patch.dict(os.environ, variables, clear=True):
            yield aws
    finally:
        server.shutdown()
        moto_api_backend.reset()


def application(permissions: Permissions, host: str, key: str | None, page: Wsgi | None) -> Wsgi:
    """Return what answers: moto, behind what else there is of AWS."""
    # Only here, as below: unit tests do without a server.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    moto = DomainDispatcherApplication(create_backend_app)
    app = cbor.wrap(permissions.wrap(moto))
    return gate.wrap(app, moto, host, key, page) if key else app


def serve(listening: socket.socket, app: Wsgi) -> Any:
    """Start a server in a thread; moto's own way to start it takes half a second to end."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    # An error of moto's own is worth reading, a line per request is not.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    handler, number = MotoRequestHandler, listening.fileno()
    server = make_server(ADDRESS, 0, app, threaded=True, request_handler=handler, fd=number)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a port, 0 for a free one. Raises ToolError."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((ADDRESS, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise ToolError(
            f"Port {port} of {ADDRESS} can't be used ({error.strerror}): choose another one."
        ) from None
    return made
