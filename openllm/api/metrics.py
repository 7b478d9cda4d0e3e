"""Counts what the fleet and the API do, and writes it in Prometheus' text format.

The counting is on the per-token path, so it is a bisection and an addition; the prometheus client, which locks
and looks up labels at each observation, only writes the text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from openllm.api.exchange import Exchange
from openllm.engines.base import FinishReason
from openllm.fleet.state import State

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from openllm.fleet.keeper import Keeper

_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_NEXT_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 10)
_WAKE_SECONDS = (0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300)
_REQUEST_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Histogram:
    """Counts by upper bound, as Prometheus has them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound as text, values up to it), the last one "+Inf"."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Metrics:
    """What ``GET /metrics`` shows. It is the fleet's ``Observer``."""

    def __init__(self) -> None:
        self.generated_tokens = 0
        self.prompt_tokens = 0
        self.restarts = 0
        self.sequences: Counter[str] = Counter()
        self.responses: Counter[tuple[str, int]] = Counter()
        self._first_token = Histogram(_FIRST_TOKEN_SECONDS)
        self._next_token = Histogram(_NEXT_TOKEN_SECONDS)
        self.request_seconds = Histogram(_REQUEST_SECONDS)
        self.wake_seconds = Histogram(_WAKE_SECONDS)
        # Bound once: these two run for every token.
        self.first_token = self._first_token.observe
        self.next_token = self._next_token.observe

    def tokens(self, count: int) -> None:
        self.generated_tokens += count

    def finished(self, reason: FinishReason) -> None:
        self.sequences[reason] += 1

    def woke(self, seconds: float) -> None:
        self.wake_seconds.observe(seconds)

    def restarted(self) -> None:
        self.restarts += 1

    def responded(self, exchange: Exchange) -> None:
        """Count a request that is over."""
        self.responses[exchange.route, exchange.status] += 1
        assert exchange.ended is not None
        self.request_seconds.observe(exchange.ended - exchange.began)

    def text(self, keepers: Mapping[str, Keeper]) -> bytes:
        """The whole page, of models by name."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Page(self, keepers))
        return generate_latest(registry)


class _Page:
    """A collector of the prometheus client."""

    def __init__(self, metrics: Metrics, keepers: Mapping[str, Keeper]) -> None:
        self._metrics = metrics
        self._keepers = keepers

    def collect(self) -> Iterator[Metric]:
        yield from self._histograms()
        yield from self._counters()
        yield from self._gauges()

    def _histograms(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import HistogramMetricFamily

        metrics = self._metrics
        for name, text, histogram in (
            ("time_to_first_token_seconds", "From admission to the first token.", metrics._first_token),
            ("inter_token_latency_seconds", "Between two tokens of a sequence.", metrics._next_token),
            ("request_seconds", "From a request to the end of its answer.", metrics.request_seconds),
            (
                "wake_seconds",
                "From the request that woke a model to its engine's answer.",
                metrics.wake_seconds,
            ),
        ):
            yield HistogramMetricFamily(
                f"openllm_{name}", text, buckets=histogram.cumulative(), sum_value=histogram.sum
            )

    def _counters(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily

        metrics = self._metrics
        yield CounterMetricFamily("openllm_generated_tokens", "Tokens generated.", metrics.generated_tokens)
        yield CounterMetricFamily("openllm_prompt_tokens", "Tokens of prompts.", metrics.prompt_tokens)
        yield CounterMetricFamily("openllm_runner_restarts", "Runners started again.", metrics.restarts)
        keepers = self._keepers.values()
        wakes = sum(keeper.wakes for keeper in keepers)
        yield CounterMetricFamily("openllm_wakes", "Models woken.", wakes)
        asleep = sum(keeper.course.asleep_seconds() for keeper in keepers)
        yield CounterMetricFamily(
            "openllm_asleep_seconds", "Seconds without a runner, of all models together.", asleep
        )
        sequences = CounterMetricFamily("openllm_sequences", "Sequences ended.", labels=["reason"])
        for reason, count in sorted(metrics.sequences.items()):
            sequences.add_metric([reason], count)
        yield sequences
        responses = CounterMetricFamily("openllm_responses", "HTTP responses.", labels=["path", "status"])
        for (path, status), count in sorted(metrics.responses.items()):
            responses.add_metric([path, str(status)], count)
        yield responses

    def _gauges(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        keepers = list(self._keepers.values())
        counts = [keeper.desk.counts() for keeper in keepers]
        waiting, running = (sum(each) for each in zip(*counts, strict=True))
        yield GaugeMetricFamily("openllm_sequences_waiting", "Sequences without a token yet.", waiting)
        queued = sum(each.desk.queued() + each.desk.queued(background=True) for each in keepers)
        yield GaugeMetricFamily("openllm_sequences_queued", "Sequences the engine has not got yet.", queued)
        yield GaugeMetricFamily("openllm_sequences_running", "Sequences with a token.", running)
        answers = sum(keeper.ready for keeper in keepers)
        yield GaugeMetricFamily("openllm_ready", "Models whose engine answers.", answers)
        states = GaugeMetricFamily("openllm_engine_state", "Models in each state.", labels=["state"])
        for state in State:
            states.add_metric([state], sum(keeper.state is state for keeper in keepers))
        yield states
        yield from self._by_model()
        yield from self._by_replica()

    def _by_model(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        loaded = GaugeMetricFamily("openllm_model_ready", "1 if its engine answers.", labels=["model"])
        wakes = CounterMetricFamily("openllm_model_wakes", "Times that it was woken.", labels=["model"])
        waiting = GaugeMetricFamily("openllm_model_sequences", "Open sequences.", labels=["model"])
        for name, keeper in self._keepers.items():
            loaded.add_metric([name], keeper.ready)
            wakes.add_metric([name], keeper.wakes)
            waiting.add_metric([name], len(keeper.desk))
        yield from (loaded, wakes, waiting)

    def _by_replica(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        labels = ["model", "replica"]
        ready = GaugeMetricFamily("openllm_replica_ready", "1 if its engine answers.", labels=labels)
        having = GaugeMetricFamily(
            "openllm_replica_sequences", "Sequences that its engine has.", labels=labels
        )
        given = CounterMetricFamily(
            "openllm_replica_sequences_given", "Sequences that its engines were given.", labels=labels
        )
        restarts = CounterMetricFamily(
            "openllm_replica_restarts", "Times that its engine was started again.", labels=labels
        )
        for name, keeper in self._keepers.items():
            for replica in keeper.replicas:
                values, post = [name, str(replica.number)], keeper.desk.posts[replica.number]
                ready.add_metric(values, replica.ready)
                having.add_metric(values, len(post.at_runner))
                given.add_metric(values, post.given)
                restarts.add_metric(values, replica.restarts)
        yield from (ready, having, given, restarts)
