"""CloudWatch's metrics and alarms on the local AWS, from what goes through its queues and its log.

moto stores both, but makes no metrics and evaluates no alarm. Here alarms are evaluated every
second, over periods that end now; on AWS, a metric takes a minute or two to arrive. Alarm actions
are not taken.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
"""

import json
import threading
import time
from array import array
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

from moto.backends import get_backend
from moto.cloudwatch.models import MetricAggregatedDatum
from moto.core.utils import utcnow

from tools.local.alarms import ONCE_A_MINUTE, evaluate
from tools.local.server import LocalAws

KEPT = timedelta(hours=1)
MOST_KEPT = 20_000  # also of what the code puts itself
SECONDS = 10  # what is put within so many seconds is one datum
VALUES = 200  # so many values of a datum are kept for percentiles


class Datum(MetricAggregatedDatum):
    """The values that a metric got within some seconds, as CloudWatch's statistics need them."""

    def __init__(self, namespace: str, name: str, dimensions: dict[str, str], unit: str) -> None:
        """Hold no value yet."""
        pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        super().__init__(namespace, name, 0, 0, 0, 0, pairs, utcnow(), unit)
        self.values = array("d")
        self.begun = time.monotonic()

    def add(self, value: float) -> None:
        """Take one more value."""
        self.min = min(self.min, value) if self.sample_count else value
        self.max = max(self.max, value) if self.sample_count else value
        self.sum, self.sample_count = self.sum + value, self.sample_count + 1
        if len(self.values) < VALUES:
            self.values.append(value)

    def replace(self, value: float) -> None:
        """Take a value in place of those before."""
        self.min = self.max = self.sum = value
        self.sample_count, self.values = 1, array("d", [value])
        self.timestamp = utcnow()


class Monitoring:
    """Makes the metrics of a local AWS and evaluates all alarms that are in it."""

    def __init__(self, aws: LocalAws, outputs: dict[str, str]) -> None:
        """Look into moto's own memory: a request per metric would take longer than the code."""
        account = outputs["queue_arn"].split(":")[4]
        self.cloudwatch = get_backend("cloudwatch")[account][aws.region]
        self.sqs = get_backend("sqs")[account][aws.region]
        self.lock = threading.Lock()
        self.newest: dict[tuple[Any, ...], Datum] = {}

    def line(self, text: str) -> None:
        """Put the metrics that a line of the log holds, if it does."""
        if '"_aws"' not in text:
            return
        try:
            line = json.loads(text)
            for directive in line["_aws"]["CloudWatchMetrics"]:
                for names, metric in product(directive["Dimensions"], directive["Metrics"]):
                    dimensions = {name: str(line[name]) for name in names}
                    given, unit = line[metric["Name"]], metric.get("Unit", "None")
                    for value in given if isinstance(given, list) else [given]:
                        self.put(directive["Namespace"], metric["Name"], dimensions, value, unit)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return  # nor does CloudWatch take what is not in its format

    def put(
        self,
        namespace: str,
        name: str,
        dimensions: dict[str, str],
        value: float,
        unit: str = "Count",
    ) -> None:
        """Put a value of a metric, as of now."""
        value, key = float(value), (namespace, name, *sorted(dimensions.items()))
        with self.lock:
            datum = self.newest.get(key)
            if datum is None or datum.begun + SECONDS <= time.monotonic():
                datum = self.newest[key] = Datum(namespace, name, dimensions, unit)
                self.cloudwatch.metric_data.append(datum)
            take = datum.replace if namespace == ONCE_A_MINUTE else datum.add
            take(value)

    def tick(self) -> None:
        """Put the queues' figures and set the alarms' states: to be called about every second."""
        for queue in list(self.sqs.queues.values()):
            self._look_at(queue)
        self._forget()
        evaluate(self.cloudwatch, utcnow())

    def _look_at(self, queue: Any) -> None:
        with queue._messages_lock:
            sent = min((message.sent_timestamp for message in queue._messages), default=None)
            visible = queue.approximate_number_of_messages
            hidden = queue.approximate_number_of_messages_not_visible
        put = partial(self.put, ONCE_A_MINUTE, dimensions={"QueueName": queue.name})
        put("ApproximateNumberOfMessagesVisible", value=visible)
        put("ApproximateNumberOfMessagesNotVisible", value=hidden)
        if sent is not None:
            put("ApproximateAgeOfOldestMessage", value=time.time() - sent / 1000, unit="Seconds")

    def _forget(self) -> None:
        """Drop old data; most of it is in the order of time."""
        data, limit = self.cloudwatch.metric_data, utcnow() - KEPT
        with self.lock:
            del data[: max(0, len(data) - MOST_KEPT)]
            while data and data[0].timestamp < limit:
                del data[0]
            recent = time.monotonic() - SECONDS
            self.newest = {key: one for key, one in self.newest.items() if one.begun > recent}
