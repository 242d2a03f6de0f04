"""The local AWS refuses what a role may not do, as IAM does: policies, actions, and the answers."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import botocore.session
import pytest
from botocore.exceptions import ClientError
from tools.local import actions
from tools.local.actions import Call
from tools.local.policy import EvaluationError, Question, refusal
from tools.local.server import LocalAws, local_aws

Json = dict[str, Any]

TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/orders"
PUT = "dynamodb:PutItem"
NOT_ALLOWED = f"because no identity-based policy allows the {PUT} action"


def policy(*statements: Json) -> list[Json]:
    return [{"Version": "2012-10-17", "Statement": list(statements)}]


def allow(action: object = PUT, resource: object = TABLE, **more: object) -> Json:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object = PUT, resource: object = TABLE, **more: object) -> Json:
    return {**allow(action, resource, **more), "Effect": "Deny"}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        (allow(), True),
        (allow("dynamodb:putitem"), True),
        (allow("dynamodb:*"), True),
        (allow("dynamodb:Put????"), True),
        (allow(["s3:GetObject", "*"]), True),
        (allow("dynamodb:GetItem"), False),
        (allow("dynamodb:Put"), False),
        (allow(resource=["arn:aws:s3:::x", TABLE]), True),
        (allow(resource=f"{TABLE}*"), True),
        (allow(resource="arn:aws:dynamodb:*:*:table/order?"), True),
        (allow(resource=f"{TABLE}/index/*"), False),
        (allow(resource=TABLE.upper()), False),
        (
            allow(resource="arn:aws:dynamodb:us-east-1:123456789012:table/${aws:PrincipalTag/t}"),
            True,
        ),
        (allow(resource="arn:aws:dynamodb:*:*:table/${aws:PrincipalTag/none}"), False),
        (allow(resource="arn:aws:dynamodb:*:*:table/${aws:PrincipalTag/none, 'orders'}"), True),
        (allow(resource="arn:aws:dynamodb:*:*:table/${*}"), False),
        (allow(resource="arn:aws:dynamodb:*:*:table/${aws:PrincipalTag/star}"), False),
        ({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}, True),
        ({"Effect": "Allow", "NotAction": "dynamodb:*", "Resource": "*"}, False),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::*"}, True),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:dynamodb:*"}, False),
    ],
    ids=str,
)
def test_a_statement_is_about_actions_and_resources(statement: Json, allowed: bool) -> None:
    tags = {"aws:PrincipalTag/t": ["orders"], "aws:PrincipalTag/star": ["*"]}
    question = Question(PUT, TABLE, {**tags, "aws:PrincipalTag/": []})
    assert refusal(question, policy(statement)) == ("" if allowed else NOT_ALLOWED)


CONTEXT = {
    "aws:PrincipalTag/team": ["Orders"],
    "aws:PrincipalTag/": [],
    "aws:RequestedRegion": ["us-east-1"],
    "aws:SourceArn": ["arn:aws:sns:us-east-1:123456789012:events"],
    "aws:TagKeys": ["Owner", "Team"],
    "aws:SecureTransport": ["true"],
    "aws:Absent": [],
    "s3:max-keys": ["10"],
}


@pytest.mark.parametrize(
    ("operator", "key", "expected", "met"),
    [
        ("StringEquals", "aws:RequestedRegion", "us-east-1", True),
        ("StringEquals", "AWS:requestedregion", ["eu-west-1", "us-east-1"], True),
        ("StringEquals", "aws:RequestedRegion", "us-east-*", False),
        ("StringEquals", "aws:PrincipalTag/team", "${aws:PrincipalTag/team}", True),
        ("StringEquals", "aws:PrincipalTag/team", "orders", False),
        ("StringEquals", "aws:PrincipalTag/other", "x", False),
        ("StringEquals", "aws:Absent", "x", False),
        ("StringEqualsIfExists", "aws:Absent", "x", True),
        ("StringEqualsIfExists", "aws:RequestedRegion", "x", False),
        ("StringEqualsIgnoreCase", "aws:PrincipalTag/team", "oRDERS", True),
        ("StringNotEquals", "aws:RequestedRegion", ["x", "us-east-1"], False),
        ("StringNotEquals", "aws:RequestedRegion", ["x", "y"], True),
        ("StringNotEquals", "aws:Absent", "x", True),
        ("StringNotEqualsIgnoreCase", "aws:PrincipalTag/team", "oRDERS", False),
        ("StringLike", "aws:RequestedRegion", "us-*-?", True),
        ("StringNotLike", "aws:RequestedRegion", "us-*", False),
        ("ArnEquals", "aws:SourceArn", "arn:aws:sns:*:123456789012:events", True),
        ("ArnLike", "aws:SourceArn", "arn:aws:sns:*:event?", False),
        ("ArnLike", "aws:SourceArn", "arn:aws:sns:us-east-1:*:e*", True),
        ("ArnNotLike", "aws:SourceArn", "arn:aws:sns:us-east-1:*:e*", False),
        ("Bool", "aws:SecureTransport", True, True),
        ("Bool", "aws:SecureTransport", "false", False),
        ("Null", "aws:Absent", "true", True),
        ("Null", "aws:Absent", False, False),
        ("Null", "aws:RequestedRegion", "false", True),
        ("NumericEquals", "s3:max-keys", 10, True),
        ("NumericNotEquals", "s3:max-keys", "10", False),
        ("NumericLessThan", "s3:max-keys", "10", False),
        ("NumericLessThanEquals", "s3:max-keys", "10", True),
        ("NumericGreaterThan", "s3:max-keys", "9.5", True),
        ("NumericGreaterThanEquals", "s3:max-keys", "11", False),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["Team", "Owner", "x"], True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["Team"], False),
        ("ForAllValues:StringEquals", "aws:Absent", ["Team"], True),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["Team", "x"], True),
        ("ForAnyValue:StringLike", "aws:TagKeys", ["x*"], False),
        ("ForAnyValue:StringEquals", "aws:Absent", ["Team"], False),
        ("ForAllValues:StringNotEquals", "aws:TagKeys", ["Team"], False),
        ("ForAnyValue:StringNotEquals", "aws:TagKeys", ["Team"], True),
    ],
)
def test_a_condition(operator: str, key: str, expected: object, met: bool) -> None:
    statement = allow(Condition={operator: {key: expected}})
    assert (refusal(Question(PUT, TABLE, CONTEXT), policy(statement)) == "") == met


def test_all_conditions_must_be_met() -> None:
    met, unmet = {"Bool": {"aws:SecureTransport": True}}, {"Null": {"aws:Absent": False}}
    two = {"StringLike": {"aws:RequestedRegion": "us-*", "aws:SourceArn": "x"}}
    question = Question(PUT, TABLE, CONTEXT)
    assert refusal(question, policy(allow(Condition=met))) == ""
    assert refusal(question, policy(allow(Condition=met | unmet))) == NOT_ALLOWED
    assert refusal(question, policy(allow(Condition=two))) == NOT_ALLOWED


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"DateLessThan": {"aws:RequestedRegion": "2026-01-01"}}, "operator DateLessThan"),
        ({"NotIpAddress": {"aws:RequestedRegion": "10.0.0.0/8"}}, "operator NotIpAddress"),
        ({"ForSome:StringLike": {"aws:RequestedRegion": "x"}}, "operator ForSome:StringLike"),
        ({"StringEquals": {"aws:ResourceTag/team": "x"}}, "key aws:ResourceTag/team"),
        ({"StringEqualsIfExists": {"aws:SourceVpc": "x"}}, "key aws:SourceVpc"),
        ({"Null": {"aws:SourceVpc": "true"}}, "key aws:SourceVpc"),
        ({"StringEquals": {"aws:RequestedRegion": "${aws:username}"}}, "key aws:username"),
    ],
)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_what_is_not_known_is_said(condition: Json, said: str, effect: str) -> None:
    statement = {**allow(Condition=condition), "Effect": effect}
    with pytest.raises(EvaluationError, match=said):
        refusal(Question(PUT, TABLE, CONTEXT), policy(statement))
    other = Question("s3:GetObject", "arn:aws:s3:::x/y", CONTEXT)
    assert refusal(other, policy(statement))


def test_deny_and_boundary() -> None:
    question, everything = Question(PUT, TABLE), policy(allow("*", "*"))
    cases = {
        "": (everything, everything),
        "with an explicit deny in an identity-based policy": ([*everything, *policy(deny())], None),
        "with an explicit deny in a permissions boundary": (everything, policy(deny())),
        f"because no permissions boundary allows the {PUT} action": (everything, policy()),
        NOT_ALLOWED: (policy(), everything),
    }
    for said, (identity, boundary) in cases.items():
        assert refusal(question, identity, boundary) == said


def test_of_an_unknown_resource_nothing_is_refused_that_may_be_allowed() -> None:
    question, one = Question(PUT, None), policy(allow())
    assert refusal(question, one) == ""
    assert refusal(question, [*one, *policy(deny())]) == ""
    assert refusal(question, [*one, *policy(deny(resource="*"))])
    assert refusal(question, policy(allow("s3:*", "*"))) == NOT_ALLOWED


# Requests, and what they ask.

ARN = "arn:aws:{}:us-east-1:123456789012:{}"
KEY = {"id": {"S": "1"}}
MACHINE = ARN.format("states", "stateMachine:m")
LOGS = ARN.format("logs", "log-group:/app:log-stream:")
ASKED: list[tuple[str, Json, list[tuple[str, str | None]]]] = [
    (
        "cloudwatch.put_metric_data",
        {"Namespace": "n", "MetricData": [{"MetricName": "m"}]},
        [("cloudwatch:PutMetricData", "*")],
    ),
    ("dynamodb.get_item", {"TableName": "orders", "Key": KEY}, [("dynamodb:GetItem", TABLE)]),
    ("dynamodb.get_item", {"TableName": TABLE, "Key": KEY}, [("dynamodb:GetItem", TABLE)]),
    (
        "dynamodb.scan",
        {"TableName": "orders", "IndexName": "by-id"},
        [("dynamodb:Scan", f"{TABLE}/index/by-id")],
    ),
    (
        "dynamodb.batch_get_item",
        {"RequestItems": {"orders": {"Keys": [KEY]}, "two": {"Keys": [KEY]}}},
        [
            ("dynamodb:BatchGetItem", TABLE),
            ("dynamodb:BatchGetItem", ARN.format("dynamodb", "table/two")),
        ],
    ),
    (
        "dynamodb.transact_write_items",
        {
            "TransactItems": [
                {"Put": {"TableName": "orders", "Item": KEY}},
                {"ConditionCheck": {"TableName": "orders", "Key": KEY, "ConditionExpression": "x"}},
            ]
        },
        [(PUT, TABLE), ("dynamodb:ConditionCheckItem", TABLE)],
    ),
    (
        "dynamodb.transact_get_items",
        {"TransactItems": [{"Get": {"TableName": "orders", "Key": KEY}}]},
        [("dynamodb:GetItem", TABLE)],
    ),
    ("dynamodb.list_tables", {}, [("dynamodb:ListTables", None)]),
    (
        "events.put_events",
        {
            "Entries": [
                {"Source": "s", "DetailType": "t", "Detail": "{}"},
                {"Source": "s", "DetailType": "t", "Detail": "{}", "EventBusName": "bus"},
            ]
        },
        [
            ("events:PutEvents", ARN.format("events", "event-bus/default")),
            ("events:PutEvents", ARN.format("events", "event-bus/bus")),
        ],
    ),
    ("kms.decrypt", {"CiphertextBlob": b"x", "KeyId": "alias/none"}, [("kms:Decrypt", None)]),
    (
        "kms.encrypt",
        {"Plaintext": b"x", "KeyId": "1-2"},
        [("kms:Encrypt", ARN.format("kms", "key/1-2"))],
    ),
    (
        "lambda.invoke",
        {"FunctionName": "f", "Qualifier": "live"},
        [("lambda:InvokeFunction", ARN.format("lambda", "function:f:live"))],
    ),
    (
        "lambda.invoke",
        {"FunctionName": ARN.format("lambda", "function:f")},
        [("lambda:InvokeFunction", ARN.format("lambda", "function:f"))],
    ),
    (
        "logs.create_log_stream",
        {"logGroupName": "/app", "logStreamName": "s"},
        [("logs:CreateLogStream", f"{LOGS}s")],
    ),
    ("logs.filter_log_events", {"logGroupName": "/app"}, [("logs:FilterLogEvents", LOGS)]),
    (
        "s3.get_object",
        {"Bucket": "files", "Key": "a/ü b"},
        [("s3:GetObject", "arn:aws:s3:::files/a/ü b")],
    ),
    (
        "s3.get_object",
        {"Bucket": "files", "Key": "a", "VersionId": "1"},
        [("s3:GetObjectVersion", "arn:aws:s3:::files/a")],
    ),
    ("s3.head_object", {"Bucket": "files", "Key": "a"}, [("s3:GetObject", "arn:aws:s3:::files/a")]),
    (
        "s3.put_object",
        {"Bucket": "files", "Key": "a", "Body": b"x", "Tagging": "a=b"},
        [("s3:PutObject", "arn:aws:s3:::files/a"), ("s3:PutObjectTagging", "arn:aws:s3:::files/a")],
    ),
    (
        "s3.copy_object",
        {"Bucket": "files", "Key": "a", "CopySource": {"Bucket": "other", "Key": "b"}},
        [("s3:GetObject", "arn:aws:s3:::other/b"), ("s3:PutObject", "arn:aws:s3:::files/a")],
    ),
    (
        "s3.create_multipart_upload",
        {"Bucket": "files", "Key": "a"},
        [("s3:PutObject", "arn:aws:s3:::files/a")],
    ),
    (
        "s3.delete_objects",
        {"Bucket": "files", "Delete": {"Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "1"}]}},
        [
            ("s3:DeleteObject", "arn:aws:s3:::files/a"),
            ("s3:DeleteObjectVersion", "arn:aws:s3:::files/b"),
        ],
    ),
    ("s3.list_objects_v2", {"Bucket": "files"}, [("s3:ListBucket", "arn:aws:s3:::files")]),
    ("s3.head_bucket", {"Bucket": "files"}, [("s3:ListBucket", "arn:aws:s3:::files")]),
    ("s3.list_buckets", {}, [("s3:ListAllMyBuckets", "*")]),
    (
        "secretsmanager.get_secret_value",
        {"SecretId": "shop/key"},
        [("secretsmanager:GetSecretValue", ARN.format("secretsmanager", "secret:shop/key-??????"))],
    ),
    (
        "secretsmanager.batch_get_secret_value",
        {"SecretIdList": ["a", "b"]},
        [
            ("secretsmanager:BatchGetSecretValue", "*"),
            *(
                (
                    "secretsmanager:GetSecretValue",
                    ARN.format("secretsmanager", f"secret:{name}-??????"),
                )
                for name in "ab"
            ),
        ],
    ),
    (
        "sns.publish",
        {"TopicArn": ARN.format("sns", "t"), "Message": "m"},
        [("sns:Publish", ARN.format("sns", "t"))],
    ),
    (
        "sns.publish_batch",
        {
            "TopicArn": ARN.format("sns", "t"),
            "PublishBatchRequestEntries": [{"Id": "1", "Message": "m"}],
        },
        [("sns:Publish", ARN.format("sns", "t"))],
    ),
    (
        "sqs.send_message",
        {"QueueUrl": "{url}", "MessageBody": "m"},
        [("sqs:SendMessage", ARN.format("sqs", "q"))],
    ),
    (
        "sqs.delete_message_batch",
        {"QueueUrl": "{url}", "Entries": [{"Id": "1", "ReceiptHandle": "x"}]},
        [("sqs:DeleteMessage", ARN.format("sqs", "q"))],
    ),
    ("sqs.get_queue_url", {"QueueName": "q"}, [("sqs:GetQueueUrl", ARN.format("sqs", "q"))]),
    (
        "ssm.get_parameter",
        {"Name": "/shop/key:3"},
        [("ssm:GetParameter", ARN.format("ssm", "parameter/shop/key"))],
    ),
    (
        "ssm.get_parameters",
        {"Names": ["/a", "b"]},
        [
            ("ssm:GetParameters", ARN.format("ssm", "parameter/a")),
            ("ssm:GetParameters", ARN.format("ssm", "parameter/b")),
        ],
    ),
    (
        "ssm.get_parameters_by_path",
        {"Path": "/a/"},
        [("ssm:GetParametersByPath", ARN.format("ssm", "parameter/a/"))],
    ),
    (
        "stepfunctions.start_execution",
        {"stateMachineArn": MACHINE},
        [("states:StartExecution", MACHINE)],
    ),
    (
        "sts.assume_role",
        {"RoleArn": "arn:aws:iam::1:role/x", "RoleSessionName": "me"},
        [("sts:AssumeRole", "arn:aws:iam::1:role/x")],
    ),
    ("sts.get_caller_identity", {}, []),
]


class Roles:
    """A local AWS with roles; each call is made with one's keys."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.iam = aws.client("iam")
        self.keys: dict[str, dict[str, str]] = {}
        self.clients: dict[tuple[str, str], Any] = {}

    def make(self, name: str, *statements: Json, boundary: str | None = None) -> None:
        """Create a role with an inline policy."""
        trust = {"Effect": "Allow", "Principal": {"Service": "x"}, "Action": "sts:AssumeRole"}
        made = self.iam.create_role(
            RoleName=name,
            Path="/services/",
            AssumeRolePolicyDocument=json.dumps(policy(trust)[0]),
            **({"PermissionsBoundary": boundary} if boundary else {}),
        )
        self.put(name, *statements)
        self.keys[name] = self.aws.grant(made["Role"]["Arn"])

    def put(self, name: str, *statements: Json) -> None:
        """Replace the inline policy of a role, by none if there is no statement."""
        if statements:
            document = json.dumps(policy(*statements)[0])
            self.iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
        elif self.iam.list_role_policies(RoleName=name)["PolicyNames"]:
            self.iam.delete_role_policy(RoleName=name, PolicyName="p")

    def client(self, role: str, service: str) -> Any:
        """Return a client with a role's keys."""
        if (role, service) not in self.clients:
            self.clients[role, service] = self.aws.client(service, self.keys[role])
        return self.clients[role, service]

    def call(self, role: str, name: str, parameters: Json) -> ClientError | None:
        """Call an operation, "sqs.send_message" for example; return how it failed."""
        service, _, method = name.partition(".")
        self.aws.permissions.record.clear()
        try:
            getattr(self.client(role, service), method)(**parameters)
        except ClientError as error:
            return error
        return None


