"""Reading stamps: `stamps.read_stamps` against a plain loop of ``astropy.io.fits.getdata``.

    python benchmarks/read_stamps.py --n 10000

Writes n stamps of 101 x 101 float32 to a temporary folder (46 kB each) and reads them from the file system's cache:
what is timed is the work of the processor.  Prints a table of medians of three; the first parallel read, which starts
the worker processes, stands apart.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

import astropy
import joblib
import numpy as np
from astropy.io import fits

from lensdet.data.stamps import KEYWORDS, read_stamps, write_stamp


def plain_loop(paths):
    """The least that one would write; checks nothing, keeps no keyword."""
    return np.stack([fits.getdata(path) for path in paths]).astype(np.float32)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--profile", default="quick", choices=["smoke", "quick"], help="smoke: as little as shows that it runs"
    )
    parser.add_argument("--n", type=int, default=10_000, help="number of stamps")
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(n=20)
        options = parser.parse_args()
    n = options.n
    rng = np.random.default_rng(0)
    truth = dict.fromkeys(KEYWORDS.values(), 1.5)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.fits" for i in range(n)]
        for path in paths:
            write_stamp(path, rng.normal(size=(101, 101)), truth)
        reads = {
            "plain loop of getdata": lambda: plain_loop(paths),
            "read_stamps, 1 worker": lambda: read_stamps(paths, workers=1, description=None),
            "read_stamps, all cores": lambda: read_stamps(paths, description=None),
        }
        first = seconds(reads["read_stamps, all cores"])
        # In turns, so that a change of the machine's load meets all of them.
        rounds = [{name: seconds(read) for name, read in reads.items()} for _ in range(3)]
    times = {name: median(r[name] for r in rounds) for name in reads}
    base = times["plain loop of getdata"]
    print(f"n = {n}, median of 3; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},")
    print(f"astropy {astropy.__version__}, joblib {joblib.__version__}, numpy {np.__version__}\n")
    print("| | seconds | us a stamp | times the loop's speed |\n|---|---|---|---|")
    for name, t in {**times, "read_stamps, all cores, first call": first}.items():
        print(f"| {name} | {t:.2f} | {1e6 * t / n:.0f} | {base / t:.2f} |")


if __name__ == "__main__":
    main()
