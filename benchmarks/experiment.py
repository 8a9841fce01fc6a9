"""Minutes and peak memory of one experiment as a user runs it: papermill in a fresh folder, all processes together.

python benchmarks/experiment.py --runs 1
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def main():
    """Run, sample the resident memory of the process tree twice a second, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params/fbeta.yaml")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {f"LENSDET_{name}": str(Path(folder) / name.lower()) for name in ("BUILD", "RESULTS", "FIGURES")}
        command = [
            sys.executable,
            "-m",
            "papermill",
            "notebooks/02_losses.py",
            str(Path(folder) / "out.ipynb"),
            "-f",
            options.params,
            "-p",
            "profile",
            options.profile,
            "-p",
            "runs",
            str(options.runs),
        ]
        began, peak = time.monotonic(), 0
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | places, stderr=subprocess.DEVNULL)
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(tree))
            time.sleep(0.5)
        minutes = (time.monotonic() - began) / 60
    print(
        f"{options.params}, profile {options.profile}, {options.runs} run(s), {os.cpu_count()} cores: "
        f"exit {process.returncode}, {minutes:.1f} minutes, peak memory {peak / 1e9:.2f} GB"
    )
    return process.returncode


def _resident(tree):
    total = 0
    for process in [tree, *tree.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass
    return total


if __name__ == "__main__":
    sys.exit(main())
