"""Training: chunks, selection, early stopping, exact resume (sections 3.5, 4.2, 4.4).

Keras and its backend take seconds to import, and half a gigabyte: functions do so that have a network at hand.
"""

import argparse
import gc
import json
import math
import os
import shutil
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from lensdet import runs as results
from lensdet import storage
from lensdet.data import bank as bank_room
from lensdet.data import frozen_sets, maxtree, mocklens, stamps
from lensdet.evaluation import ensembles
from lensdet.experiments import ENSEMBLES, NETWORKS
from lensdet.parameters import ADDED_LATER, read_yaml, resolve

# Processes share the memory of a GPU, of which one of either backend would else take all or nearly all.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
SAVE_SECONDS = 60  # between two saves of the state; a run that was killed repeats at most this much


def banner(parameters, experiments=None):
    """What will run, and on what: a line to print first; warns where a CPU would need days.

    Without ``experiments``, those of the parameters.
    """
    todo = _missing(parameters, bank_room.data_key(parameters), experiments or parameters.experiments)
    networks = [experiment for _, experiment in todo if experiment in ENSEMBLES]
    runs = len(todo) - len(networks)
    if not todo:
        return f"profile {parameters.profile}: all runs are there"
    line = f"profile {parameters.profile}: {runs} runs to train, {parameters.chunks} chunks each"
    if networks:
        word = "network" + "s" * (len(networks) > 1)
        line += f", and {len(networks)} {word} of ensembles, {parameters.dynamic_chunks} chunks each"
    lines = [f"{line}; {results.device()}"]
    # a step is three passes of a network, and one of each member
    chunks = runs * parameters.chunks
    chunks += parameters.dynamic_chunks * sum(1 + ENSEMBLES[experiment].size / 3 for experiment in networks)
    images = chunks * parameters.chunk_size
    # measured on 2 cores: 50 images a second at full width; the cost goes with the square of the width, slower below
    hours = images / (50 * min(8.0, (64 / parameters.width) ** 2)) / 3600
    if "CPU" in results.device() and hours > 24:
        lines.append(f"WARNING: on this CPU that is about {hours:,.0f} hours; use a GPU, or -p profile quick")
    return "\n".join(lines)


class Busy(RuntimeError):
    """Another process is training this run, or the members of this ensemble."""


