"""Training: chunks, selection, early stopping, exact resume (sections 3.5, 4.2, 4.4).

Keras and its backend take seconds to import, and half a gigabyte: functions do so that have a network at hand.
"""

import gc
import math
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from lensdet import runs, storage
from lensdet.data import frozen_sets, mocklens
from lensdet.data.bank import Bank, data_key, open_bank
from lensdet.evaluation import ensembles
from lensdet.experiments import ENSEMBLES, NETWORKS
from lensdet.network.state import State
from lensdet.parameters import ADDED_LATER, Parameters
from lensdet.runs import Run

if TYPE_CHECKING:
    import keras

    from lensdet.network.engine import Learner

SAVE_SECONDS = 60  # between two saves of the state; a run that was killed repeats at most this much
EVERY = slice(None)


def banner(parameters: Parameters, experiments: Sequence[str] | None = None, part: slice = EVERY) -> str:
    """What will run, and on what: a line to print first; warns where a CPU would need days.

    Without ``experiments``, those of the parameters; ``part`` as in `missing`.
    """
    todo = missing(parameters, data_key(parameters), experiments or parameters.experiments, part)
    networks = [experiment for _, experiment in todo if experiment in ENSEMBLES]
    single = len(todo) - len(networks)
    if not todo:
        return f"profile {parameters.profile}: all runs are there"
    words = []
    if single:
        words.append(f"{single} run{'s' * (single > 1)} to train, {parameters.chunks} chunks each")
    if networks:
        word = f"network{'s' * (len(networks) > 1)} of ensembles"
        words.append(f"{len(networks)} {word}{'' if single else ' to train'}, {parameters.dynamic_chunks} chunks each")
    lines = [f"profile {parameters.profile}: {', and '.join(words)}; {runs.device()}"]
    # a step is three passes of a network, and one of each member
    chunks = single * parameters.chunks
    chunks += parameters.dynamic_chunks * sum(1 + ENSEMBLES[experiment].size / 3 for experiment in networks)
    images = chunks * parameters.chunk_size
    # measured on 2 cores: 50 images a second at full width; the cost goes with the square of the width, slower below
    hours = images / (50 * min(8.0, (64 / parameters.width) ** 2)) / 3600
    if "CPU" in runs.device() and hours > 24:
        lines.append(f"WARNING: on this CPU that is about {hours:,.0f} hours; use a GPU, or -p profile quick")
    return "\n".join(lines)


class Busy(RuntimeError):
    """Another process is training this run, or the members of this ensemble."""


