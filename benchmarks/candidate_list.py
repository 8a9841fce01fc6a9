"""Seconds and peak memory of writing a ranked list: python benchmarks/candidate_list.py [--rows 1e6]

Rows as two finders leave them; a tenth as many are left out.  Memory is that of the process; what it has before it
writes, its libraries and the rows themselves, is given, too.
"""

import argparse
import resource
import tempfile
import time

import numpy as np
import pandas as pd

from lensdet.data.stamps import Rejection
from lensdet.profiles import PROFILES
from lensdet.survey import candidate_list

FINDERS = ["thesis/bce", "thesis/fbeta"]


def candidates(rows: int) -> pd.DataFrame:
    """A ranked list, as `ranking.run` has it."""
    rng = np.random.default_rng(1)
    logits = {name: rng.normal(size=rows) for name in ("ensemble", *FINDERS)}
    ids = np.array([f"field_{i % 100}/{i:07d}.fits" for i in range(rows)], object)
    place = {"ra": rng.uniform(0, 360, rows), "dec": rng.uniform(-90, 90, rows), "filled": 0}
    return pd.DataFrame({"rank": np.arange(1, rows + 1), "id": ids, **place, **logits})


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=list(PROFILES), help="smoke: a thousand rows")
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = 1000 if options.profile == "smoke" else int(options.rows)
    ranked = candidates(rows)
    rejections = [Rejection(f"bad/{i}.fits", "saturated", "12 connected pixels at 5270") for i in range(rows // 10)]
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(options.rounds):
        start, used = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            candidate_list.write(folder, ranked, rejections, FINDERS, {"rank_by": "ensemble"})
        seconds.append((time.perf_counter() - start, time.process_time() - used))
    took, used = np.median(seconds, axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("| rows | seconds | of them CPU | peak memory (GB) | before writing (GB) |\n| --- | --- | --- | --- | --- |")
    print(f"| {rows:,} | {took:.1f} | {used:.1f} | {peak / 1e6:.2f} | {before / 1e6:.2f} |")


if __name__ == "__main__":
    main()
