"""What AWS asks of IAM for each request that deploys or operates a service.

Beside the request's own action, AWS asks for what it does in the caller's name: to pass a role, to
tag what is made, to get a layer or a package, to look into a VPC. From the Service Authorization
Reference and the services' own documentation. An operation that is not here is refused, so that the
test fails with its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from tools.local.actions import Call, questions_of
from tools.local.policy import Context, Question

Questions = Iterator[Question]
# What is made has an id only afterwards; AWS asks with a wildcard in its place.
NEW = "*"


def exact(call: Call) -> list[Question]:
    """Return all that AWS asks for a request."""
    name = f"{call.prefix}:{call.operation}"
    if call.prefix in AS_USUAL and name not in QUESTIONS:
        return questions_of(call)
    if name not in QUESTIONS:
        return [Question(f"unknown-{name}", "tests/aws_permissions.py")]
    return list(QUESTIONS[name](call))


def tags(key: str, found: Any) -> Context:
    """Return condition keys of tags, which the services give as a dictionary or as a list."""
    pairs = found or {}
    if isinstance(pairs, list):
        named = [{name.lower(): value for name, value in one.items()} for one in pairs]
        pairs = {one["key"]: one["value"] for one in named}
    return {f"{key}/": [], **{f"{key}/{name}": [str(value)] for name, value in pairs.items()}}


def tags_of(call: Call) -> Any:
    """Return the tags that the parameters give to what is made."""
    given = call.parameters
    found = given.get("Tags") or given.get("tags")
    for specification in given.get("TagSpecifications", []):
        found = specification.get("Tags")
    return found


def ask(call: Call, resource: str, *, own: str = "", **context: Context) -> Question:
    """Return the question for the request's own action, or for another one."""
    action = own or f"{call.prefix}:{call.operation}"
    more = {name: value for one in context.values() for name, value in one.items()}
    requested = tags("aws:RequestTag", tags_of(call))
    return Question(action, resource, {**requested, "aws:ResourceTag/": [], **more})


def everywhere(call: Call) -> Questions:
    """AWS has no resource level for the action."""
    yield ask(call, "*")


def named(parameter: str, pattern: str = "{}", service: str = "") -> Callable[[Call], Questions]:
    """Return what asks about the resource, or each of the resources, that a parameter names."""

    def questions(call: Call) -> Questions:
        given = call.parameters.get(parameter) or []
        for value in given if isinstance(given, list) else [given]:
            yield ask(call, arn(call, pattern, str(value), service))

    return questions


def arn(call: Call, pattern: str, value: str, service: str = "") -> str:
    return value if value.startswith("arn:") else call.arn(pattern.format(value), service)


def made(tag_action: str, questions: Callable[[Call], Questions]) -> Callable[[Call], Questions]:
    """Return what asks also for the right to tag what is made, if it is made with tags."""

    def more(call: Call) -> Questions:
        for question in questions(call):
            yield question
            if tags_of(call) and question.action == f"{call.prefix}:{call.operation}":
                yield replace(question, action=tag_action)

    return more


##### IAM


def role(call: Call) -> Questions:
    """IAM asks about the role with its path, and the boundary that it has or gets."""
    given, name = call.parameters, call.parameters["RoleName"]
    if call.operation == "CreateRole":
        resource = call.arn(f"role{given.get('Path', '/')}{name}", region="")
        boundary = given.get("PermissionsBoundary")
    else:
        found = iam_backends[call.account][call.partition].get_role(name)
        resource = found.arn
        boundary = given.get("PermissionsBoundary", found.permissions_boundary_arn)
    limits = {"iam:PermissionsBoundary": [boundary] if boundary else []}
    yield ask(call, resource, limits=limits)
    if call.operation == "CreateRole" and given.get("Tags"):
        yield ask(call, resource, own="iam:TagRole", limits=limits)


def passes(call: Call, role_arn: str, service: str) -> Question:
    """Who gives a role to a service must be allowed to pass it."""
    context = {"iam:PassedToService": [f"{service}.amazonaws.com"]}
    return ask(call, role_arn, own="iam:PassRole", context=context)