def train_missing(parameters, progress=True, minutes=None, after=None, experiments=None):
    """Train the runs that are not there yet, the first run of every experiment first.

    Several processes may do so at once: each takes runs that no other is at, and waits at the end for the others.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    progress : bool
        Show a bar for each run.
    minutes : float, optional
        Stop after this time.  A run that is under way then is saved and taken up by the next call; none is begun that
        would probably not end in time, going by the longest one of this call.
    after : callable, optional
        Called after each run.
    experiments : list of str, optional
        Other than those of the parameters: ``IDE_3``, ``IDE_6``, whose members must be there with their weights.

    Returns
    -------
    str
        The key of the data.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    key, longest = bank_room.data_key(parameters), 0.0
    todo = _missing(parameters, key, experiments or parameters.experiments)
    if not todo:
        if not frozen_sets.has_truth(parameters, key):
            frozen_sets.write_truth(parameters, bank_room.open_bank(parameters))
        _large_again(parameters, key, experiments or parameters.experiments)
    if todo:
        bank = _open_bank(parameters, todo[0][1])
        frozen_sets.write_truth(parameters, bank)
        if frozen_sets.has_large(parameters):  # simulated before the first training, and kept in build/
            frozen_sets.large_set(parameters)
        learners, busy = _learners(parameters, bank), []
        for run, experiment in todo:
            began = time.monotonic()
            if began + longest > deadline:
                break
            try:
                train(parameters, experiment, run, bank, progress, deadline, learners=learners)
            except Busy:
                busy.append((run, experiment))
                continue
            longest = max(longest, time.monotonic() - began)
            gc.collect()  # the network of an ensemble, before the next one is made
            if after is not None:
                after()
        for run, experiment in busy:  # another process is at it: wait for it, and take the run up if it was stopped
            wait = max(0.0, deadline - time.monotonic())
            try:
                train(parameters, experiment, run, bank, progress, deadline, wait, learners)
            except Busy as reason:
                print(reason, flush=True)
            gc.collect()
        del learners  # with the stamps on the device: a notebook may train others next
        gc.collect()
    return key


def _large_again(parameters, key, experiments):
    """Write the truth of the large test set where runs were scored on it and it is gone."""
    there = (frozen_sets.large_folder(parameters) / name for name in ("rows.h5", "truth.csv"))
    if not frozen_sets.has_large(parameters) or all(path.exists() for path in there):
        return
    folders = (folder for experiment in experiments for folder in results.complete_runs(parameters, experiment, key))
    if any(results.scored_on_large(folder, frozen_sets.large_key(parameters)) for folder in folders):
        frozen_sets.large_set(parameters)


def _open_bank(parameters, experiment):
    """The bank; the first training is compiled while it is simulated (if that fails, the training will say so)."""
    from lensdet.network import engine

    with ThreadPoolExecutor(1) as ahead:
        if not parameters.data and experiment not in ENSEMBLES:
            ahead.submit(engine.compile_ahead, parameters, experiment,
                         parameters.n_lrg + parameters.n_contaminant, parameters.n_source)  # fmt: skip
        return bank_room.open_bank(parameters)


def _missing(parameters, key, experiments):
    return [
        (run, loss)
        for run in range(1, parameters.runs + 1)
        for loss in experiments
        if not results.is_complete(results.run_folder(parameters, loss, run, key))
    ]


def load_network(folder, selector="loss"):
    """The network of a run at a selector's checkpoint: stretched stamps (N, 101, 101, 1) in, probabilities (N, 1) out.

    A DE_m leaves the weights of its members, (N, m).

    Only weights are read; nothing in the file is executed.

    Raises
    ------
    FileNotFoundError
        Weights are not part of the packed results: train the run to have them.
    """
    from lensdet.network import resnet

    folder = Path(folder)
    path = folder / f"{selector}.weights.h5"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no weights; remove the folder {folder} and run the notebook to train them")
    p = ADDED_LATER | json.loads(storage.checked(folder / "parameters.json", folder).read_text())
    last = {"outputs": len(p["members"]), "activation": "softmax"} if "members" in p else {}
    model = resnet.resnet18(p["width"], p["momentum"], p["l2"], precision=p["precision"], **last)
    model.load_weights(path)
    return model


def score_stamps(run_folder, folder, paths, pixels):
    """Logits of real stamps by a run, kept in its folder (``real.csv``) so that they can be shown without its weights.

    Parameters
    ----------
    run_folder : Path
        The checkpoint of lowest validation loss is used.
    folder : Path
        Of the stamps; they are known by their path in it and by their pixels.
    paths : list of Path
    pixels : float32 array (n, 101, 101)
        As read; normalised (Eq. 4.1) and stretched here.

    Returns
    -------
    float array (n,), or None where there are neither weights nor kept scores of these files
    """
    if not paths:
        return None
    sums = [zlib.crc32(np.ascontiguousarray(image)) for image in pixels]
    names = [f"{path.relative_to(folder).as_posix()}#{crc:08x}" for path, crc in zip(paths, sums, strict=True)]
    kept = run_folder / "real.csv"
    known = pd.read_csv(storage.checked(kept)).set_index("file")["logit"].to_dict() if kept.exists() else {}
    if set(names) <= known.keys():
        return np.array([known[name] for name in names])
    if not (run_folder / "loss.weights.h5").exists():
        return None
    from lensdet.network import resnet
    from lensdet.network.engine import PREDICT_BATCH

    network = resnet.logit_model(load_network(run_folder))
    images = np.sqrt(stamps.normalise(pixels))
    parameters = json.loads(storage.checked(run_folder / "parameters.json", run_folder).read_text())
    added = {name: value for name, value in ADDED_LATER.items() if name in maxtree.Settings._fields}
    if settings := parameters.get("segmentation"):
        images = maxtree.segment(images, maxtree.Settings(**added | settings))
    images = images[..., None]
    batches = [images[i : i + PREDICT_BATCH] for i in range(0, len(images), PREDICT_BATCH)]
    logits = np.concatenate([np.asarray(network(batch, training=False))[:, 0] for batch in batches])
    known |= dict(zip(names, logits.tolist(), strict=True))
    with storage.sealing(kept):
        storage.write_csv(kept, pd.DataFrame({"file": known.keys(), "logit": known.values()}))
    return logits


def train(parameters, experiment, run, bank, progress=True, deadline=math.inf, wait=0.0, learners=None):
    """Train one run, or take it up where it was left, and leave its folder complete.

    The folder then holds ``parameters.json``, ``provenance.json``, ``history.csv``, ``<selector>.weights.h5`` and last
    ``logits.h5``, which makes it complete, with the sums of all but the weights; see `lensdet.runs`.  A run that is
    killed at any moment and started again ends with the same history and weights as one that was not (on a CPU, bit for
    bit).

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    experiment : str
        One of ``experiments``: a loss.  Or ``IDE_3`` or ``IDE_6``: the DE_m of that ensemble (section 3.6.2).
    run : int
        From 1; run i has the same initial weights and training rows in every experiment, and is a DE_m's of the
        members' runs i.  A DE_m takes other rows than its members were trained on.
    bank : lensdet.data.bank.Bank
    progress : bool
        Show a bar with chunk, losses, images a second and time left.
    deadline : float
        On the clock of `time.monotonic`: a run that has not ended then is saved and left for another call.
    wait : float
        Seconds to wait for another process that is at work in the same folder.
    learners : callable, optional
        Gives the network of an experiment and a run, for several calls with the same parameters and bank.

    Raises
    ------
    Busy
        Where another process is still at work in the same folder, or a member of the ensemble is not trained yet.
    FileNotFoundError
        Where the weights of a member are not there.
    """
    folder = results.run_folder(parameters, experiment, run, bank.data_key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=wait if wait < math.inf else -1):
            if not results.is_complete(folder):
                for half in folder.glob(".????????.*"):  # left by a process that was killed in the middle of a save
                    half.unlink()
                learner = (learners or _learners(parameters, bank))(experiment, run)
                _train(parameters, experiment, run, bank, folder, progress, deadline, learner)
    except Timeout:
        raise Busy(f"{folder}: another process is training this run; wait for it or stop it") from None


def _learners(p, bank):
    """The network of an experiment and a run, by a function of both; the runs of a loss share what is compiled."""
    from lensdet.network.engine import Learner, on_device
    from lensdet.network.ensemble_network import DynamicEnsembler

    stamps_on_device, finders = cache(lambda: on_device(*mocklens.device_bank(bank, "train"))), {}

    def learner(experiment, run):
        if experiment in finders:
            finders[experiment].restart(run)
            return finders[experiment]
        if experiment not in ENSEMBLES:
            finders[experiment] = Learner(p, experiment, run, *stamps_on_device())
            return finders[experiment]
        members = ensembles.run_members(p, bank.data_key, ENSEMBLES[experiment].members, run)
        if waiting := sorted({str(folder) for folder, _ in members if not results.is_complete(folder)}):
            raise Busy(f"{experiment} run {run} needs members that are not trained yet: {', '.join(waiting)}")
        networks = [load_network(folder, selector) for folder, selector in members]
        found = DynamicEnsembler(p.dynamic(), networks, run, *stamps_on_device())
        found.made_from = [results.fingerprint(*member) for member in members]
        return found

    return learner


def _train(p, experiment, run, bank, folder, progress, deadline, learner):
    from lensdet.network.engine import on_device

    size = mocklens.sizes(bank, "train")
    storage.write_json(folder / "parameters.json", p.experiment(experiment, bank.data_key) | {"run": run})
    last, before = p.chunks, 0  # the chunk after those of a finder is scored, and no part of a training
    if experiment in ENSEMBLES:
        p, before = p.dynamic(), last + 1
    validation = on_device(*mocklens.device_bank(bank, "validation"))
    frozen_size = mocklens.sizes(bank, "validation")
    frozen = frozen_sets.frozen_rows(p, "validation", frozen_size)

    masks = _masks(p, bank)
    frozen_masks = masks("validation", frozen)

    def select(rows, masks):
        values = np.asarray(learner.validate(rows, validation, masks)).tolist()
        return dict(zip(learner.selectors, values, strict=True))

    def drawn_chunk(chunk):
        rows, warps = mocklens.training_rows(p, run, before + chunk, size)
        others = None
        if p.redraw_validation:
            others = frozen_sets.frozen_rows(p, "validation", frozen_size, (p.seed, run, chunk + 1))
            others = others, masks("validation", others)
        return (rows, warps, masks("train", rows)), others

    draw = ThreadPoolExecutor(1)  # the host draws and segments the next chunk while the device trains

    state = _State.load(folder / "state.npz", learner)
    saved = began = time.monotonic()
    first = chunk = len(state.history)
    ahead = draw.submit(drawn_chunk, chunk)
    label = f"{experiment} run {run}"
    with draw, tqdm(total=p.chunks, initial=first, unit="chunk", desc=label, disable=not progress) as bar:
        while chunk < p.chunks and not state.stopped(p.patience):
            (drawn, others), ahead = ahead.result(), draw.submit(drawn_chunk, chunk + 1)
            steps = learner.train_chunk(*drawn)
            if n := p.batch_norm_images:
                learner.average_statistics(*(None if part is None else part[-n:] for part in drawn))
            scores = select(frozen, frozen_masks)
            if others is not None:
                scores |= {name: value for name, value in select(*others).items() if name.startswith("code_")}
            mean = float(np.asarray(steps).mean())
            state.add({"chunk": chunk, "training_loss": mean, **scores}, learner)
            chunk += 1
            now = time.monotonic()
            speed = (chunk - first) * p.chunk_size / (now - began)
            bar.set_postfix({"loss": f"{mean:.3f}", "val": f"{scores['loss']:.3f}", "images/s": f"{speed:.0f}"}, False)
            bar.update()
            if now - saved > SAVE_SECONDS or now > deadline:
                state.save(folder / "state.npz", learner, state.seconds + now - began)
                saved = now
            if now > deadline and chunk < p.chunks and not state.stopped(p.patience):
                return
    state.seconds += time.monotonic() - began
    state.save(folder / "state.npz", learner, state.seconds)
    _finish(p, experiment, run, last, bank, folder, learner, state, masks)


def _masks(p, bank):
    """The masks of rows of a split, a function of both; None of any without segmentation."""
    settings = p.maxtree()
    of = cache(lambda split: mocklens.masker(settings, *mocklens.device_bank(bank, split)))
    return lambda split, rows: None if settings is None else of(split)(rows)


def _finish(p, experiment, run, last, bank, folder, learner, state, masks):
    """Score every frozen set with every selector's checkpoint, and write the run folder; ``logits.h5`` comes last."""
    from lensdet.network.engine import on_device

    sets = {
        name: (split, frozen_sets.frozen_rows(p, name, mocklens.sizes(bank, split)))
        for name, split in frozen_sets.FROZEN.items()
    }
    # a training chunk that was not trained on, not augmented: what the published ensembles were fitted on
    sets["training"] = "train", mocklens.training_rows(p, run, last, mocklens.sizes(bank, "train"))[0]
    logits = {selector: {} for selector in learner.selectors}
    split_on_device = cache(lambda s: learner.bank if s == "train" else on_device(*mocklens.device_bank(bank, s)))
    hidden = cache(lambda name: masks(*sets[name]))
    for chunk, weights in state.kept.items():
        learner.set(weights)
        sharing = [selector for selector in learner.selectors if state.best[selector][1] == chunk]
        for name, (split, rows) in sets.items():
            if name != "information" or "loss" in sharing:
                scored = learner.logits(rows, split_on_device(split), hidden(name))
                for selector in ["loss"] if name == "information" else sharing:
                    logits[selector][name] = scored
        first = folder / f"{sharing[0]}.weights.h5"
        with storage.atomic(first) as beside:
            learner.model.save_weights(beside)
        for selector in sharing[1:]:
            with storage.atomic(folder / f"{selector}.weights.h5") as beside:
                shutil.copyfile(first, beside)
    beside = [_score_large(p, experiment, folder, learner, state)] if frozen_sets.has_large(p) else []
    chosen = {selector: chunk for selector, (_, chunk) in state.best.items()}
    made = {"seconds": round(state.seconds, 1), "chosen": chosen}
    if learner.made_from:
        made["members"] = learner.made_from
    made = {**results.provenance(), **made}
    files = "parameters.json", "history.csv", "provenance.json", "logits.h5", *beside
    with storage.sealing(*(folder / name for name in files)):
        storage.write_csv(folder / "history.csv", pd.DataFrame(state.history))
        storage.write_json(folder / "provenance.json", made)
        results.write_logits(folder / "logits.h5", logits, {name: rows for name, (_, rows) in sets.items()})
    (folder / "state.npz").unlink()


