"""The local AWS's metrics and alarms, as CloudWatch makes and evaluates them."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core.utils import utcnow
from tools.local import monitoring, patches
from tools.local.server import LocalAws

REGION = "eu-central-1"
ARN = f"arn:aws:sqs:{REGION}:123456789012"
DEFAULTS = {
    "ComparisonOperator": "GreaterThanThreshold",
    "EvaluationPeriods": 1,
    "TreatMissingData": "notBreaching",
}
FUNCTION = {"FunctionName": "order-events-dev"}

patches.apply()


@dataclass
class World:
    """A local AWS with one queue and its dead-letter queue, in which time passes as a test says."""

    monitoring: monitoring.Monitoring
    clock: SimpleNamespace
    cloudwatch: Any
    sqs: Any
    queue: str
    dead: str

    def alarm(self, threshold: float, **settings: Any) -> None:
        """Create an alarm; its name is "alarm"."""
        self.cloudwatch.put_metric_alarm(
            AlarmName="alarm", Threshold=threshold, **{**DEFAULTS, **settings}
        )

    def on(self, name: str, namespace: str = "AWS/SQS", **more: Any) -> dict[str, Any]:
        """Return an alarm's settings for one metric."""
        dimensions = more.pop("Dimensions", {"QueueName": "dead"})
        pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        metric = {"Namespace": namespace, "MetricName": name, "Dimensions": pairs}
        statistic = {} if "ExtendedStatistic" in more else {"Statistic": "Maximum"}
        return {**metric, "Period": 60, **statistic, **more}

    def tick(self) -> tuple[str, str]:
        """Let the alarms be evaluated; return the state and the reason."""
        self.monitoring.tick()
        (alarm,) = self.cloudwatch.describe_alarms()["MetricAlarms"]
        return alarm["StateValue"], alarm["StateReason"]

    @property
    def state(self) -> str:
        return self.tick()[0]

    def send(self, queue: str, count: int = 1) -> None:
        for _ in range(count):
            self.sqs.send_message(QueueUrl=queue, MessageBody="{}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = SimpleNamespace(ahead=0.0)
    ahead: Callable[[], timedelta] = lambda: timedelta(seconds=clock.ahead)  # noqa: E731
    times = {
        "time": lambda: time.time() + clock.ahead,
        "monotonic": lambda: time.monotonic() + clock.ahead,
    }
    monkeypatch.setattr(monitoring, "utcnow", lambda: utcnow() + ahead())
    monkeypatch.setattr(monitoring, "time", SimpleNamespace(**times))
    with mock_aws():
        client = boto3.session.Session(
            region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x"
        ).client
        sqs = client("sqs")
        dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
        policy = json.dumps({"deadLetterTargetArn": f"{ARN}:dead", "maxReceiveCount": 1})
        queue = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": policy})["QueueUrl"]
        made = monitoring.Monitoring(LocalAws("unused", REGION), {"queue_arn": f"{ARN}:main"})
        yield World(made, clock, client("cloudwatch"), sqs, queue, dead)


def lines(failed: Any, **more: Any) -> str:
    """Return a line as Powertools logs metrics."""
    directive = {
        "Namespace": "shop",
        "Dimensions": [["environment", "service"]],
        "Metrics": [{"Name": "MessagesFailed", "Unit": "Count"}],
    }
    return json.dumps(
        {
            "_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]},
            **{"environment": "shop-dev", "service": "orders", "MessagesFailed": failed},
            **more,
        }
    )


def test_a_dead_letter_raises_the_alarm_at_once_and_its_end_ends_it(world: World) -> None:
    world.alarm(0, **world.on("ApproximateNumberOfMessagesVisible"))
    assert world.state == "OK"
    world.send(world.queue, 2)
    for _ in range(2):
        world.sqs.receive_message(QueueUrl=world.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
    begin = f"{datetime.now(UTC) - timedelta(seconds=60):%d/%m/%y %H:%M}"
    state, reason = world.tick()
    assert state == "ALARM"
    assert reason.startswith(f"Threshold Crossed: 1 out of the last 1 datapoints [2.0 ({begin}"), (
        reason
    )
    assert reason.endswith(
        ")] was greater than the threshold (0.0) (minimum 1 datapoint for OK -> ALARM transition)."
    )
    world.clock.ahead = 30
    world.sqs.purge_queue(QueueUrl=world.dead)
    state, reason = world.tick()
    assert state == "OK"
    assert reason.startswith("Threshold Crossed: 1 out of the last 1 datapoints [0.0 (")
    assert reason.endswith(
        "was not greater than the threshold (0.0) (minimum 1 datapoint for ALARM -> OK transition)."
    )


def test_the_state_has_the_time_when_it_changed(world: World) -> None:
    world.alarm(0, **world.on("ApproximateNumberOfMessagesVisible"))
    world.send(world.dead)
    world.monitoring.tick()
    (first,) = world.cloudwatch.describe_alarms()["MetricAlarms"]
    world.send(world.dead)
    world.monitoring.tick()
    (second,) = world.cloudwatch.describe_alarms()["MetricAlarms"]
    assert first["StateUpdatedTimestamp"] == second["StateUpdatedTimestamp"]
    assert first["StateReason"] == second["StateReason"]


def test_figures_of_the_queue(world: World) -> None:
    world.send(world.queue, 3)
    world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=500)
    world.clock.ahead = 100
    world.monitoring.tick()
    figures = {}
    for name in ("Visible", "NotVisible", "Age"):
        metric = f"ApproximateNumberOfMessages{name}".replace(
            "NumberOfMessagesAge", "AgeOfOldestMessage"
        )
        (point,) = world.cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName=metric,
            Dimensions=[{"Name": "QueueName", "Value": "main"}],
            StartTime=datetime.now(UTC) - timedelta(minutes=15),
            EndTime=datetime.now(UTC) + timedelta(minutes=2),
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        figures[name] = point["Maximum"]
    assert (figures["Visible"], figures["NotVisible"]) == (2, 1)
    assert 100 <= figures["Age"] < 130


def test_metrics_in_the_log_count_for_their_period(world: World) -> None:
    own = {"Dimensions": {"service": "orders", "environment": "shop-dev"}, "Period": 300}
    world.alarm(5, **world.on("MessagesFailed", "shop", **own, Statistic="Sum"))
    world.monitoring.line(lines([1, 2]))
    world.clock.ahead = 200
    world.monitoring.line(lines(2))
    world.monitoring.line(lines(9, environment="shop-prod"))
    world.monitoring.line("2026-01-01 a line of text")
    assert world.state == "OK"
    world.monitoring.line(lines(1.0))
    assert world.state == "ALARM"
    world.clock.ahead = 301  # the first three are over
    assert world.state == "OK"
    world.monitoring.line(lines(4))
    assert world.state == "ALARM"
    world.clock.ahead = 700
    assert world.tick() == (
        "OK",
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was "
        "treated as [NonBreaching].",
    )


@pytest.mark.parametrize(
    "text",
    [
        '"_aws"',
        "[" * 50_000 + '"_aws"',
        '["_aws"]',
        '{"_aws": {}}',
        '{"_aws": null}',
        '{"_aws": {"CloudWatchMetrics": [{"Namespace": "x"}]}}',
        lines("many"),
        lines([None]),
        lines({}),
    ],
)
def test_lines_that_only_look_like_metrics_change_nothing(world: World, text: str) -> None:
    world.monitoring.line(text)
    assert world.monitoring.cloudwatch.metric_data == []


def query(name: str, metric: str, **more: Any) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in FUNCTION.items()]
    source = {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions, **more}
    return {
        "Id": name,
        "ReturnData": False,
        "MetricStat": {"Metric": source, "Period": 300, "Stat": "Sum"},
    }


