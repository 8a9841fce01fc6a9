"""``python -m lensdet train``: trainings without a notebook, several side by side."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from joblib.externals.loky import get_reusable_executor

from lensdet import runs
from lensdet.data import frozen_sets
from lensdet.data.bank import data_key, open_bank
from lensdet.evaluation import ensembles
from lensdet.network import training
from lensdet.parameters import read_yaml, resolve

# Processes share the memory of a GPU, of which one of either backend would else take all or nearly all.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, without a notebook; returns the exit status, 3 where runs are still missing."""
    parser = argparse.ArgumentParser(
        prog="python -m lensdet train",
        description="Train the runs that are missing in results/, for as long as there is time. Run again, it resumes: "
        "a run that was stopped is taken up where it was, and what is complete is left alone.",
        epilog="exit status: 0 when all runs are there, 3 when some are still missing",
    )
    parser.add_argument("-f", dest="file", help="a file of parameters, such as params/fbeta.yaml")
    parser.add_argument("-p", dest="given", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--minutes", type=float, help="stop after this time (default: when all is done)")
    more = "train N runs side by side, each in a process with its share of the cores (default: 1)"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=more)
    more = "also the networks DE_m of the input-dependent ensembles, after their members"
    parser.add_argument("--ensembles", action="store_true", help=more)
    parser.add_argument("--pack", type=Path, metavar="ZIP", help="put all complete runs of these experiments, without "
                        "weights, into a file; `python -m zipfile -e ZIP results/` unpacks it")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        from_file = read_yaml(options.file) if options.file else {}
        p = resolve({**from_file, **{name: yaml.safe_load(value) for name, value in options.given}})
        wanted = [*p.experiments, *(ensembles.dynamic(p) if options.ensembles else [])]
    except (ValueError, OSError, yaml.YAMLError) as error:
        parser.error(str(error))
    if options.jobs == 1:  # each of several says so for itself; this process goes without Keras
        print(training.banner(p, wanted), flush=True)
    key, began = data_key(p), time.monotonic()

    def pack():
        complete = [run for experiment in wanted for run in runs.complete_runs(p, experiment, key)]
        folders = [*(run.folder for run in complete), frozen_sets.truth_folder(p, key)]
        if any(run.scored_on_large(frozen_sets.large_key(p)) for run in complete):
            folders.append(frozen_sets.large_folder(p))
        runs.pack(options.pack, folders)

    if options.jobs > 1:
        frozen_sets.write_truth(p, open_bank(p))  # once, by all cores
        if frozen_sets.has_large(p):
            frozen_sets.large_set(p)
        get_reusable_executor().shutdown()  # the processes that simulated would wait for minutes, in memory
        for part in [False, True][: 1 + options.ensembles]:  # members first
            left = [] if options.minutes is None else [f"--minutes={options.minutes - (time.monotonic() - began) / 60}"]
            _side_by_side([a for a in arguments if part or a != "--ensembles"] + left, options.jobs)
    else:
        training.train_missing(p, minutes=options.minutes, after=pack if options.pack else None, experiments=wanted)
    if options.pack:
        pack()
    left = len(training.missing(p, key, wanted))
    print(f"{left} of {p.runs * len(wanted)} runs still missing" if left else "all runs are there", flush=True)
    return 3 if left else 0


def _side_by_side(arguments, jobs):
    """Run this command in several processes, which share the cores and the runs."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    environment = SHARED | os.environ | dict.fromkeys(names, threads)
    command = [sys.executable, "-m", "lensdet", "train", *arguments, "--jobs", "1"]  # the last one counts
    processes = [subprocess.Popen(command, env=environment | {"TQDM_POSITION": str(i)}) for i in range(jobs)]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