def _score_large(p, experiment, folder, learner, state):
    """Leave logits of the large test set, by the selectors of the tables' rows; returns the name of the file."""
    from lensdet.network.engine import on_device

    rows_of_tables = [s for n in NETWORKS.values() if n.loss == experiment for s in n.checkpoint.values()]
    further = dict.fromkeys(["loss", *(rows_of_tables or ["code_loss"])])
    wanted = learner.selectors if experiment in ENSEMBLES else further
    settings, (bank, rows) = p.maxtree(), frozen_sets.large_set(p)
    chunks = {selector: state.best[selector][1] for selector in wanted}
    scored = {chunk: [] for chunk in chunks.values()}
    for part, hosts, sources in frozen_sets.blocks(bank, frozen_sets.LARGE, rows):
        masks = None if settings is None else mocklens.masker(settings, hosts, sources)(part)
        pixels = on_device(hosts, sources)
        for chunk, logits in scored.items():
            learner.set(state.kept[chunk])
            logits.append(learner.logits(part, pixels, masks))
    scored = {chunk: np.concatenate(logits) for chunk, logits in scored.items()}
    logits = {selector: scored[chunk] for selector, chunk in chunks.items()}
    results.write_large(folder / "large.h5", logits, frozen_sets.large_key(p))
    return "large.h5"