RATE = [
    {"Id": "rate", "Expression": "100 * errors / invocations", "ReturnData": True},
    query("errors", "Errors"),
    query("invocations", "Invocations"),
]


def test_a_rate_of_two_metrics(world: World) -> None:
    world.alarm(5, Metrics=RATE)
    assert world.state == "OK"

    def invoke(count: int, errors: int) -> None:
        for number in range(count):
            world.monitoring.put("AWS/Lambda", "Invocations", FUNCTION, 1)
            world.monitoring.put("AWS/Lambda", "Errors", FUNCTION, 1 if number < errors else 0)

    world.monitoring.put("AWS/Lambda", "Invocations", FUNCTION, 0)
    world.monitoring.put("AWS/Lambda", "Errors", FUNCTION, 0)
    assert world.state == "OK"
    invoke(20, 1)
    assert world.state == "OK"
    invoke(20, 3)
    state, reason = world.tick()
    assert state == "ALARM"
    assert "[10.0 (" in reason
    invoke(60, 0)
    assert world.state == "OK"


@pytest.mark.parametrize(("slow", "state"), [(1, "OK"), (2, "ALARM")])
def test_a_percentile(world: World, slow: int, state: str) -> None:
    own = {"Dimensions": FUNCTION, "Period": 300, "ExtendedStatistic": "p99"}
    world.alarm(800, **world.on("Duration", "AWS/Lambda", **own))
    for number in range(100):
        value = 900.5 if number < slow else 10.0
        world.monitoring.put("AWS/Lambda", "Duration", FUNCTION, value, "Milliseconds")
    assert world.state == state


