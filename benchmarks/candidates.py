"""Ranking a survey: 50,000 stamps with all checks, against a plain loop of `getdata` with batched `predict`.

    python benchmarks/candidates.py [--stamps 50000] [--loop 4096]

Stamps are simulated (an eighth of them, each in its eight orientations) and written as FITS files first.  Prints
stamps a second of both, in turn in one process, and the largest memory of all processes together.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np
from astropy.io import fits
from joblib import Parallel, delayed

from lensdet import parameters
from lensdet.profiles import PROFILES
from lensdet.survey import ranking, scoring


def write(folder, i, p):
    """A simulated stamp in eight orientations."""
    from lensdet.data import simulation

    pixels, _ = simulation.render("contaminant" if i % 5 else "lrg", 40_000_000 + i, p)
    (folder / f"{i // 500:03d}").mkdir(parents=True, exist_ok=True)
    for k in range(8):
        turned = np.ascontiguousarray(np.rot90(pixels if k < 4 else pixels.T, k))
        fits.PrimaryHDU(turned).writeto(folder / f"{i // 500:03d}" / f"{i:05d}_{k}.fits")  # not synced one by one


def proportional():
    """Memory of this process and those it started, shared pages counted once, in GB."""
    mine, total = {os.getpid()}, 0
    for line in subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True).stdout.splitlines()[1:]:
        pid, parent = map(int, line.split())
        if parent in mine or pid in mine:
            mine.add(pid)
    for pid in mine:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(next(x for x in rollup.splitlines() if x.startswith("Pss:")).split()[1])
    return total / 1e6


def loop(paths, finders):
    """What one would write: a list, `getdata`, Eq. 4.1, `predict` in batches."""
    images = []
    for path in paths:
        pixels = fits.getdata(path).astype(np.float32)
        images.append(np.sqrt((pixels - pixels.min()) / (pixels.max() - pixels.min())))
    images = np.stack(images)[..., None]
    return {name: finder.network.predict(images, batch_size=128, verbose=0)[:, 0] for name, finder in finders.items()}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--profile", default="lite", choices=list(PROFILES), help="whose survey to simulate; "
                       "smoke: as little as shows that it runs")  # fmt: skip
    asked.add_argument("--stamps", type=int, default=50_000)
    asked.add_argument("--loop", type=int, default=4096, help="stamps of a round of the comparison (default: 4096)")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--finders", nargs="+", default=["thesis/bce", "thesis/fbeta"])
    options = asked.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        asked.set_defaults(stamps=16, loop=256, rounds=1, finders=["thesis/bce"])
        options = asked.parse_args()
    finders = ranking.load_finders(options.finders)
    p = parameters.resolve({"profile": options.profile})
    with tempfile.TemporaryDirectory() as temporary:
        folder, done = Path(temporary) / "survey", Path(temporary) / "list"
        Parallel(-1)(delayed(write)(folder, i, p) for i in range(-(-options.stamps // 8)))
        p = p.model_copy(update={"survey": folder, "pixel_scale": 0.2, "output": done})
        job = ranking.plan(p, finders)
        paths = [folder / name for name in job.ids]
        first = slice(options.loop)
        some = job._replace(ids=job.ids[first], ra=job.ra[first], dec=job.dec[first], places=job.places[first],
                            keys=job.keys[first])  # fmt: skip
        part = [folder / name for name in some.ids]
        times = {"loop": [], "lensdet": []}
        for k in range(options.rounds + 1):  # the first compiles, and starts processes
            began = time.perf_counter()
            plain = loop(part, finders)
            between = time.perf_counter()
            ours, _, _ = scoring.collect(some, scoring.score(some, finders, done / f"{k}", -1, False), finders)
            ended = time.perf_counter()
            if k:
                times["loop"].append(len(part) / (between - began))
                times["lensdet"].append(len(part) / (ended - between))
            first = next(iter(finders))
            same = np.abs(ours[f"logit/{first}"] - plain[first]).max()
        for name, speeds in times.items():
            print(f"{name}: {statistics.median(speeds):.0f} stamps/s (median of {options.rounds}, {min(speeds):.0f} to "
                  f"{max(speeds):.0f}; {len(part)} stamps, {len(finders)} finders)")  # fmt: skip
        print(f"largest difference of a logit: {same:.1e}")

        peak, stop = [0.0], threading.Event()

        def watch():
            while not stop.wait(0.5):
                peak[0] = max(peak[0], proportional())

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        table, rejections, _ = scoring.collect(job, scoring.score(job, finders, done / "all", -1, True), finders)
        seconds = time.perf_counter() - began
        stop.set()
        watcher.join()
        print(f"{len(table)} of {len(paths)} stamps scored in {seconds:.0f} s ({len(paths) / seconds:.0f} stamps/s), "
              f"{len(rejections)} left out, largest memory {peak[0]:.2f} GB of all processes; "
              f"backend {keras.backend.backend()}, {os.cpu_count()} cores")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