class _State:
    """What a run has reached: history, the best chunk of each selector, the weights of those chunks."""

    def __init__(self):
        self.history, self.best, self.kept, self.seconds = [], {}, {}, 0.0

    def add(self, row, learner):
        self.history.append(row)
        weights = None  # fetched once, if any selector wants them
        for selector, direction in learner.selectors.items():
            sign = 1 if direction == "max" else -1
            value, _ = self.best.get(selector, (None, -1))
            # a number is better than none; of several that are none the first is kept, and patience runs out
            if value is None or np.isnan(value) > np.isnan(row[selector]) or sign * row[selector] > sign * value:
                self.best[selector] = (row[selector], row["chunk"])
                weights = learner.get() if weights is None else weights
                self.kept[row["chunk"]] = weights
        wanted = {chunk for _, chunk in self.best.values()}
        self.kept = {chunk: weights for chunk, weights in self.kept.items() if chunk in wanted}

    def stopped(self, patience):
        """Whether the validation loss has not become better for ``patience`` chunks (section 4.4)."""
        return bool(self.history) and len(self.history) - 1 - self.best["loss"][1] >= patience

    def save(self, path, learner, seconds):
        arrays = {f"now/{i}": np.asarray(v) for i, v in enumerate(learner.get(every=True))}
        arrays |= {f"kept/{chunk}/{i}": w for chunk, weights in self.kept.items() for i, w in enumerate(weights)}
        text = json.dumps({"history": self.history, "best": self.best, "seconds": seconds})
        with storage.atomic(path) as beside:
            np.savez(beside, text=np.array(text), **arrays)

    @classmethod
    def load(cls, path, learner):
        """The state that was saved, put into the learner; a fresh one where there is none."""
        state = cls()
        if not path.exists():
            return state
        with np.load(path, allow_pickle=False) as file:
            text = json.loads(str(file["text"]))
            state.history, state.seconds = text["history"], text["seconds"]
            state.best = {selector: tuple(pair) for selector, pair in text["best"].items()}
            learner.set([file[f"now/{i}"] for i in range(len(learner.variables))])
            n = len(learner.model.variables)
            for _, chunk in state.best.values():
                state.kept[chunk] = [file[f"kept/{chunk}/{i}"] for i in range(n)]
        return state


