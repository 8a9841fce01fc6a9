"""Trainings without a notebook, several side by side in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from joblib.externals.loky import get_reusable_executor

from lensdet import runs
from lensdet.data import frozen_sets
from lensdet.data.bank import data_key, open_bank
from lensdet.evaluation import ensembles
from lensdet.network import training
from lensdet.parameters import resolve

# Processes share the memory of a GPU, of which one of either backend would else take all or nearly all.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def train(
    given: dict[str, Any],
    with_ensembles: bool = False,
    jobs: int = 1,
    minutes: float | None = None,
    pack: Path | None = None,
    shard: tuple[int, int] = (1, 1),
) -> int:
    """Train what is missing; returns how many runs are still missing.

    Parameters
    ----------
    given : dict
        Parameters by name, for `lensdet.parameters.resolve`.
    with_ensembles : bool
        The networks of the input-dependent ensembles too, after their members.
    jobs : int
        Runs that are trained at once, each in a process with its share of the cores.
    minutes : float, optional
        No run is begun that would not end in this time, and one that does not is left to be resumed.
    pack : Path, optional
        A ZIP file to put all complete runs into, after each run and in the end.
    shard : tuple of int
        (I, N): of all runs the I-th alone, and each N-th from there on.

    Raises
    ------
    lensdet.parameters.ParameterError
    """
    p, began = resolve(given), time.monotonic()
    wanted = [*p.experiments, *(ensembles.dynamic(p) if with_ensembles else [])]
    key, part = data_key(p), slice(shard[0] - 1, None, shard[1])

    def pack_runs():
        complete = [run for experiment in wanted for run in runs.complete_runs(p, experiment, key)]
        folders = [*(run.folder for run in complete), frozen_sets.truth_folder(p, key)]
        if any(run.scored_on_large(frozen_sets.large_key(p)) for run in complete):
            folders.append(frozen_sets.large_folder(p))
        runs.pack(pack, folders)

    if jobs > 1:
        frozen_sets.write_truth(p, open_bank(p))  # once, by all cores
        if frozen_sets.has_large(p):
            frozen_sets.large_set(p)
        get_reusable_executor().shutdown()  # the processes that simulated would wait for minutes, in memory
        words = [word for name, value in given.items() for word in ("-p", name, _text(value))]
        for more in ([], ["--ensembles"])[: 1 + with_ensembles]:  # members first
            left = [] if minutes is None else [f"--minutes={minutes - (time.monotonic() - began) / 60}"]
            more = [*more, f"--shard={shard[0]}/{shard[1]}"]
            _processes([*words, *more, *left, *(["--pack", str(pack)] if pack else [])], jobs)
    else:  # each of several says for itself what it trains
        print(training.banner(p, wanted, part), flush=True)
        training.train_missing(p, minutes=minutes, after=pack_runs if pack else None, experiments=wanted, part=part)
    if pack:
        pack_runs()
    return len(training.missing(p, key, wanted, part))


def _text(value):
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _processes(arguments, jobs):
    """``lensdet train`` in several processes, which share the cores and the runs."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    environment = SHARED | os.environ | dict.fromkeys(names, threads)
    command = [sys.executable, "-m", "lensdet", "train", *arguments]
    processes = [subprocess.Popen(command, env=environment | {"TQDM_POSITION": str(i)}) for i in range(jobs)]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