def service_linked(call: Call, service: str, name: str) -> Question:
    """The first time in an account, a service's own role is made in the caller's name."""
    resource = call.arn(f"role/aws-service-role/{service}/{name}", "iam", region="")
    return ask(call, resource, own="iam:CreateServiceLinkedRole")


##### Lambda


def function(call: Call) -> Questions:
    """A function is made or changed: with role, layers, a package in S3, a VPC."""
    given, (own,) = call.parameters, questions_of(call)
    vpc = given.get("VpcConfig") or {}
    yield ask(call, str(own.resource))
    if call.operation == "CreateFunction" and given.get("Tags"):
        yield ask(call, str(own.resource), own="lambda:TagResource")
    if "Role" in given:
        yield passes(call, given["Role"], "lambda")
    for layer in given.get("Layers", []):
        yield ask(call, layer, own="lambda:GetLayerVersion")
    code = given.get("Code", given)
    if code.get("S3Bucket"):
        package = f"arn:{call.partition}:s3:::{code['S3Bucket']}/{code['S3Key']}"
        yield ask(call, package, own="s3:GetObject")
    for kind in ("SecurityGroups", "Subnets", "Vpcs") if vpc.get("SubnetIds") else ():
        yield ask(call, "*", own=f"ec2:Describe{kind}")


def mapping(call: Call) -> Questions:
    """An event source mapping has a random id; the function that it feeds is a condition key."""
    given = call.parameters
    if uuid := given.get("UUID"):
        found = call.backend("lambda").get_event_source_mapping(uuid)
        fed = found.function_arn if found else None
        yield ask(
            call, call.arn(f"event-source-mapping:{uuid}"), fed={"lambda:FunctionArn": [fed or ""]}
        )
    else:
        fed = arn(call, "function:{}", given["FunctionName"])
        yield ask(call, "*", fed={"lambda:FunctionArn": [fed]})
        if given.get("Tags"):
            mappings = call.arn(f"event-source-mapping:{NEW}")
            yield ask(call, mappings, own="lambda:TagResource")


def permission(call: Call) -> Questions:
    """Who may invoke a function is said or taken back."""
    (own,) = questions_of(call)
    principal = call.parameters.get("Principal")
    if not principal:
        policy = call.backend("lambda").get_function(str(own.resource)).policy.statements
        (found,) = [one for one in policy if one["Sid"] == call.parameters["StatementId"]]
        principal = found["Principal"]["Service"]
    yield ask(call, str(own.resource), who={"lambda:Principal": [principal]})


##### Logs and alarms


def log_group(call: Call) -> Questions:
    """CloudWatch Logs asks with the stream, which is empty, in the ARN."""
    given = call.parameters
    group = f"log-group:{given.get('logGroupName') or ''}"
    yield ask(call, call.arn(f"{group}:log-stream:"))
    if call.operation == "CreateLogGroup" and given.get("tags"):
        yield ask(call, call.arn(group), own="logs:TagResource")
    if call.operation == "PutSubscriptionFilter":
        if ":logs:" in given["destinationArn"]:
            yield ask(call, given["destinationArn"])
        if given.get("roleArn"):
            yield passes(call, given["roleArn"], "logs")


def dashboards(call: Call) -> Questions:
    """Dashboards belong to no region."""
    given = call.parameters
    for name in given.get("DashboardNames") or [given["DashboardName"]]:
        yield ask(call, call.arn(f"dashboard/{name}", region=""))


##### SNS, SQS, S3


def subscribe(call: Call) -> Questions:
    given = call.parameters
    what = {"sns:Protocol": [given["Protocol"]], "sns:Endpoint": [given["Endpoint"]]}
    yield ask(call, given["TopicArn"], what=what)


def move_messages(call: Call) -> Questions:
    """A redrive receives, deletes and sends in the caller's name."""
    source = call.parameters.get("SourceArn")
    if source is None:  # CancelMessageMoveTask names only a handle
        yield ask(call, call.arn(NEW))
        return
    yield ask(call, source)
    if call.operation == "StartMessageMoveTask":
        for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
            yield ask(call, source, own=f"sqs:{action}")
        target = call.parameters.get("DestinationArn") or source.removesuffix("-dlq")
        yield ask(call, target, own="sqs:SendMessage")