def main(arguments=None):
    """Train what is missing, without a notebook; returns the exit status, 3 where runs are still missing."""
    parser = argparse.ArgumentParser(
        prog="python -m lensdet train",
        description="Train the runs that are missing in results/, for as long as there is time. Say it again to go on: "
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
        print(banner(p, wanted), flush=True)
    key, began = bank_room.data_key(p), time.monotonic()

    def pack():
        folders = [f for experiment in wanted for f in results.complete_runs(p, experiment, key)]
        scored = any(results.scored_on_large(folder, frozen_sets.large_key(p)) for folder in folders)
        results.pack(
            options.pack, [*folders, frozen_sets.truth_folder(p, key), *[frozen_sets.large_folder(p)] * scored]
        )

    if options.jobs > 1:
        frozen_sets.write_truth(p, bank_room.open_bank(p))  # once, by all cores
        if frozen_sets.has_large(p):
            frozen_sets.large_set(p)
        get_reusable_executor().shutdown()  # the processes that simulated would wait for minutes, in memory
        given = sys.argv[1:] if arguments is None else arguments
        for part in [False, True][: 1 + options.ensembles]:  # members first
            left = [] if options.minutes is None else [f"--minutes={options.minutes - (time.monotonic() - began) / 60}"]
            _side_by_side([a for a in given if part or a != "--ensembles"] + left, options.jobs)
    else:
        train_missing(p, minutes=options.minutes, after=pack if options.pack else None, experiments=wanted)
    if options.pack:
        pack()
    left = len(_missing(p, key, wanted))
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
