"""Metrics for Prometheus: names are `forktree:` plus vLLM's suffix where the meaning is the same, so panels carry over.

Here: what the server measures itself (latencies, tokens, outcomes) and how the engine's own counts are exported.
Each server has its own registry; nothing is process-wide.  Label values come from fixed sets, never from a request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PREFIX = "forktree:"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_FIRST_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_REQUEST_SECONDS = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0)


class ServerMetrics:
    """One server's metrics. `model` is the served name, a label on everything as in vLLM."""

    def __init__(self, model: str = "") -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._engine = _EngineCollector()
        self.registry.register(self._engine)
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "from arrival to first token", _FIRST_SECONDS
        )
        self.inter_token = self._histogram(
            "inter_token_latency_seconds", "between two tokens of a choice", _TOKEN_SECONDS
        )
        self.per_output_token = self._histogram(
            "request_time_per_output_token_seconds", "mean time per token after the first, by choice", _TOKEN_SECONDS
        )
        self.e2e = self._histogram("e2e_request_latency_seconds", "from arrival to last token", _REQUEST_SECONDS)
        self.prompt_tokens = self._counter("prompt_tokens", "prompt tokens of finished requests")
        self.cached_tokens = self._counter("prompt_tokens_cached", "of these, tokens found in the prefix cache")
        self.generation_tokens = self._counter("generation_tokens", "tokens generated")
        self.finished = self._counter("request_success", "choices by how they ended", ("finished_reason",))
        self.responses = self._counter("http_responses", "answers by route and status", ("route", "status"))

    def exposition(self, engine: Mapping[str, float] | None) -> bytes:
        """The page for a scraper. `engine`: EngineStats by name; None, when it can't answer, shows as engine_up 0."""
        self._engine.stats = engine
        self._engine.model = self._model
        return generate_latest(self.registry)

    def name_model(self, model: str) -> None:
        """The served name is known once the model is loaded, after the first requests may have been refused."""
        self._model = model

    def observe(self, arrived: float) -> RequestTimer:
        return RequestTimer(self, arrived)

    def count_output(self, delta: Any) -> None:
        """A piece of an output of a program, whose own arrival nobody sees: it counts, and times nothing."""
        self.generation_tokens.inc(len(delta.token_ids))
        if delta.finish_reason is not None:
            self.prompt_tokens.inc(delta.usage.prompt_tokens)
            self.cached_tokens.inc(delta.usage.cached_tokens)
            self.finished.labels(finished_reason=delta.finish_reason).inc()

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(PREFIX + name, text, buckets=tuple(buckets), registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)


@dataclass
class _Choice:
    first: float | None = None
    last: float = 0.0
    tokens: int = 0
    reason: str | None = None


@dataclass
class RequestTimer:
    """Follows one engine request from arrival to its last token, whoever ends it; `finish` counts it, once."""

    metrics: ServerMetrics
    arrived: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    first_token: float | None = None
    choices: dict[int, _Choice] = field(default_factory=dict)

    def prompt(self, num_tokens: int, num_cached: int) -> None:
        """What the prompt came to. Its later choices find it cached by the first, so the first word counts."""
        if not self.prompt_tokens:
            self.prompt_tokens, self.cached_tokens = num_tokens, num_cached

    def tokens(self, index: int, num_tokens: int, finish_reason: str | None) -> None:
        """Choice `index` has got so many more tokens."""
        now = time.monotonic()
        choice = self.choices.setdefault(index, _Choice())
        if num_tokens:
            if self.first_token is None:
                self.first_token = now
                self.metrics.time_to_first_token.observe(now - self.arrived)
            if choice.first is None:
                choice.first = now
            else:
                self.metrics.inter_token.observe((now - choice.last) / num_tokens)
            choice.last = now
            choice.tokens += num_tokens
        choice.reason = finish_reason or choice.reason

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices.values())

    def finish(self, otherwise: str) -> None:
        """`otherwise` says how choices ended that have no reason of their own: "abort" or "error"."""
        metrics = self.metrics
        if self.choices:  # a request refused before its first step took no time worth a histogram
            metrics.e2e.observe(time.monotonic() - self.arrived)
        metrics.prompt_tokens.inc(self.prompt_tokens)
        metrics.cached_tokens.inc(self.cached_tokens)
        metrics.generation_tokens.inc(self.completion_tokens)
        for choice in self.choices.values() or (_Choice(),):
            metrics.finished.labels(finished_reason=choice.reason or otherwise).inc()
            if choice.first is not None and choice.tokens > 1:
                metrics.per_output_token.observe((choice.last - choice.first) / (choice.tokens - 1))


class _EngineCollector(Collector):
    """The engine's own counts, as of the stats last given."""

    stats: Mapping[str, float] | None = None
    model: str = ""

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(PREFIX + "model_info", "the model served", labels=("model_name",))
        info.add_metric((self.model,), 1)
        yield info
        yield GaugeMetricFamily(PREFIX + "engine_up", "1 while the engine answers", 0 if self.stats is None else 1)
        if self.stats is None:
            return
        yield from _engine_metrics(self.stats)


def _engine_metrics(stats: Mapping[str, float]) -> Iterator[Metric]:
    total = stats["pages_total"]
    used = (total - stats["pages_free"] - stats["pages_cached"]) / max(total, 1)
    yield GaugeMetricFamily(PREFIX + "kv_cache_usage_perc", "pages of running requests, 1 = all", used)
    pages = GaugeMetricFamily(PREFIX + "kv_pages", "pages by owner", labels=("owner",))
    for owner in ("free", "cached", "running"):
        pages.add_metric((owner,), stats[f"pages_{owner}"])
    yield pages
    for name, key, text in _GAUGES:
        yield GaugeMetricFamily(PREFIX + name, text, stats[key])
    for name, key, text in _COUNTERS:
        yield CounterMetricFamily(PREFIX + name, text, stats[key])


_GAUGES = (
    ("num_requests_running", "requests_running", "requests that hold pages"),
    ("num_requests_waiting", "requests_waiting", "requests in the queue"),
    ("kv_pages_limit", "pages_total", "pages in all"),
)
_COUNTERS = (
    ("num_preemptions", "retractions", "running requests put back for want of pages"),
    ("prefix_cache_queries", "prompt_tokens", "prompt tokens looked up in the prefix cache"),
    ("prefix_cache_hits", "cached_tokens", "of these, tokens found there"),
    ("computed_prompt_tokens", "computed_prompt_tokens", "prompt tokens computed, again after a retraction as well"),
    ("forced_tokens", "forced_tokens", "generated tokens that a constraint forced and nobody sampled"),
    ("saved_passes", "saved_passes", "times that a request did not enter a step because of forced tokens"),
    ("device_seconds", "device_seconds", "time spent computing steps"),
    ("evicted_pages", "evicted_pages", "cached pages given up for running requests"),
)