def object_read(call: Call) -> Questions:
    """Who may not list a bucket isn't told that an object is missing: access is denied."""
    yield from questions_of(call)
    bucket, key = call.parameters["Bucket"], call.parameters["Key"]
    stored = s3_backends[call.account][call.partition].buckets.get(bucket)
    if stored and key not in stored.keys:
        resource = f"arn:{call.partition}:s3:::{bucket}"
        yield ask(call, resource, own="s3:ListBucket", none={"s3:prefix": []})


##### Network


def security_group(call: Call) -> Questions:
    """A new security group: about itself and its VPC, which another account may own."""
    group, (vpc,) = call.arn(f"security-group/{NEW}"), call.parameters["VpcId"].split()
    yield ask(call, group)
    yield ask(call, f"arn:{call.partition}:ec2:{call.region}:{VPC_OWNER}:vpc/{vpc}")
    if tags_of(call):
        yield ask(
            call, group, own="ec2:CreateTags", why={"ec2:CreateAction": ["CreateSecurityGroup"]}
        )


VPC_OWNER = "999999999999"  # another account, which shares its VPC


def own_group(call: Call) -> Questions:
    """A security group that there is, by its tags; and a rule in it."""
    given = call.parameters
    for id_ in given.get("Resources") or [given["GroupId"]]:
        kind = "security-group-rule" if id_.startswith("sgr-") else "security-group"
        found = call.backend("ec2").describe_tags(filters={"resource-id": [id_]})
        existing = tags("aws:ResourceTag", found)
        none = {"ec2:CreateAction": []}
        yield ask(call, call.arn(f"{kind}/{id_}"), existing=existing, none=none)
    if call.operation == "AuthorizeSecurityGroupEgress":
        rule = call.arn(f"security-group-rule/{NEW}")
        yield ask(call, rule)
        if tags_of(call):
            yield ask(call, rule, own="ec2:CreateTags", why={"ec2:CreateAction": [call.operation]})


##### Containers


def cluster_and_service(call: Call) -> Questions:
    """A service's ARN has its cluster's name."""
    given = call.parameters
    cluster = str(given.get("cluster", "default")).rpartition("/")[2]
    names = given.get("services") or [given.get("service") or given["serviceName"]]
    for name in names:
        service = str(name).rpartition("/")[2]
        yield ask(call, call.arn(f"service/{cluster}/{service}"))


def deployments(call: Call) -> Questions:
    """How a deployment went is asked of the deployment and of its service."""
    for found in call.parameters["serviceDeploymentArns"]:
        yield ask(call, found)
        cluster, service, _ = found.split("service-deployment/")[1].split("/")
        yield ask(call, call.arn(f"service/{cluster}/{service}"))


def new_cluster(call: Call) -> Questions:
    yield ask(call, call.arn(f"cluster/{call.parameters['clusterName']}"))
    yield service_linked(call, "ecs.amazonaws.com", "AWSServiceRoleForECS")


def task_definition(call: Call) -> Questions:
    """A revision has its number only afterwards."""
    given = call.parameters
    yield ask(call, call.arn(f"task-definition/{given['family']}:{NEW}"))
    for name in ("taskRoleArn", "executionRoleArn"):
        yield passes(call, given[name], "ecs-tasks")