@pytest.fixture(scope="module")
def roles() -> Iterator[Roles]:
    with local_aws("us-east-1", for_terraform=False) as aws:
        made = Roles(aws)
        made.make("all", allow("*", "*"))
        made.make("none")
        yield made


@pytest.fixture(scope="module")
def url(roles: Roles) -> str:
    return str(roles.aws.client("sqs").create_queue(QueueName="q")["QueueUrl"])


@pytest.mark.parametrize(("name", "parameters", "asked"), ASKED, ids=[one[0] for one in ASKED])
def test_what_a_request_asks(
    roles: Roles, url: str, name: str, parameters: Json, asked: list[tuple[str, str | None]]
) -> None:
    given = {key: url if value == "{url}" else value for key, value in parameters.items()}
    roles.call("all", name, given)
    record = roles.aws.permissions.record
    assert [(one.question.action, one.question.resource) for one in record] == asked
    assert {(one.role, one.refusal) for one in record} <= {("all", "")}


@pytest.mark.parametrize(
    ("statement", "action", "resource"),
    [
        ('SELECT * FROM "orders"."by-id" WHERE id = 1', "PartiQLSelect", f"{TABLE}/index/by-id"),
        ("insert into orders value {'id': '1'}", "PartiQLInsert", TABLE),
        ("UPDATE orders SET a = 1 WHERE id = '1'", "PartiQLUpdate", TABLE),
        ("DELETE FROM orders WHERE id = '1'", "PartiQLDelete", TABLE),
        ("EXISTS(SELECT * FROM orders WHERE id = '1')", "PartiQLSelect", TABLE),
        (f'SELECT * FROM "{TABLE}"', "PartiQLSelect", TABLE),
        ("nonsense", "PartiQLSelect", None),
    ],
)
def test_what_partiql_asks(statement: str, action: str, resource: str | None) -> None:
    """moto runs it only with a library that is not installed."""
    one = {"Statement": statement}
    for operation, parameters in {
        "ExecuteStatement": one,
        "BatchExecuteStatement": {"Statements": [one]},
        "ExecuteTransaction": {"TransactStatements": [one]},
    }.items():
        call = Call("dynamodb", operation, parameters, "us-east-1", "123456789012", "aws")
        assert actions.questions_of(call) == [Question(f"dynamodb:{action}", resource)]


