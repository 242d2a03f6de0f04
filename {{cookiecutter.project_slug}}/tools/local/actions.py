"""What a request asks of IAM: actions on resources, by the Service Authorization Reference.

https://docs.aws.amazon.com/service-authorization/latest/reference/
Exact for what the code of a service usually calls. Of any other operation the action has its name,
and the resource is not known.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend
from moto.core.utils import get_service_model

from tools.local.policy import Context, Question

# Prefixes of actions that are not the name which requests are signed for.
PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag", "iotdata": "iot"}
# Operations whose action has another name.
ACTIONS = {
    "bedrock:Converse": "bedrock:InvokeModel",
    "bedrock:ConverseStream": "bedrock:InvokeModelWithResponseStream",
    "execute-api:PostToConnection": "execute-api:ManageConnections",
    "kms:ReEncrypt": "kms:ReEncryptFrom",
    "lambda:Invoke": "lambda:InvokeFunction",
    "lambda:InvokeWithResponseStream": "lambda:InvokeFunction",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:SelectObjectContent": "s3:GetObject",
    "s3:UploadPart": "s3:PutObject",
    "sns:PublishBatch": "sns:Publish",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
# By prefix: parameters that name the resource, and what follows the account in its ARN.
RESOURCES = {
    "cloudwatch": {"AlarmName": "alarm:{}", "AlarmNames": "alarm:{}"},
    "dynamodb": {"TableName": "table/{}"},
    "firehose": {"DeliveryStreamName": "deliverystream/{}"},
    "kinesis": {"StreamARN": "{}", "StreamName": "stream/{}"},
    "kms": {"KeyId": "key/{}"},
    "lambda": {"FunctionName": "function:{}"},
    "logs": {"logGroupName": "log-group:{}:log-stream:"},
    "sns": {"TopicArn": "{}", "TargetArn": "{}"},
    "sqs": {"QueueUrl": "{}", "QueueName": "{}"},
    "states": {"stateMachineArn": "{}", "executionArn": "{}"},
    "sts": {"RoleArn": "{}"},
}
# Actions that AWS lets be allowed for "*" only.
NO_RESOURCE = {
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:ListMetrics",
    "cloudwatch:PutMetricData",
    "kms:GenerateRandom",
    "s3:ListAllMyBuckets",
    "secretsmanager:BatchGetSecretValue",
    "secretsmanager:GetRandomPassword",
    "secretsmanager:ListSecrets",
    "sqs:ListQueues",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}
# Actions of S3 that have a twin for a version of an object: s3:GetObjectVersion, for example.
VERSIONED = {"GetObject", "DeleteObject", "GetObjectAcl", "PutObjectAcl"}

Pair = tuple[str, str | None]  # an action, and its resource


@dataclass(frozen=True)
class Call:
    """A request: botocore's name of the service ("logs"), the operation and its parameters."""

    service: str
    operation: str
    parameters: dict[str, Any]
    region: str
    account: str
    partition: str

    @property
    def prefix(self) -> str:
        """Return what the service's actions begin with, "cloudwatch" for example."""
        name = str(get_service_model(self.service).signing_name)
        return PREFIXES.get(name, name)

    def arn(self, resource: str, service: str = "", region: str | None = None) -> str:
        """Return an ARN in this account; of this service and region, if no other is named."""
        region = self.region if region is None else region
        head = f"arn:{self.partition}:{service or self.prefix}:{region}"
        return f"{head}:{self.account}:{resource}"

    def backend(self, service: str) -> Any:
        """Return what moto keeps of a service in this account and region."""
        return get_backend(service)[self.account][self.region]  # type: ignore[call-overload]


def questions_of(call: Call) -> list[Question]:
    """Return what a request asks of IAM; nothing for what everybody may do."""
    name = f"{call.prefix}:{call.operation}"
    if name == "sts:GetCallerIdentity":
        return []
    special = {"s3": s3, "dynamodb": dynamodb, "secretsmanager": secrets, "ssm": parameters}
    if call.prefix in special:
        pairs = list(special[call.prefix](call, ACTIONS.get(name, name)))
    elif name == "events:PutEvents":
        pairs = [(name, event_bus(call, entry)) for entry in call.parameters["Entries"]]
    else:
        pairs = [(ACTIONS.get(name, name), resource) for resource in resources_of(call)]
    context = context_of(call)
    return [
        Question(action, "*" if action in NO_RESOURCE else resource, context)
        for action, resource in dict.fromkeys(pairs)
    ]


def context_of(call: Call) -> Context:
    """Return the condition keys that the parameters give."""
    given = call.parameters
    names: dict[str, str] = {}
    if call.prefix == "cloudwatch":
        names = {"cloudwatch:namespace": "Namespace"}
    elif call.prefix == "s3":
        names = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"}
    return {key: [str(given[name])] if name in given else [] for key, name in names.items()}