def unattended(world: World, periods: int = 15, **more: Any) -> None:
    """Create the alarm of a service on Fargate that no task runs."""
    names = {"waiting": "Visible", "in_flight": "NotVisible"}
    metrics = []
    for name, metric in names.items():
        settings = world.on(
            f"ApproximateNumberOfMessages{metric}", Dimensions={"QueueName": "main"}
        )
        source = {key: settings[key] for key in ("Namespace", "MetricName", "Dimensions")}
        stat = {"Metric": source, "Period": 60, "Stat": "Maximum"}
        metrics.append({"Id": name, "ReturnData": False, "MetricStat": stat})
    expression = {"Id": "messages", "Expression": "IF(in_flight > 0, 0, waiting)"}
    world.alarm(0, Metrics=[expression, *metrics], EvaluationPeriods=periods, **more)


def minutes(world: World, count: int) -> str:
    """Let minutes pass, with a look every ten seconds; return the alarm's state then."""
    for _ in range(6 * count):
        world.clock.ahead += 10
        world.monitoring.tick()
    return world.state


def test_fifteen_minutes_are_fifteen_minutes(world: World) -> None:
    unattended(world)
    assert minutes(world, 2) == "OK"
    world.send(world.queue)
    assert minutes(world, 14) == "OK"
    assert minutes(world, 1) == "ALARM"
    # Somebody receives it.
    world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=500)
    assert world.state == "OK"


def test_so_many_periods_of_so_many(world: World) -> None:
    unattended(world, 5, DatapointsToAlarm=2)
    minutes(world, 5)
    world.send(world.queue)
    assert minutes(world, 1) == "OK"
    world.sqs.purge_queue(QueueUrl=world.queue)
    assert minutes(world, 1) == "OK"
    world.send(world.queue)
    assert minutes(world, 1) == "ALARM"


@pytest.mark.parametrize(
    ("treat", "first", "state"),
    [
        ("notBreaching", "OK", "OK"),
        ("breaching", "OK", "ALARM"),
        ("missing", "OK", "INSUFFICIENT_DATA"),
        ("ignore", "ALARM", "ALARM"),
        ("ignore", "OK", "OK"),
    ],
)
def test_missing_data_is_treated_as_the_alarm_says(
    world: World, treat: str, first: str, state: str
) -> None:
    own = {"Dimensions": FUNCTION, "TreatMissingData": treat}
    world.alarm(0, **world.on("Throttles", "AWS/Lambda", **own))
    world.cloudwatch.set_alarm_state(AlarmName="alarm", StateValue=first, StateReason="test")
    assert world.state == state


def test_what_cannot_be_evaluated_says_so(world: World) -> None:
    world.alarm(5, Metrics=[{**RATE[0], "Expression": "FILL(errors, 0)"}, *RATE[1:]])
    assert world.tick() == (
        "INSUFFICIENT_DATA",
        "The local AWS cannot evaluate this alarm: FILL(errors, 0) is metric math that it does not "
        "know.",
    )


def test_metrics_that_the_code_puts_itself_count(world: World) -> None:
    world.alarm(2, **world.on("Refunds", "Shop", Dimensions={}, Statistic="Sum"))
    for _ in range(3):
        world.cloudwatch.put_metric_data(
            Namespace="Shop", MetricData=[{"MetricName": "Refunds", "Value": 1}]
        )
    assert world.state == "ALARM"


def test_an_hour_is_kept(world: World) -> None:
    """And what is kept does not grow with the number of messages."""
    for _ in range(1000):
        world.monitoring.put("AWS/Lambda", "Invocations", FUNCTION, 1)
    assert len(world.monitoring.cloudwatch.metric_data) == 1
    world.clock.ahead = 3590
    world.monitoring.tick()
    assert len(world.monitoring.cloudwatch.metric_data) == 1 + 4
    world.clock.ahead = 3610
    world.monitoring.tick()
    assert len(world.monitoring.cloudwatch.metric_data) == 2 * 4
    assert len(world.monitoring.newest) == 4