def test_names_in_the_tables_are_aws_s() -> None:
    session = botocore.session.get_session()
    services = {
        "bedrock": "bedrock-runtime",
        "execute-api": "apigatewaymanagementapi",
        "states": "stepfunctions",
    }
    for name in actions.ACTIONS:
        prefix, _, operation = name.partition(":")
        model = session.get_service_model(services.get(prefix, prefix))
        assert operation in model.operation_names, name
    for prefix, parameters in actions.RESOURCES.items():
        model = session.get_service_model(services.get(prefix, prefix))
        shapes = [model.operation_model(name).input_shape for name in model.operation_names]
        known = {member for shape in shapes if shape for member in shape.members}
        assert {*parameters} <= known, prefix


def test_a_secret_and_a_key_are_asked_for_by_their_arns(roles: Roles) -> None:
    made = roles.aws.client("secretsmanager").create_secret(Name="real", SecretString="x")["ARN"]
    kms = roles.aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/real", TargetKeyId=key["KeyId"])
    for given in ("real", made, made[:-7]):
        roles.call("all", "secretsmanager.get_secret_value", {"SecretId": given})
        assert [one.question.resource for one in roles.aws.permissions.record] == [made]
    roles.call("all", "kms.encrypt", {"KeyId": "alias/real", "Plaintext": b"x"})
    assert [one.question.resource for one in roles.aws.permissions.record] == [key["Arn"]]


