"""CloudWatch's alarms, evaluated as CloudWatch does: statistics, metric math, missing data.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

import ast
import math
import operator
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

State = tuple[str, str]  # OK, ALARM or INSUFFICIENT_DATA, and the reason
COMPARISONS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
HISTORY = 20  # states of an alarm that are kept
# SQS reports a queue's figures once a minute; here they come every second, and the last one counts.
ONCE_A_MINUTE = "AWS/SQS"
MINUTE = timedelta(minutes=1)


class NoValueError(Exception):
    """A metric has no data in a period, or the calculation has no result."""


def evaluate(backend: Any, now: datetime) -> None:
    """Set the state of each alarm of moto's, where it has changed."""
    for alarm in list(backend.alarms.values()):
        if alarm.comparison_operator not in COMPARISONS:
            continue
        try:
            found = state_of(Metrics(alarm, backend.metric_data), now)
        except (SyntaxError, ValueError) as error:
            found = "INSUFFICIENT_DATA", f"The local AWS cannot evaluate this alarm: {error}"
        if found and found[0] != alarm.state_value:
            alarm.update_state(found[1], "{}", found[0])
            del alarm.history[:-HISTORY]


class Metrics:
    """What an alarm looks at: one metric, or several and a calculation."""

    def __init__(self, alarm: Any, metric_data: list[Any]) -> None:
        """Look at these data."""
        self.alarm, self.data = alarm, metric_data
        self.queries = {query.id: query for query in alarm.metric_data_queries}
        stats = [query.metric_stat for query in self.queries.values() if query.metric_stat]
        self.period = int(alarm.period or max(int(stat.period) for stat in stats))

    def value(self, end: datetime) -> float | None:
        """Return the alarm's value for the period that ends then; None if there is none."""
        try:
            if not self.queries:
                stat = self.alarm.extended_statistic or self.alarm.statistic
                return self.statistic(self.alarm, stat, end)
            (result,) = [one for one in self.queries.values() if one.return_data is not False]
            return float(self.query(result, end))
        except (NoValueError, ZeroDivisionError):
            return None

    def query(self, query: Any, end: datetime) -> Any:
        """Return the value of a part of a calculation."""
        if query.metric_stat:
            return self.statistic(query.metric_stat.metric, query.metric_stat.stat, end)
        return self.calculate(ast.parse(query.expression, mode="eval").body, end)

    def calculate(self, node: ast.expr, end: datetime) -> Any:
        """Return the value of a metric math expression.

        Raises ValueError for what this service's alarms don't use.
        """
        match node:
            case ast.Constant(int() | float() as number):
                return number
            case ast.Name(name) if name in self.queries:
                return self.query(self.queries[name], end)
            case ast.BinOp(left, sign, right) | ast.Compare(left, [sign], [right]):
                if type(sign) in OPERATORS:
                    values = self.calculate(left, end), self.calculate(right, end)
                    return OPERATORS[type(sign)](*values)
            case ast.Call(ast.Name("IF"), [condition, then, otherwise]):
                chosen = then if self.calculate(condition, end) else otherwise
                return self.calculate(chosen, end)
        raise ValueError(f"{ast.unparse(node)} is metric math that it does not know.")

    def statistic(self, source: Any, stat: str, end: datetime) -> float:
        """Return a statistic of a metric over the period that ends then."""
        start = end - timedelta(seconds=self.period)
        data = [
            datum
            for datum in self.data
            if start < datum.timestamp <= end
            and datum.name == source.metric_name
            and datum.namespace == source.namespace
            and pairs(datum.dimensions) == pairs(source.dimensions)
        ]
        if source.namespace == ONCE_A_MINUTE:
            data = list({(end - one.timestamp) // MINUTE: one for one in data}.values())
        if not data:
            raise NoValueError
        return statistic(data, stat)


def statistic(data: list[Any], stat: str) -> float:
    """Return a statistic, such as Sum or p99, of what was put."""
    counts = [getattr(datum, "sample_count", 1) for datum in data]
    sums = [datum.value if hasattr(datum, "value") else datum.sum for datum in data]
    values = sorted(value for datum in data for value in values_of(datum))
    if stat.startswith("p"):
        return float(values[math.ceil(float(stat[1:]) / 100 * len(values)) - 1])
    found = {
        "SampleCount": sum(counts),
        "Sum": sum(sums),
        "Average": sum(sums) / sum(counts),
        "Minimum": min(values),
        "Maximum": max(values),
    }
    if stat not in found:
        raise ValueError(f"{stat} is a statistic that it does not know.")
    return float(found[stat])


def values_of(datum: Any) -> Iterable[float]:
    """Return the values of a datum, or at least the lowest and the highest."""
    if hasattr(datum, "value"):
        return [datum.value]
    return getattr(datum, "values", None) or [datum.min, datum.max]


def pairs(dimensions: list[Any]) -> set[tuple[str, str]]:
    """Return dimensions, moto's objects, so that they can be compared."""
    return {(one.name, one.value) for one in dimensions}


def state_of(metrics: Metrics, now: datetime) -> State | None:
    """Return an alarm's state and the reason in CloudWatch's words; None if it stays as it is."""
    alarm, length = metrics.alarm, timedelta(seconds=metrics.period)
    periods = int(alarm.evaluation_periods)
    needed = int(alarm.datapoints_to_alarm or periods)
    ends = [now - number * length for number in range(periods)]
    points = [(end - length, value) for end in ends if (value := metrics.value(end)) is not None]
    breaches, words = COMPARISONS[alarm.comparison_operator]
    bad = [point for point in points if breaches(point[1], float(alarm.threshold))]
    missing, treat = periods - len(points), alarm.treat_missing_data or "missing"
    if not points and treat in ("missing", "ignore"):
        text = "Insufficient Data: the alarm has no datapoints."
        return None if treat == "ignore" else ("INSUFFICIENT_DATA", text)
    firing = len(bad) + (missing if treat == "breaching" else 0) >= needed
    state = "ALARM" if firing else "OK"
    if not points:
        treated = "Breaching" if treat == "breaching" else "NonBreaching"
        s, verb = ("", "was") if missing == 1 else ("s", "were")
        return state, (
            f"Threshold Crossed: no datapoints were received for {periods} period{s} and {missing} "
            f"missing datapoint{s} {verb} treated as [{treated}]."
        )
    shown = bad if firing and bad else [point for point in points if point not in bad] or points
    listed = ", ".join(f"{value} ({begin:%d/%m/%y %H:%M:%S})" for begin, value in shown)
    verb = ("was" if len(shown) == 1 else "were") + ("" if firing else " not")
    change = "OK -> ALARM" if firing else "ALARM -> OK"
    s = "" if needed == 1 else "s"
    return state, (
        f"Threshold Crossed: {len(shown)} out of the last {periods} datapoints [{listed}] {verb} "
        f"{words} the threshold ({float(alarm.threshold)}) (minimum {needed} datapoint{s} for "
        f"{change} transition)."
    )