def push(call: Call) -> Questions:
    """Pushing an image is many requests to the registry, of which only the last is an API call.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
    """
    repository = call.arn(f"repository/{call.parameters['repositoryName']}")
    for action in (
        *("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "PutImage"),
        *("GetDownloadUrlForLayer", "InitiateLayerUpload", "UploadLayerPart"),
    ):
        yield ask(call, repository, own=f"ecr:{action}")


def scaling(call: Call) -> Questions:
    """Application Auto Scaling asks about a target by its tags, and acts in the caller's name."""
    given, dimension = call.parameters, "ecs:service:DesiredCount"
    backend = call.backend("applicationautoscaling")
    targets = backend.targets.get(dimension, {}) if hasattr(backend, "targets") else {}
    target = targets.get(given["ResourceId"])
    context = {
        **tags("aws:ResourceTag", getattr(target, "tags", None)),
        "application-autoscaling:service-namespace": [given["ServiceNamespace"]],
    }
    resource = target.arn if target else call.arn(f"scalable-target/{NEW}")
    yield ask(call, resource, context=context)
    _, cluster, service = given["ResourceId"].split("/")
    if call.operation == "RegisterScalableTarget":
        if given.get("Tags"):
            yield ask(call, resource, own="application-autoscaling:TagResource", context=context)
        if not target:
            name = "AWSServiceRoleForApplicationAutoScaling_ECSService"
            yield service_linked(call, "ecs.application-autoscaling.amazonaws.com", name)
        for action in ("DescribeServices", "UpdateService"):
            resource = call.arn(f"service/{cluster}/{service}", "ecs")
            yield ask(call, resource, own=f"ecs:{action}")
    alarm = {"PutScalingPolicy": "PutMetricAlarm", "DeleteScalingPolicy": "DeleteAlarms"}
    tracks = given.get("PolicyType") == "TargetTrackingScaling" or "backlog" in str(
        given.get("PolicyName")
    )
    if call.operation in alarm and tracks:
        name = f"alarm:TargetTracking-service/{cluster}/{service}-AlarmHigh-{NEW}"
        own = f"cloudwatch:{alarm[call.operation]}"
        yield ask(call, call.arn(name, "cloudwatch"), own=own)


##### All of it

# The code's own calls, which the local AWS maps exactly.
AS_USUAL = {"dynamodb", "s3", "sqs", "sts"}

FUNCTION = named("FunctionName", "function:{}")
CLUSTER = named("clusters", "cluster/{}")
TAGGED = named("Resource"), named("ResourceArn"), named("resourceArn"), named("ResourceARN")
QUESTIONS: dict[str, Callable[[Call], Questions]] = {
    **{
        f"iam:{name}": role
        for name in (
            *("CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy"),
            *("ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies"),
            *("ListRoleTags", "PutRolePermissionsBoundary", "PutRolePolicy", "TagRole"),
            *("UntagRole", "UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription"),
        )
    },
    **{
        f"lambda:{name}": lambda call: iter(questions_of(call))
        for name in (
            *("CreateAlias", "DeleteAlias", "DeleteFunction", "GetAlias", "GetFunction"),
            *("GetFunctionCodeSigningConfig", "GetFunctionConfiguration", "GetPolicy"),
            *("ListVersionsByFunction", "PublishVersion", "UpdateAlias"),
        )
    },
    "lambda:CreateFunction": function,
    "lambda:UpdateFunctionCode": function,
    "lambda:UpdateFunctionConfiguration": function,
    "lambda:CreateEventSourceMapping": mapping,
    "lambda:DeleteEventSourceMapping": mapping,
    "lambda:GetEventSourceMapping": mapping,
    "lambda:UpdateEventSourceMapping": mapping,
    "lambda:AddPermission": permission,
    "lambda:RemovePermission": permission,
    "lambda:ListTags": TAGGED[0],
    "lambda:TagResource": TAGGED[0],
    "lambda:UntagResource": TAGGED[0],
    **{
        f"logs:{name}": log_group
        for name in (
            *("CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy"),
            *("DeleteSubscriptionFilter", "DescribeSubscriptionFilters", "FilterLogEvents"),
            *("PutRetentionPolicy", "PutSubscriptionFilter"),
        )
    },
    "logs:DescribeLogGroups": everywhere,
    "logs:ListTagsForResource": TAGGED[2],
    "logs:TagResource": TAGGED[2],
    "logs:UntagResource": TAGGED[2],
    "cloudwatch:DeleteAlarms": named("AlarmNames", "alarm:{}"),
    "cloudwatch:DeleteDashboards": dashboards,
    "cloudwatch:DescribeAlarms": everywhere,
    "cloudwatch:GetDashboard": dashboards,
    "cloudwatch:GetMetricStatistics": everywhere,
    "cloudwatch:ListTagsForResource": TAGGED[3],
    "cloudwatch:PutDashboard": dashboards,
    "cloudwatch:PutMetricAlarm": made("cloudwatch:TagResource", named("AlarmName", "alarm:{}")),
    "cloudwatch:TagResource": TAGGED[3],
    "cloudwatch:UntagResource": TAGGED[3],
    "sns:GetSubscriptionAttributes": everywhere,
    "sns:GetTopicAttributes": named("TopicArn"),
    "sns:ListSubscriptionsByTopic": named("TopicArn"),
    "sns:ListTagsForResource": TAGGED[1],
    "sns:ListTopics": everywhere,
    "sns:Publish": named("TopicArn"),
    "sns:SetSubscriptionAttributes": everywhere,
    "sns:Subscribe": subscribe,
    "sns:Unsubscribe": everywhere,
    "sqs:CancelMessageMoveTask": move_messages,
    "sqs:CreateQueue": made("sqs:TagQueue", named("QueueName")),
    "sqs:ListMessageMoveTasks": move_messages,
    "sqs:StartMessageMoveTask": move_messages,
    "s3:GetObject": object_read,
    "s3:HeadObject": object_read,
    "dynamodb:CreateTable": made("dynamodb:TagResource", named("TableName", "table/{}")),
    **{
        f"ec2:Describe{name}": everywhere
        for name in (
            *("NetworkInterfaces", "SecurityGroupRules", "SecurityGroups", "Subnets", "Vpcs"),
        )
    },
    "ec2:CreateSecurityGroup": security_group,
    **{
        f"ec2:{name}": own_group
        for name in (
            *("AuthorizeSecurityGroupEgress", "CreateTags", "DeleteSecurityGroup", "DeleteTags"),
            *("ModifySecurityGroupRules", "RevokeSecurityGroupEgress"),
        )
    },
    "ecs:CreateCluster": made("ecs:TagResource", new_cluster),
    "ecs:CreateService": made("ecs:TagResource", cluster_and_service),
    "ecs:DeleteCluster": named("cluster", "cluster/{}"),
    "ecs:DeleteService": cluster_and_service,
    "ecs:DescribeClusters": CLUSTER,
    "ecs:DescribeServiceDeployments": deployments,
    "ecs:DescribeServices": cluster_and_service,
    "ecs:DescribeTaskDefinition": everywhere,
    "ecs:DescribeTasks": named("tasks", "task/{}"),
    "ecs:ListServiceDeployments": cluster_and_service,
    "ecs:ListTagsForResource": TAGGED[2],
    "ecs:ListTaskDefinitions": everywhere,
    "ecs:ListTasks": everywhere,
    "ecs:PutClusterCapacityProviders": named("cluster", "cluster/{}"),
    "ecs:RegisterTaskDefinition": made("ecs:TagResource", task_definition),
    "ecs:TagResource": TAGGED[2],
    "ecs:UntagResource": TAGGED[2],
    "ecs:UpdateCluster": named("cluster", "cluster/{}"),
    "ecs:UpdateService": cluster_and_service,
    **{
        f"ecr:{name}": named("repositoryName", "repository/{}")
        for name in (
            *("BatchGetImage", "DeleteLifecyclePolicy", "DeleteRepository", "GetLifecyclePolicy"),
            *("PutImageScanningConfiguration", "PutImageTagMutability", "PutLifecyclePolicy"),
        )
    },
    "ecr:CreateRepository": made("ecr:TagResource", named("repositoryName", "repository/{}")),
    "ecr:DescribeRepositories": named("repositoryNames", "repository/{}"),
    "ecr:GetAuthorizationToken": everywhere,
    "ecr:ListTagsForResource": TAGGED[2],
    "ecr:PutImage": push,
    "ecr:TagResource": TAGGED[2],
    "ecr:UntagResource": TAGGED[2],
    **{
        f"application-autoscaling:{name}": scaling
        for name in (
            *("DeleteScalingPolicy", "DeregisterScalableTarget", "PutScalingPolicy"),
            "RegisterScalableTarget",
        )
    },
    "application-autoscaling:DescribeScalableTargets": everywhere,
    "application-autoscaling:DescribeScalingPolicies": everywhere,
    "application-autoscaling:ListTagsForResource": TAGGED[3],
}
