"""Speed of the embedded survey: stamps a second and core of each class, the bank's first build and its opening again.

python benchmarks/survey.py
"""

import argparse
import os
import statistics
import tempfile
import time

from lensdet import parameters
from lensdet.data.bank import open_bank
from lensdet.profiles import PROFILES


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=list(PROFILES), help="whose stamps; "
                        "smoke: as little as shows that it runs")  # fmt: skip
    parser.add_argument("--n", type=int, default=200, help="stamps of each class a round")
    parser.add_argument("--bank", default="smoke", help="profile whose bank is built and opened again")
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(n=2)
        options = parser.parse_args()
    from lensdet.data import lensing, simulation

    p = parameters.resolve({"profile": options.profile})
    works = {
        "lensed source": lambda i: lensing.render_source(i, p),
        "LRG": lambda i: simulation.render("lrg", i, p),
        "contaminant": lambda i: simulation.render("contaminant", i, p),
    }
    print(f"one core, {options.n} stamps a round, medians of 3; sources at supersampling {p.supersampling}")
    for name, work in works.items():
        work(0)
        rounds = []
        for r in range(3):
            began = time.perf_counter()
            for i in range(options.n):
                work(r * options.n + i)
            rounds.append(options.n / (time.perf_counter() - began))
        print(f"{name:14s} {statistics.median(rounds):6.0f} a second and core")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LENSDET_BUILD"] = folder
        p = parameters.resolve({"profile": options.bank})
        began = time.perf_counter()
        bank = open_bank(p)
        built = time.perf_counter() - began
        again = []
        for _ in range(5):
            began = time.perf_counter()
            open_bank(p)
            again.append(time.perf_counter() - began)
        megabytes = bank.path.stat().st_size / 1e6
        print(f"bank of {options.bank}: {megabytes:.0f} MB built in {built:.1f} s on {os.cpu_count()} cores, "
              f"opened again in {1e3 * statistics.median(again):.1f} ms (median of 5)")  # fmt: skip


if __name__ == "__main__":
    main()