def resources_of(call: Call) -> list[str | None]:
    """Return the ARNs of the resources that the parameters name; [None] if none is known."""
    found: list[str | None] = []
    for parameter, pattern in RESOURCES.get(call.prefix, {}).items():
        given = call.parameters.get(parameter)
        for value in given if isinstance(given, list) else [given] if given else []:
            found.append(resource(call, pattern, str(value)))
    return found or [None]


def resource(call: Call, pattern: str, value: str) -> str | None:
    """Return the ARN of a resource that a parameter names, or None."""
    if call.prefix == "sqs":
        value = value.rpartition("/")[2]
    if call.prefix == "kms" and "alias/" in value:
        key = call.backend("kms").get_key_id_from_alias(value[value.index("alias/") :])
        return call.arn(f"key/{key}") if key else None
    if call.prefix == "lambda":
        value = value.rpartition("function:")[2]
        if qualifier := call.parameters.get("Qualifier"):
            value += f":{qualifier}"
    if call.prefix == "logs" and "logStreamName" in call.parameters:
        pattern += call.parameters["logStreamName"]
    return value if value.startswith("arn:") else call.arn(pattern.format(value))


def s3(call: Call, action: str) -> Iterator[Pair]:
    """Return S3's questions, which depend on bucket, key and version."""
    given = call.parameters
    bucket = given.get("Bucket", "")
    arn = bucket if bucket.startswith("arn:") else f"arn:{call.partition}:s3:::{bucket}"
    slash = "/object/" if bucket.startswith("arn:") else "/"
    version = "Version" if given.get("VersionId") else ""
    if source := given.get("CopySource"):
        name, _, version_of_source = str(source).lstrip("/").partition("?versionId=")
        read = "s3:GetObjectVersion" if version_of_source else "s3:GetObject"
        yield read, f"arn:{call.partition}:s3:::{name}"
        action = "s3:PutObject"
    if call.operation == "DeleteObjects":
        for one in given["Delete"]["Objects"]:
            version = "Version" if one.get("VersionId") else ""
            yield f"s3:DeleteObject{version}", f"{arn}{slash}{one['Key']}"
    elif key := given.get("Key"):
        yield action + (version if action[3:] in VERSIONED else ""), f"{arn}{slash}{key}"
        if given.get("Tagging") and action == "s3:PutObject":
            yield "s3:PutObjectTagging", f"{arn}{slash}{key}"
    else:
        yield action, arn if bucket else None


def dynamodb(call: Call, action: str) -> Iterator[Pair]:
    """Return DynamoDB's questions: a request may be about several tables, or an index."""
    given = call.parameters

    def table(name: str, index: str | None = None) -> str:
        arn = name if name.startswith("arn:") else call.arn(f"table/{name}")
        return f"{arn}/index/{index}" if index else arn

    statements = [*given.get("Statements", []), *given.get("TransactStatements", [])]
    statements += [given] if "Statement" in given else []
    if statements:
        for statement in (str(one["Statement"]) for one in statements):
            change = re.match(r"(?i)\s*(INSERT|UPDATE|DELETE)\b", statement)
            kind = change[1].capitalize() if change else "Select"
            named = re.search(
                r"(?i)\b(?:FROM|INTO|UPDATE)\s+\"?([\w.:/-]+)\"?(?:\.\"([\w.-]+)\")?", statement
            )
            yield f"dynamodb:PartiQL{kind}", table(*named.groups()) if named else None
    elif items := given.get("TransactItems"):
        for kind, item in (pair for one in items for pair in one.items()):
            yield f"dynamodb:{kind}Item", table(item["TableName"])
    elif "RequestItems" in given:
        for name in given["RequestItems"]:
            yield action, table(name)
    elif "TableName" in given:
        yield action, table(given["TableName"], given.get("IndexName"))
    else:
        yield action, given.get("StreamArn") or given.get("ResourceArn")


def secrets(call: Call, action: str) -> Iterator[Pair]:
    """Return questions about secrets, whose ARNs end in six random characters."""
    given = call.parameters
    if call.operation == "BatchGetSecretValue":
        yield action, None
        action = "secretsmanager:GetSecretValue"
    names = given.get("SecretIdList") or [given.get("SecretId") or given.get("Name")]
    for name in names:
        kept = call.backend("secretsmanager").secrets.get(name) if name else None
        if kept:
            yield action, kept.arn
        elif name:
            yield action, name if name.startswith("arn:") else call.arn(f"secret:{name}-??????")
        else:
            yield action, None


def parameters(call: Call, action: str) -> Iterator[Pair]:
    """Return questions about parameters of Systems Manager."""
    given = call.parameters
    for name in given.get("Names") or [given.get("Name") or given.get("Path")]:
        if not name or "Parameter" not in call.operation:
            yield action, None
        elif name.startswith("arn:"):
            yield action, name
        else:
            yield action, call.arn(f"parameter/{name.lstrip('/').partition(':')[0]}")


def event_bus(call: Call, entry: dict[str, Any]) -> str:
    """Return the ARN of the event bus that an entry of PutEvents goes to."""
    name = str(entry.get("EventBusName") or "default")
    return name if name.startswith("arn:") else call.arn(f"event-bus/{name}")
