"""`make fuzz`: a million mutated records, in processes of their own; figures as JSON, what breaks as files.

A failing record lies in `fuzz-failures/`; put it into `tests/unit/test_fuzz.py` with the mend.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.drive import SLOW_SECONDS, Driver
from tests.fuzz.mutate import mutated, seeds

BATCH = 1_000
FAILURES = Path("fuzz-failures")


def main() -> None:
    """Run, print the figures, and end with 1 when anything broke."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    begun, share = time.perf_counter(), -(-given.inputs // given.jobs)
    with ProcessPoolExecutor(given.jobs) as pool:
        parts = list(pool.map(run, [given.seed + job for job in range(given.jobs)], [share] * given.jobs))
    outcomes = sum((Counter(part["outcomes"]) for part in parts), Counter[str]())
    figures = {
        "inputs": share * given.jobs,
        "seconds": round(time.perf_counter() - begun, 1),
        "broken": sum(part["broken"] for part in parts),
        "slowest_ms": max(part["slowest_ms"] for part in parts),
        "peak_mib": max(part["peak_mib"] for part in parts),
        "outcomes": dict(sorted(outcomes.items())),
    }
    print(json.dumps(figures, indent=2))
    sys.exit(bool(figures["broken"]))


def run(seed: int, inputs: int) -> dict[str, object]:
    """Take in so many records; return what came of them."""
    rng, driver, known, broken = Random(seed), Driver(), seeds(seed=seed), 0
    for number in range(0, inputs, BATCH):
        for record in (mutated(rng, known) for _ in range(min(BATCH, inputs - number))):
            try:
                driver.take([record])
            except Exception:  # noqa: BLE001  whatever it is, it is what is looked for
                broken += 1
                _keep(record, traceback.format_exc())
    if driver.slowest[0] > SLOW_SECONDS:
        broken += 1
        _keep(driver.slowest[1], f"slow: {driver.slowest[0]} s")
    return {
        "outcomes": dict(driver.outcomes),
        "broken": broken,
        "slowest_ms": round(driver.slowest[0] * 1000, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _keep(record: bytes, why: str) -> None:
    FAILURES.mkdir(exist_ok=True)
    name = sha256(why.rsplit("File", 1)[-1].encode()).hexdigest()[:12]
    (FAILURES / f"{name}.record").write_bytes(record)
    (FAILURES / f"{name}.txt").write_text(why, "utf-8")


if __name__ == "__main__":
    main()
