"""Figures for Prometheus, on an address of their own that operators reach and clients don't.

Every scrape reads the ledger and Redis anew, so all processes of the API would say the same: one needs to be scraped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.routes.health import not_ready
from api.services import Services
from jobs.queueing.queue import QueueUnavailable
from jobs.queueing.totals import queue_totals


class ServiceCollector(Collector):
    """Reads the service's figures. What can't be reached has no figure, and `vgid_ready` says so."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures as they are now."""
        faults = not_ready(self._services)
        ready = GaugeMetricFamily("vgid_ready", "1 if the part can be used, as /readyz judges", labels=["part"])
        for part, fault in faults.items():
            ready.add_metric([part], float(fault is None))
        yield ready
        if faults["redis"] is None:
            yield from self._pauses()
        if faults["postgres"] is None:
            yield from self._jobs()

    def _pauses(self) -> Iterator[GaugeMetricFamily]:
        paused = GaugeMetricFamily("vgid_workers_paused", "workers that take no job", labels=["reason"])
        try:
            reasons = Counter(self._services.queue.pauses())
        except QueueUnavailable:
            return
        for reason, workers in reasons.items():
            paused.add_metric([reason], workers)
        yield paused

    def _jobs(self) -> Iterator[GaugeMetricFamily]:
        try:
            with self._services.read_sessions() as s:
                totals = queue_totals(s)
        except SQLAlchemyError:
            return
        jobs = GaugeMetricFamily("vgid_jobs", "jobs in the ledger", labels=["state"])
        for state, count in totals.by_state.items():
            jobs.add_metric([state.value], count)
        yield jobs
        yield GaugeMetricFamily(
            "vgid_queue_oldest_seconds", "age of the oldest queued job", value=totals.oldest_seconds
        )
        yield GaugeMetricFamily("vgid_jobs_overdue", "unfinished jobs past their due time", value=totals.overdue)


@contextmanager
def metrics_server(services: Services) -> Iterator[None]:
    """Serves `/metrics` where the settings say, if they do. Raises OSError if the address can't be had."""
    if services.settings.metrics_listen is None:
        yield
        return
    host, _, port = services.settings.metrics_listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(ServiceCollector(services))
    server, thread = start_http_server(int(port), host.strip("[]"), registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