# What a refusal looks like in each protocol.
REFUSED: list[tuple[str, Json, str, int]] = [
    (
        "cloudwatch.put_metric_data",
        {"Namespace": "n", "MetricData": [{"MetricName": "m"}]},
        "AccessDenied",
        400,
    ),
    ("dynamodb.put_item", {"TableName": "orders", "Item": KEY}, "AccessDeniedException", 400),
    ("ec2.describe_subnets", {}, "UnauthorizedOperation", 403),
    ("iam.list_roles", {}, "AccessDenied", 403),
    ("lambda.invoke", {"FunctionName": "f"}, "AccessDeniedException", 403),
    ("s3.get_object", {"Bucket": "files", "Key": "a&b<c>"}, "AccessDenied", 403),
    ("s3.put_object", {"Bucket": "files", "Key": "a", "Body": b"x" * 100_000}, "AccessDenied", 403),
    (
        "sns.publish",
        {"TopicArn": ARN.format("sns", "t"), "Message": "m"},
        "AuthorizationError",
        403,
    ),
    ("sqs.receive_message", {"QueueUrl": "{url}"}, "AccessDenied", 400),
    ("ssm.get_parameter", {"Name": "x"}, "AccessDeniedException", 400),
]


@pytest.mark.parametrize(("name", "parameters", "code", "status"), REFUSED)
def test_a_refusal_is_aws_s(
    roles: Roles, url: str, name: str, parameters: Json, code: str, status: int
) -> None:
    given = {key: url if value == "{url}" else value for key, value in parameters.items()}
    error = roles.call("none", name, given)
    assert error is not None
    assert error.response["Error"]["Code"] == code
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error.response["ResponseMetadata"]["RetryAttempts"] == 0
    (decision,) = roles.aws.permissions.record
    action, resource = decision.question.action, decision.question.resource or "*"
    user = "arn:aws:sts::123456789012:assumed-role/none/none"
    assert error.response["Error"]["Message"] == (
        f"User: {user} is not authorized to perform: {action} on resource: {resource}"
        f" because no identity-based policy allows the {action} action"
    )


