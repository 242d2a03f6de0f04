"""IAM in front of moto, which asks for no permission: a request is refused as AWS refuses it.

    with local_aws("us-east-1") as aws:
        environment = aws.grant(role_arn)  # keys of a role that was created there

Requests with a role's keys may do what the role's policies in moto allow at that moment, within its
permissions boundary. All other keys may do everything. Not evaluated: policies of resources (of a
queue, a bucket, a key), trust policies, and what AWS asks for besides the request's own action.

record gets each Decision. What no request tells, such as the tags of a resource, is in context:

    aws.permissions.context["aws:ResourceTag/team"] = ["orders"]
"""

import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from moto.backends import get_backend
from moto.core.model import ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import service_name_from_moto_package_name
from werkzeug.wrappers import Response

from tools.local.actions import Call, questions_of
from tools.local.policy import Context, Document, EvaluationError, Question, refusal

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]
NAMES = {"awslambda": "lambda"}  # where moto's package has another name than botocore's service
# The key and the region, in a header or in a presigned URL.
CREDENTIAL = re.compile(r"(?:Credential|AWSAccessKeyId)=([^/,&]+)(?:/\d+/([^/]+)/)?")


@dataclass(frozen=True)
class Decision:
    """A question that was asked for a role, by its name, and why it was refused; "" if not.

    code is the error's, where it is not the usual one.
    """

    role: str
    question: Question
    refusal: str
    code: str = ""

    def __str__(self) -> str:
        """Say what the role may not do, and why."""
        what, where = self.question.action, self.question.resource or "*"
        return f"is not authorized to perform: {what} on resource: {where} {self.refusal}"


@dataclass
class Permissions:
    """Which keys belong to which role's ARN, and what was asked and refused; see the module."""

    record: MutableSequence[Decision] = field(default_factory=list)
    context: Context = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    def wrap(self, moto: Any) -> Wsgi:
        """Return an application that passes on to moto's what is allowed."""

        def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            signed = credential(environ)
            role = self.roles.get(signed[1]) if signed else None
            answer: Wsgi = moto
            if signed and role:
                service = service_of(moto, environ)
                body = Request(environ).get_data()
                environ["wsgi.input"] = io.BytesIO(body)
                if environ.get("HTTP_CONTENT_ENCODING") == "gzip" and service != "s3":
                    body = gzip.decompress(body)
                whole = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
                request = Request(environ | whole)
                answer = self.answer(role, service, signed[2] or "", request) or moto
            return answer(environ, start_response)

        return guarded

    def answer(self, role: str, service: str, region: str, request: Request) -> Response | None:
        """Return the refusal of a request; None if it is allowed."""
        operation, values = get_service_router(service).match(request)
        model = operation.service_model
        protocol = determine_request_protocol(model, request.content_type)
        given: Any = {name: getattr(request, name) for name in ("method", "values", "headers")}
        given |= {"body": request.data, "url_path": request.path, "url_params": values}
        parameters = PROTOCOL_PARSERS[protocol](operation).parse(given)
        account, partition = role.split(":")[4], role.split(":")[1]
        call = Call(service, operation.name, parameters, region, account, partition)
        for question in questions_of(call):
            decision = self.decide(role, question, call)
            self.record.append(decision)
            if decision.refusal:
                user = call.arn(f"assumed-role/{decision.role}/{decision.role}", "sts", region="")
                return response(model, protocol, decision.code, f"User: {user} {decision}")
        return None

    def decide(self, role: str, question: Question, call: Call) -> Decision:
        """Answer a question by the policies that the role has now."""
        name = role.rpartition("/")[2]
        iam = get_backend("iam")[call.account][call.partition]
        kept = iam.get_role_by_arn(role)
        context = {**principal_of(kept, call), **question.context, **self.context}
        complete = replace(question, context=context)
        try:
            return Decision(name, complete, refusal(complete, *policies_of(kept, iam)))
        except EvaluationError as error:
            why = f"because a policy has {error}, which the local AWS cannot evaluate"
            return Decision(name, complete, why, "CannotEvaluate")

    def advice(self) -> str:
        """Say what was refused first, and what to do about it; "" if nothing was refused."""
        for decision in (one for one in self.record if one.refusal):
            do = "If the code needs it, add it to added_permissions in terraform/service.tf."
            if decision.code:
                do = "Set the key in tests/world.py: aws.permissions.context[key] = [value]."
            return f"The role {decision.role} {decision}. {do}"
        return ""


def credential(environ: dict[str, Any]) -> re.Match[str] | None:
    """Return the key and the region that a request is signed with, if it is."""
    said = environ.get("HTTP_AUTHORIZATION", "") + unquote(environ.get("QUERY_STRING", ""))
    return CREDENTIAL.search(said)


def service_of(moto: Any, environ: dict[str, Any]) -> str:
    """Return botocore's name of the service that a request is for."""
    package = moto.get_application(environ).service
    return NAMES.get(package) or service_name_from_moto_package_name(package)


def policies_of(role: Any, iam: Any) -> tuple[list[Document], list[Document] | None]:
    """Return the policies of moto's role, inline and attached, and its boundary, if it has one."""
    attached = [managed(policy) for policy in role.managed_policies.values()]
    inline = [json.loads(document) for document in role.policies.values()]
    boundary = role.permissions_boundary_arn
    return inline + attached, [managed(iam.get_policy(boundary))] if boundary else None


def managed(policy: Any) -> Document:
    """Return the document of a managed policy's default version."""
    versions = {version.version_id: version.document for version in policy.versions}
    document: Document = json.loads(versions[policy.default_version_id])
    return document


def principal_of(role: Any, call: Call) -> Context:
    """Return the condition keys that each request of a role has."""
    return {
        "aws:CalledVia": [],
        "aws:PrincipalAccount": [call.account],
        "aws:PrincipalArn": [role.arn],
        "aws:PrincipalTag/": [],
        "aws:PrincipalType": ["AssumedRole"],
        "aws:RequestedRegion": [call.region],
        "aws:ResourceAccount": [call.account],
        "aws:SecureTransport": ["true"],
        "aws:ViaAWSService": ["false"],
        "kms:ViaService": [],
        **{f"aws:PrincipalTag/{one['Key']}": [one["Value"]] for one in role.tags},
    }


def response(model: ServiceModel, protocol: str, code: str, message: str) -> Response:
    """Return an error in a service's protocol; without a code, with the service's own for it."""
    compatible = "awsQueryCompatible" in model.metadata
    usual = "AccessDenied" if compatible or "json" not in protocol else "AccessDeniedException"
    own = {"ec2": "UnauthorizedOperation", "sns": "AuthorizationError"}
    code = code or own.get(model.service_name, usual)
    if "json" in protocol:
        headers = {"x-amzn-errortype": code, "x-amzn-query-error": f"{code};Sender"}
        body = json.dumps({"__type": code, "message": message})
        return Response(body, 400 if protocol == "json" else 403, headers, "application/json")
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    if protocol == "ec2":
        body = f"<Response><Errors>{body}</Errors><RequestID>local</RequestID></Response>"
    elif model.service_name != "s3":
        body = f"<ErrorResponse>{body}<RequestId>local</RequestId></ErrorResponse>"
    return Response(body, 403, mimetype="text/xml")
