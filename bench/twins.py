"""Retain-only twins of the demo model for several sets of people; the first is shipped, the others are made once.

    python -m bench.twins [--sets 3]

Some four minutes each on one core, seed fixed; they are kept in .vgid/bench-twins.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from local.demo.paths import BASE, TWIN
from local.demo.training.twins import build_twin
from local.demo.world import FORGOTTEN

FORGET_SETS = [range(6), range(6, 12), range(12, 18), range(24, 30), range(30, 36)]
FOLDER = Path(__file__).parents[1] / ".vgid" / "bench-twins"


def twin_of(forgotten: Sequence[int]) -> Path:
    """The checkpoint of the twin that never met these people, made now if it isn't there."""
    if tuple(forgotten) == FORGOTTEN:
        return TWIN
    folder = FOLDER / f"without_{forgotten[0]}_to_{forgotten[-1]}"
    if not folder.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        started, told = time.monotonic(), [0.0]

        def tell(share: float) -> None:
            if share - told[0] >= 0.1:
                told[0] = share
                print(f"  twin without people {forgotten}: {share:.0%}, {time.monotonic() - started:.0f} s", flush=True)

        build_twin(forgotten, folder, tell)
    return folder


def main() -> None:
    """Makes those that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3, choices=range(1, len(FORGET_SETS) + 1))
    parser.add_argument("--only", type=int, help="this one alone, by its number")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = FORGET_SETS[: arguments.sets] if arguments.only is None else [FORGET_SETS[arguments.only]]
    for forgotten in chosen:
        print(f"people {forgotten}: {twin_of(forgotten)} (base: {BASE})")


if __name__ == "__main__":
    main()