def test_a_refusal_without_a_body_and_of_a_presigned_url(roles: Roles) -> None:
    error = roles.call("none", "s3.head_object", {"Bucket": "files", "Key": "a"})
    assert error is not None
    assert error.response["Error"]["Code"] == "403"
    link = roles.client("none", "s3").generate_presigned_url(
        "get_object", Params={"Bucket": "files", "Key": "a"}
    )
    with pytest.raises(HTTPError, match="403"):
        urlopen(link)


def test_a_body_that_was_looked_at_still_arrives(roles: Roles) -> None:
    url = roles.aws.client("sqs").create_queue(QueueName="bodies")["QueueUrl"]
    roles.call("all", "sqs.send_message", {"QueueUrl": url, "MessageBody": "ü" * 100_000})
    (message,) = roles.client("all", "sqs").receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "ü" * 100_000
    roles.aws.client("s3").create_bucket(Bucket="bodies")
    roles.call("all", "s3.put_object", {"Bucket": "bodies", "Key": "a", "Body": b"x" * 100_000})
    roles.call("all", "s3.copy_object", {"Bucket": "bodies", "Key": "b", "CopySource": "bodies/a"})
    found = roles.client("all", "s3").get_object(Bucket="bodies", Key="b")
    assert found["Body"].read() == b"x" * 100_000
    # The client compresses it.
    long = [{"MetricName": f"{number:0200}", "Value": 1} for number in range(100)]
    parameters = {"Namespace": "n", "MetricData": long}
    assert roles.call("all", "cloudwatch.put_metric_data", parameters) is None
    (decision,) = roles.aws.permissions.record
    assert decision.question.context["cloudwatch:namespace"] == ["n"]
    assert len(roles.aws.client("cloudwatch").list_metrics(Namespace="n")["Metrics"]) >= 100


