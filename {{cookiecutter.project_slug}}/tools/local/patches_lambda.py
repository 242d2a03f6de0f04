"""What moto's Lambda lacks of AWS; see patches.py."""

from typing import Any

from moto.awslambda.models import LambdaBackend, LambdaFunction

from tools.local.patches import replaces


@replaces(LambdaFunction, "get_configuration")
def lambda_logging_config(original: Any, function: Any, *given: Any, **named: Any) -> Any:
    """A function has a LoggingConfig: log format, log group and, with JSON, log levels."""
    own = function.logging_config
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    return {
        **original(function, *given, **named),
        "LoggingConfig": {
            "LogFormat": "Text",
            "LogGroup": f"/aws/lambda/{function.function_name}",
            **(levels if own.get("LogFormat") == "JSON" else {}),
            **own,
        },
    }


@replaces(LambdaFunction, "__init__")
def lambda_logging_config_at_first(
    original: Any, function: Any, account_id: str, spec: Any, region: str, version: Any = 1
) -> None:
    """CreateFunction takes the LoggingConfig."""
    function.logging_config = spec.get("LoggingConfig") or {}
    original(function, account_id, spec, region, version)


@replaces(LambdaFunction, "update_configuration")
def lambda_logging_config_is_updated(original: Any, function: Any, updates: dict[str, Any]) -> Any:
    """UpdateFunctionConfiguration keeps the LoggingConfig, unless it brings another one."""
    function.logging_config = updates.get("LoggingConfig") or function.logging_config
    return original(function, updates)


@replaces(LambdaBackend, "create_event_source_mapping")
def lambda_event_source_mapping_of_an_alias(
    original: Any, backend: Any, spec: dict[str, Any]
) -> Any:
    """A mapping that is created for an alias has the alias's ARN, not that of its version."""
    mapping = original(backend, spec)
    if spec["FunctionName"].startswith("arn:"):
        mapping.function_arn = spec["FunctionName"]
    return mapping


@replaces(LambdaBackend, "update_event_source_mapping")
def lambda_event_source_mapping_without_settings(
    original: Any, backend: Any, uuid: str, spec: dict[str, Any]
) -> Any:
    """An empty ScalingConfig, ProvisionedPollerConfig or MetricsConfig removes what was set."""
    kept = {key: None if value == {} else value for key, value in spec.items()}
    return original(backend, uuid, kept)
