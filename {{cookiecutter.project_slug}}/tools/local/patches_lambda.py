"""What moto's Lambda lacks of AWS; see patches.py."""

from typing import Any

from moto.awslambda.models import LambdaBackend, LambdaFunction

from tools.local.patches import replaces


def lambda_logging_config() -> None:
    """A function has a LoggingConfig: log format, log group and, with JSON, log levels."""

    @replaces(LambdaFunction, "__init__")
    def init(
        original: Any, function: Any, account_id: str, spec: Any, region: str, version: Any = 1
    ) -> None:
        function.logging_config = spec.get("LoggingConfig") or {}
        original(function, account_id, spec, region, version)

    @replaces(LambdaFunction, "update_configuration")
    def update_configuration(original: Any, function: Any, updates: dict[str, Any]) -> Any:
        function.logging_config = updates.get("LoggingConfig") or function.logging_config
        return original(function, updates)

    @replaces(LambdaFunction, "get_configuration")
    def get_configuration(original: Any, function: Any, *arguments: Any, **more: Any) -> Any:
        given = function.logging_config
        levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
        defaults = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.function_name}"}
        return {
            **original(function, *arguments, **more),
            "LoggingConfig": {
                **defaults,
                **(levels if given.get("LogFormat") == "JSON" else {}),
                **given,
            },
        }


def lambda_event_source_mapping_of_an_alias() -> None:
    """A mapping that is created for an alias has the alias's ARN, not that of its version."""

    @replaces(LambdaBackend, "create_event_source_mapping")
    def create_event_source_mapping(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        mapping = original(backend, spec)
        if spec["FunctionName"].startswith("arn:"):
            mapping.function_arn = spec["FunctionName"]
        return mapping


def lambda_event_source_mapping_without_settings() -> None:
    """An empty ScalingConfig, ProvisionedPollerConfig or MetricsConfig removes what was set."""

    @replaces(LambdaBackend, "update_event_source_mapping")
    def update_event_source_mapping(
        original: Any, backend: Any, uuid: str, spec: dict[str, Any]
    ) -> Any:
        kept = {key: None if value == {} else value for key, value in spec.items()}
        return original(backend, uuid, kept)


PATCHES = [
    lambda_logging_config,
    lambda_event_source_mapping_of_an_alias,
    lambda_event_source_mapping_without_settings,
]