def test_policies_count_as_they_are_at_the_moment(roles: Roles, url: str) -> None:
    send = ("sqs.send_message", {"QueueUrl": url, "MessageBody": "m"})
    iam = roles.iam

    def create(name: str, *statements: Json) -> str:
        document = json.dumps(policy(*statements)[0])
        made = iam.create_policy(PolicyName=name, PolicyDocument=document)
        return str(made["Policy"]["Arn"])

    boundary = create("boundary", allow("sqs:*", "*"))
    roles.make("changing", boundary=boundary)
    assert roles.call("changing", *send) is not None
    roles.put("changing", allow("sqs:SendMessage", ARN.format("sqs", "q")))
    assert roles.call("changing", *send) is None
    roles.put("changing")
    assert roles.call("changing", *send) is not None
    attached = create("attached", allow("*", "*"))
    iam.attach_role_policy(RoleName="changing", PolicyArn=attached)
    assert roles.call("changing", *send) is None
    iam.create_policy_version(
        PolicyArn=boundary,
        PolicyDocument=json.dumps(policy(allow("s3:*", "*"))[0]),
        SetAsDefault=True,
    )
    error = roles.call("changing", *send)
    assert error is not None
    assert "because no permissions boundary allows the sqs:SendMessage action" in str(error)


def test_a_policy_may_ask_for_the_roles_tags_and_the_request(roles: Roles, url: str) -> None:
    queue, send = (
        ARN.format("sqs", "${aws:PrincipalTag/queue}"),
        {"QueueUrl": url, "MessageBody": "m"},
    )
    condition = {
        "StringEquals": {
            "aws:RequestedRegion": "us-east-1",
            "aws:PrincipalAccount": "123456789012",
        },
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/services/*"},
        "Null": {"aws:PrincipalTag/other": "true"},
    }
    roles.make("tagged", allow("sqs:*", queue, Condition=condition))
    assert roles.call("tagged", "sqs.send_message", send) is not None
    roles.iam.tag_role(RoleName="tagged", Tags=[{"Key": "queue", "Value": "q"}])
    assert roles.call("tagged", "sqs.send_message", send) is None
    metric = {"Namespace": "mine", "MetricData": [{"MetricName": "m"}]}
    only = {"StringEquals": {"cloudwatch:namespace": "mine"}}
    roles.put("tagged", allow("cloudwatch:PutMetricData", "*", Condition=only))
    assert roles.call("tagged", "cloudwatch.put_metric_data", metric) is None
    assert roles.call("tagged", "cloudwatch.put_metric_data", metric | {"Namespace": "n"})


def test_what_cannot_be_evaluated_is_refused_loudly(roles: Roles, url: str) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/team": "orders"}}
    roles.make("odd", allow("*", "*", Condition=condition))
    error = roles.call("odd", "sqs.receive_message", {"QueueUrl": url})
    assert error is not None
    assert error.response["Error"]["Code"] == "CannotEvaluate"
    assert "the condition key aws:ResourceTag/team, which the local AWS cannot" in str(error)
    permissions = roles.aws.permissions
    assert permissions.advice().startswith("The role odd is not authorized to perform: sqs:Rec")
    assert "tests/world.py: aws.permissions.context[key] = [value]" in permissions.advice()
    permissions.context["aws:ResourceTag/team"] = ["orders"]
    assert roles.call("odd", "sqs.receive_message", {"QueueUrl": url}) is None
    assert permissions.advice() == ""


def test_all_questions_are_asked_and_can_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(call: Call) -> list[Question]:
        if call.operation != "CreateQueue":
            return actions.questions_of(call)
        queue = call.arn(call.parameters["QueueName"])
        tags = {f"aws:RequestTag/{key}": [value] for key, value in call.parameters["tags"].items()}
        return [Question("sqs:CreateQueue", queue, tags), Question("sqs:TagQueue", queue, tags)]

    monkeypatch.setattr("tools.local.permissions.questions_of", exact)
    with local_aws("eu-west-1", for_terraform=False) as aws:
        roles, record = Roles(aws), aws.permissions.record
        tag = {"StringEquals": {"aws:RequestTag/team": "orders"}}
        roles.make("code", allow(["sqs:CreateQueue", "sqs:GetQueueUrl"], "*", Condition=tag))
        create = ("sqs.create_queue", {"QueueName": "q", "tags": {"team": "orders"}})
        assert roles.call("code", *create) is not None
        assert [(one.question.action, one.refusal == "") for one in record] == [
            ("sqs:CreateQueue", True),
            ("sqs:TagQueue", False),
        ]
        assert record[0].question.resource == "arn:aws:sqs:eu-west-1:123456789012:q"
        # A question can be asked again, of other policies.
        assert refusal(record[1].question, policy(allow("sqs:*", "*"))) == ""
        roles.put("code", allow("sqs:*", "*"))
        assert roles.call("code", *create) is None
        assert roles.call("code", "sqs.get_queue_url", {"QueueName": "q"}) is None
        assert [one.question.action for one in record] == ["sqs:GetQueueUrl"]


def test_all_other_keys_may_do_everything(roles: Roles) -> None:
    roles.aws.permissions.record.clear()
    assert roles.aws.client("sqs").list_queues()
    assert roles.aws.permissions.record == []
