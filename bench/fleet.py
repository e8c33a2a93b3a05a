"""Past one machine: people forgotten an hour and cost a person on 1, 8 and 64 GPUs, by simulation.

    python -m bench.fleet [--people-per-gpu 960]

Nothing here runs on a GPU: step times of VGID as published were measured on one H100, queue and start times come from
bench/results where those benches have run, steps, batches and teachers are the methods' own defaults, the rest is
assumed, and `bench.fleet_numbers` says which is which. Requests arrive (Poisson), the next free GPU takes those that
wait, up to a limit a job. The default method, VGID as published, retraining the model without the person. Seeds 0-4.
Prints tables; writes bench/results/fleet.json and docs/performance/fleet.md: run it again when defaults have changed.
Exit status 1 if throughput a GPU on 64 is under 95 % of that on one.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from bench.fleet_jobs import Strategy, job_of
from bench.fleet_numbers import NUMBERS, Numbers
from bench.fleet_report import write_report
from bench.machine import save
from bench.methods import DEFAULT, PUBLISHED, settings

FLEETS = (1, 8, 64)
SEEDS = range(5)
ARRIVALS_PER_GPU_HOUR = 40.0


@dataclass(frozen=True)
class Outcome:
    """One simulated run. Hours in seconds, latency from request to artifact."""

    people_per_hour: float
    gpu_seconds_per_person: float
    cost_per_person: float
    latency_p50: float
    latency_p95: float


def _ways(method: str, called: str) -> list[Strategy]:
    return [
        Strategy(f"{called}, a request at a time, cold", method, 1, False),
        Strategy(f"{called}, a request at a time, warm", method, 1, True),
        Strategy(f"{called}, up to 6 requests a job, cold", method, 6, False),
        Strategy(f"{called}, up to 6 requests a job, warm", method, 6, True),
        Strategy(f"{called}, up to 32 requests a job, warm", method, 32, True),
    ]


STRATEGIES = (
    *_ways(DEFAULT, DEFAULT),
    *_ways(PUBLISHED, "vgid as published"),
    Strategy("the same, tuned baseline, a request at a time, cold", PUBLISHED, 1, False, NUMBERS.tuned_pair_seconds),
    Strategy(
        "the same, its authors' code, a request at a time, cold", PUBLISHED, 1, False, NUMBERS.published_pair_seconds
    ),
)


def main() -> None:
    """Simulates every strategy on every fleet, full and at a steady arrival rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people-per-gpu", type=int, default=960)
    people = parser.parse_args().people_per_gpu
    full = {gpus: {s.name: _runs(s, gpus, people, None) for s in STRATEGIES} for gpus in FLEETS}
    steady = {gpus: {s.name: _runs(s, gpus, people, ARRIVALS_PER_GPU_HOUR) for s in STRATEGIES} for gpus in FLEETS}
    own_share = replace(NUMBERS, least_people_a_run=0)
    figures = {
        "full": full,
        "full_without_least": {s.name: _runs(s, 1, people, None, own_share) for s in STRATEGIES},
        "steady": steady,
        "retraining": {gpus: retraining(NUMBERS, gpus) for gpus in FLEETS},
        "arrivals_per_gpu_hour": ARRIVALS_PER_GPU_HOUR,
        "jobs": {method: asdict(job_of(NUMBERS, Strategy("", method, 1, True), 1)) for method in (DEFAULT, PUBLISHED)},
    }
    scaling = min(
        full[FLEETS[-1]][s.name]["people_per_hour"] / FLEETS[-1] / full[1][s.name]["people_per_hour"]
        for s in STRATEGIES
    )
    print(write_report(NUMBERS, figures, scaling))
    configs = {method: settings(method).model_dump(mode="json") for method in (DEFAULT, PUBLISHED)}
    record = {"people_per_gpu": people, "configs": configs, "numbers": asdict(NUMBERS), "scaling": scaling, **figures}
    print("written:", save("fleet", record, seed=list(SEEDS), runs=len(SEEDS)))


def simulate(numbers: Numbers, strategy: Strategy, gpus: int, arrivals: Sequence[float]) -> Outcome:
    """Every free GPU takes what waits, oldest first. `arrivals` are sorted, in seconds."""
    free = [(0.0, 0.0, gpu) for gpu in range(gpus)]  # free from, spare ready from
    latencies: list[float] = []
    busy = end = 0.0
    while len(latencies) < len(arrivals):
        free_at, spare_at, gpu = heapq.heappop(free)
        first = len(latencies)
        claimed = max(free_at, arrivals[first]) + numbers.claim_seconds
        people = 1
        while people < strategy.people_per_job and first + people < len(arrivals):
            if arrivals[first + people] > claimed:
                break
            people += 1
        if strategy.warm:
            loaded = max(claimed, spare_at) + numbers.warm_start_seconds
        else:
            loaded = claimed + numbers.cold_start_seconds
        done = loaded + job_of(numbers, strategy, people).total
        latencies += [done - arrivals[first + i] for i in range(people)]
        busy += done - max(free_at, arrivals[first])
        end = max(end, done)
        heapq.heappush(free, (done + numbers.turn_seconds, loaded + numbers.spare_ready_seconds, gpu))
    return _outcome(numbers, latencies, busy, gpus * end, end)


def retraining(numbers: Numbers, gpus: int) -> dict[str, float]:
    """A person at a time, on A100s, as if it scaled perfectly."""
    return {
        "people_per_hour": gpus / numbers.retraining_gpu_hours,
        "gpu_seconds_per_person": numbers.retraining_gpu_hours * 3600,
        "cost_per_person": numbers.retraining_gpu_hours * numbers.retraining_gpu_hour_price,
    }


def _outcome(numbers: Numbers, latencies: list[float], busy: float, paid: float, end: float) -> Outcome:
    ordered = sorted(latencies)
    return Outcome(
        people_per_hour=len(ordered) / end * 3600,
        gpu_seconds_per_person=busy / len(ordered),
        cost_per_person=paid / len(ordered) / 3600 * numbers.gpu_hour_price,
        latency_p50=ordered[len(ordered) // 2],
        latency_p95=ordered[int(0.95 * (len(ordered) - 1))],
    )


def _runs(
    strategy: Strategy, gpus: int, people_per_gpu: int, per_gpu_hour: float | None, numbers: Numbers = NUMBERS
) -> dict[str, float]:
    """Medians over the seeds. Without a rate everybody has asked before the start."""
    outcomes = [
        asdict(simulate(numbers, strategy, gpus, _arrivals(random.Random(seed), gpus, people_per_gpu, per_gpu_hour)))
        for seed in SEEDS
    ]
    return {name: statistics.median(outcome[name] for outcome in outcomes) for name in outcomes[0]}


def _arrivals(chance: random.Random, gpus: int, people_per_gpu: int, per_gpu_hour: float | None) -> list[float]:
    if per_gpu_hour is None:
        return [0.0] * (gpus * people_per_gpu)
    at, times = 0.0, []
    for _ in range(gpus * people_per_gpu):
        at += chance.expovariate(gpus * per_gpu_hour / 3600)
        times.append(at)
    return times


if __name__ == "__main__":
    main()
