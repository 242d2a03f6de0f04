"""What the local AWS holds besides the service: for unit tests, e2e, make local, invoke and debug.

This file is yours: updates of the template leave it alone. `aws.client("dynamodb")` is a boto3
client; `aws.region` is the region. Both functions may be called several times in one process, each
time with a local AWS that is empty.
"""

from tools.local.server import LocalAws


def surroundings(aws: LocalAws) -> dict[str, str]:
    """Create what the service uses and others own; return environment variables for the code.

    This runs before everything else, in e2e and make local before `terraform apply`. For example:

        aws.client("secretsmanager").create_secret(Name="shop/dev/api-key", SecretString="secret")
        return {"PRICES_URL": "http://127.0.0.1:8080"}
    """
    return {}


def resources(aws: LocalAws) -> None:
    """Create what this service's own Terraform creates; e2e and make local, which apply it, don't.

    For example:

        aws.client("dynamodb").create_table(
            TableName="orders",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
    """