def train_missing(
    parameters: Parameters,
    progress: bool = True,
    minutes: float | None = None,
    after: Callable[[], object] | None = None,
    experiments: Sequence[str] | None = None,
    part: slice = EVERY,
) -> str:
    """Train the runs that are not there yet, the first run of every experiment first; returns the key of the data.

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
    part : slice
        Of all runs, see `missing`.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    key, longest = data_key(parameters), 0.0
    todo = missing(parameters, key, experiments or parameters.experiments, part)
    if not todo:
        if not frozen_sets.has_truth(parameters, key):
            frozen_sets.write_truth(parameters, open_bank(parameters))
        _large_again(parameters, key, experiments or parameters.experiments)
    if todo:
        bank = open_bank(parameters)
        frozen_sets.write_truth(parameters, bank)
        if frozen_sets.has_large(parameters):  # simulated before the first training, and kept in build/
            frozen_sets.large_set(parameters)
        learners, busy = learners_of(parameters, bank), []
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
    there = (frozen_sets.large_folder(parameters) / name for name in ("rows.h5", "truth.parquet"))
    if not frozen_sets.has_large(parameters) or all(path.exists() for path in there):
        return
    complete = (run for experiment in experiments for run in runs.complete_runs(parameters, experiment, key))
    if any(run.scored_on_large(frozen_sets.large_key(parameters)) for run in complete):
        frozen_sets.large_set(parameters)


def missing(parameters: Parameters, key: str, experiments: Sequence[str], part: slice = EVERY) -> list[tuple[int, str]]:
    """The runs that are not there yet, pairs of number and experiment: the first run of every experiment first.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        ``runs`` of each.
    key : str
        Of the data, as from `bank.data_key`.
    experiments : sequence of str
        Losses, or ``IDE_3`` or ``IDE_6``.
    part : slice
        Of all runs in that order, complete or not: whatever is complete meanwhile, it names the same ones.
    """
    every = [(run, loss) for run in range(1, parameters.runs + 1) for loss in experiments]
    return [(n, loss) for n, loss in every[part] if not Run(runs.run_folder(parameters, loss, n, key)).is_complete]


def load_network(folder: str | Path, selector: str = "loss") -> "keras.Model":
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
    p = ADDED_LATER | Run(folder).parameters
    last = {"outputs": len(p["members"]), "activation": "softmax"} if "members" in p else {}
    model = resnet.resnet18(p["width"], p["momentum"], p["l2"], precision=p["precision"], **last)
    model.load_weights(path)
    return model


def train(
    parameters: Parameters,
    experiment: str,
    run: int,
    bank: Bank,
    progress: bool = True,
    deadline: float = math.inf,
    wait: float = 0.0,
    learners: "Callable[[str, int], Learner] | None" = None,
    folder: Path | None = None,
) -> None:
    """Train one run, or take it up where it was left, and leave its folder complete.

    The folder then holds ``parameters.json``, ``provenance.json``, ``history.csv``, ``<selector>.weights.h5`` and last
    ``logits.h5``, which makes it complete.  A run that is killed at any moment and started again ends with the same
    history and weights as one that was not (on a CPU, bit for bit).

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
    folder : Path, optional
        Of the run, where it is none of ``results/``.

    Raises
    ------
    Busy
        Where another process is still at work in the same folder, or a member of the ensemble is not trained yet.
    FileNotFoundError
        Where the weights of a member are not there.
    """
    folder = folder or runs.run_folder(parameters, experiment, run, bank.data_key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=wait if wait < math.inf else -1):
            if not Run(folder).is_complete:
                for half in folder.glob(".????????.*"):  # left by a process that was killed in the middle of a save
                    half.unlink()
                learner = (learners or learners_of(parameters, bank))(experiment, run)
                _train(parameters, experiment, run, bank, folder, progress, deadline, learner)
    except Timeout:
        raise Busy(f"{folder}: another process is training this run; wait for it or stop it") from None


def learners_of(
    parameters: Parameters, bank: Bank, start: "Sequence[keras.Model]" = ()
) -> "Callable[[str, int], Learner]":
    """What makes the network of an experiment and a run; stamps go onto the device once, a loss is compiled once.

    With ``start`` run i begins with the i-th of these networks, and past the last with the first again, in the place
    of random weights.  It raises `Busy` where members of an ensemble are not trained yet.
    """
    from lensdet.network.engine import Learner, on_device
    from lensdet.network.ensemble_network import DynamicEnsembler

    stamps_on_device, finders = cache(lambda: on_device(*mocklens.device_bank(bank, "train"))), {}

    def learner(experiment, run):
        if experiment not in ENSEMBLES:
            if experiment in finders:
                finders[experiment].restart(run)
            else:
                finders[experiment] = Learner(parameters, experiment, run, *stamps_on_device())
            if start:
                finders[experiment].go_on_from(start[(run - 1) % len(start)])
            return finders[experiment]
        members = ensembles.run_members(parameters, bank.data_key, ENSEMBLES[experiment].members, run)
        if waiting := sorted({str(member.folder) for member, _ in members if not member.is_complete}):
            raise Busy(f"{experiment} run {run} needs members that are not trained yet: {', '.join(waiting)}")
        networks = [load_network(member.folder, selector) for member, selector in members]
        found = DynamicEnsembler(parameters.dynamic(), networks, run, *stamps_on_device())
        found.made_from = [member.fingerprint(selector) for member, selector in members]
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

    state = State.load(folder / "state.npz", learner)
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
    of = cache(lambda split: mocklens.masker(settings, *mocklens.device_bank(bank, split), p.renormalise))
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
    if frozen_sets.has_large(p):
        _score_large(p, experiment, folder, learner, state)
    chosen = {selector: chunk for selector, (_, chunk) in state.best.items()}
    made = {"seconds": round(state.seconds, 1), "chosen": chosen}
    if learner.made_from:
        made["members"] = learner.made_from
    made = {**runs.provenance(), **made}
    storage.write_csv(folder / "history.csv", pd.DataFrame(state.history))
    storage.write_json(folder / "provenance.json", made)
    runs.write_logits(folder / "logits.h5", logits, {name: rows for name, (_, rows) in sets.items()})
    (folder / "state.npz").unlink()


def _score_large(p, experiment, folder, learner, state):
    """Leave logits of the large test set, by the selectors of the tables' rows."""
    from lensdet.network.engine import on_device

    rows_of_tables = [s for n in NETWORKS.values() if n.loss == experiment for s in n.checkpoint.values()]
    further = dict.fromkeys(["loss", *(rows_of_tables or ["code_loss"])])
    wanted = learner.selectors if experiment in ENSEMBLES else further
    settings, (bank, rows) = p.maxtree(), frozen_sets.large_set(p)
    chunks = {selector: state.best[selector][1] for selector in wanted}
    scored = {chunk: [] for chunk in chunks.values()}
    for part, hosts, sources in frozen_sets.blocks(bank, frozen_sets.LARGE, rows):
        masks = None if settings is None else mocklens.masker(settings, hosts, sources, p.renormalise)(part)
        pixels = on_device(hosts, sources)
        for chunk, logits in scored.items():
            learner.set(state.kept[chunk])
            logits.append(learner.logits(part, pixels, masks))
    scored = {chunk: np.concatenate(logits) for chunk, logits in scored.items()}
    logits = {selector: scored[chunk] for selector, chunk in chunks.items()}
    runs.write_large(folder / "large.h5", logits, frozen_sets.large_key(p))
