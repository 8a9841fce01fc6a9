"""Training: chunks, selection, early stopping, exact resume (sections 3.5, 4.2, 4.4)."""

import json
import time
import zlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from lensdet import augmentation, losses, metrics, mocklens, resnet, results, stamps
from lensdet import bank as bank_room

SAVE_SECONDS = 60  # between two saves of the state; a run that was killed repeats at most this much
PREDICT_BATCH = 128


class Learner:
    """A network with its optimiser and the stamps it learns from, all on the device.

    One compiled call trains on a chunk, one scores rows.  Everything that differs between TensorFlow and JAX is in
    `_compile_tensorflow` and `_compile_jax`.
    """

    def __init__(self, parameters, loss_name, run, hosts, sources):
        p = self.parameters = parameters
        self.model = resnet.resnet18(p.width, p.momentum, p.l2)
        resnet.initialise(self.model, p.seed, run)
        self.network = resnet.logit_model(self.model)
        self.loss = losses.make_loss(loss_name, p.beta, from_logits=True)
        self.optimizer = keras.optimizers.Adam(p.learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
        self.optimizer.build(self.network.trainable_variables)
        self.bank = tuple(keras.ops.convert_to_tensor(x) for x in (hosts, sources))
        compile_ = {"tensorflow": _compile_tensorflow, "jax": _compile_jax}[keras.backend.backend()]
        self._train, self._score = compile_(self)

    @property
    def variables(self):
        """All that a training changes: weights, moving averages, the optimiser's moments and step."""
        return [*self.network.variables, *self.optimizer.variables]

    def augmented(self, bank, batch):
        """Merged and warped stamps (N, 101, 101, 1) of a training batch, on the device."""
        images = mocklens.merge(*bank, batch["stamp"], batch["source"], batch["alpha"])
        return augmentation.warp(images, batch["warp"], self.parameters.interpolation)

    def penalty(self):
        """The L2 penalty, a float."""
        return float(sum(self.network.losses)) if self.network.losses else 0.0

    def train_chunk(self, rows, warps):
        """Train on a chunk in batches; returns the losses of the steps, float32 (steps,), with the L2 penalty."""
        batch = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names} | {"warp": warps}
        size = self.parameters.batch_size
        return np.asarray(self._train({name: a.reshape(-1, size, *a.shape[1:]) for name, a in batch.items()}))

    def logits(self, rows, bank):
        """Logits of rows without augmentation, float32 (N,); ``bank`` as from `mocklens.device_bank`."""
        n, found = len(rows), []
        for i in range(0, n, PREDICT_BATCH):
            # always the same shape: one compilation, and the same sums whatever the number of rows
            part = rows[np.minimum(np.arange(i, i + PREDICT_BATCH), n - 1)]
            images = mocklens.merge(*bank, *(np.ascontiguousarray(part[name]) for name in ("stamp", "source", "alpha")))
            found.append(np.asarray(self._score(images))[:, 0])
        return np.concatenate(found)[:n]

    def get(self):
        """Copies of the network's variables."""
        return [np.asarray(v).copy() for v in self.network.variables]

    def set(self, values):
        """Set the network's variables."""
        for variable, value in zip(self.network.variables, values, strict=True):
            variable.assign(value)


def _compile_tensorflow(learner):
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    network, optimizer, loss = learner.network, learner.optimizer, learner.loss
    trainable = network.trainable_variables

    @tf.function
    def train(chunk):
        steps = len(chunk["label"])
        found = tf.TensorArray(tf.float32, steps)
        for i in tf.range(steps):
            batch = {name: array[i] for name, array in chunk.items()}
            images = learner.augmented(learner.bank, batch)
            with tf.GradientTape() as tape:
                total = loss(batch["label"], network(images, training=True)[:, 0])
                total += tf.add_n(network.losses) if network.losses else 0.0
            optimizer.apply(tape.gradient(total, trainable), trainable)
            found = found.write(i, total)
        return found.stack()

    return train, tf.function(lambda images: network(images, training=False))


def _compile_jax(learner):
    import jax

    network, optimizer, loss = learner.network, learner.optimizer, learner.loss

    def objective(trainable, rest, bank, batch):
        images = learner.augmented(bank, batch)
        logits, rest, penalties = network.stateless_call(trainable, rest, images, training=True, return_losses=True)
        return loss(batch["label"], logits[:, 0]) + sum(penalties), rest

    @jax.jit
    def scan(state, bank, chunk):  # the bank as an argument: closed over, it would become a constant of the program
        def step(state, batch):
            trainable, rest, moments = state
            (total, rest), gradient = jax.value_and_grad(objective, has_aux=True)(trainable, rest, bank, batch)
            trainable, moments = optimizer.stateless_apply(moments, gradient, trainable)
            return (trainable, rest, moments), total

        return jax.lax.scan(step, state, chunk)

    groups = (network.trainable_variables, network.non_trainable_variables, optimizer.variables)

    def train(chunk):
        state, found = scan(tuple([v.value for v in group] for group in groups), learner.bank, chunk)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return found

    forward = jax.jit(lambda values, images: network.stateless_call(*values, images, training=False)[0])
    return train, lambda images: forward(tuple([v.value for v in group] for group in groups[:2]), images)


def banner(parameters):
    """What will run, and on what: a line to print first; warns where a CPU would need days."""
    runs = len(_missing(parameters, bank_room.data_key(parameters)))
    images = runs * parameters.chunks * parameters.chunk_size
    lines = [f"profile {parameters.profile}: {runs} runs to train, {parameters.chunks} chunks each; {results.device()}"]
    # measured on 2 cores: 50 images a second at full width; the cost goes with the square of the width, slower below
    hours = images / (50 * min(8.0, (64 / parameters.width) ** 2)) / 3600
    if "CPU" in results.device() and hours > 24:
        lines.append(f"WARNING: on this CPU that is about {hours:,.0f} hours; use a GPU, or -p profile quick")
    return "\n".join(lines)


def train_missing(parameters, progress=True):
    """Train the runs that are not there yet, the first run of every experiment first; returns the key of the data."""
    key = bank_room.data_key(parameters)
    if todo := _missing(parameters, key):
        bank = bank_room.open_bank(parameters)
        mocklens.write_truth(parameters, bank)
        for run, loss in todo:
            train(parameters, loss, run, bank, progress)
            keras.backend.clear_session()
    return key


def _missing(parameters, key):
    return [
        (run, loss)
        for run in range(1, parameters.runs + 1)
        for loss in parameters.experiments
        if not results.is_complete(results.run_folder(parameters, loss, run, key))
    ]


def load_network(folder, selector="loss"):
    """The network of a run at a selector's checkpoint: stretched stamps (N, 101, 101, 1) in, probabilities (N, 1) out.

    Only weights are read; nothing in the file is executed.

    Raises
    ------
    FileNotFoundError
        Weights are not part of the packed results: train the run to have them.
    """
    folder = Path(folder)
    path = folder / f"{selector}.weights.h5"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no weights; remove the folder {folder} and run the notebook to train them")
    p = json.loads((folder / "parameters.json").read_text())
    model = resnet.resnet18(p["width"], p["momentum"], p["l2"])
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
    known = pd.read_csv(kept).set_index("file")["logit"].to_dict() if kept.exists() else {}
    if set(names) <= known.keys():
        return np.array([known[name] for name in names])
    if not (run_folder / "loss.weights.h5").exists():
        return None
    network = resnet.logit_model(load_network(run_folder))
    images = np.sqrt(stamps.normalise(pixels))[..., None]
    batches = [images[i : i + PREDICT_BATCH] for i in range(0, len(images), PREDICT_BATCH)]
    logits = np.concatenate([np.asarray(network(batch, training=False))[:, 0] for batch in batches])
    known |= dict(zip(names, logits.tolist(), strict=True))
    results.write_csv(kept, pd.DataFrame({"file": known.keys(), "logit": known.values()}))
    return logits


def train(parameters, loss_name, run, bank, progress=True):
    """Train one run, or take it up where it was left, and leave its folder complete.

    The folder then holds ``parameters.json``, ``provenance.json``, ``history.csv``, ``<selector>.weights.h5`` and, last
    of all, ``logits.h5``; see `lensdet.results`.  A run that is killed at any moment and started again ends with the
    same history and weights as one that was not (on a CPU, bit for bit).

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    loss_name : str
        One of `lensdet.parameters.LOSSES`.
    run : int
        From 1; run i has the same initial weights and training rows in every experiment.
    bank : lensdet.bank.Bank
    progress : bool
        Show a bar with chunk, losses, images a second and time left.

    Raises
    ------
    RuntimeError
        Where another process is at work in the same folder.
    """
    folder = results.run_folder(parameters, loss_name, run, bank.data_key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            if not results.is_complete(folder):
                for half in folder.glob(".????????.*"):  # left by a process that was killed in the middle of a save
                    half.unlink()
                _train(parameters, loss_name, run, bank, folder, progress)
    except Timeout:
        raise RuntimeError(f"{folder}: another process is training this run; wait for it or stop it") from None


def _train(p, loss_name, run, bank, folder, progress):
    size = mocklens.sizes(bank, "train")
    learner = Learner(p, loss_name, run, *mocklens.device_bank(bank, "train"))
    validation = _on_device(bank, "validation")
    frozen_size = mocklens.sizes(bank, "validation")
    frozen = mocklens.frozen_rows(p, "validation", frozen_size)

    def select(rows):
        logits = learner.logits(rows, validation)
        return metrics.selectors(
            rows["label"], logits, loss_name, p.selection_beta, p.beta, learner.penalty(), p.batch_size
        )

    results.write_json(folder / "parameters.json", p.experiment(loss_name, bank.data_key) | {"run": run})
    state = _State.load(folder / "state.npz", learner)
    saved = began = time.monotonic()
    first = len(state.history)
    with tqdm(total=p.chunks, initial=first, unit="chunk", desc=f"{loss_name} run {run}", disable=not progress) as bar:
        while len(state.history) < p.chunks and not state.stopped(p.patience):
            chunk = len(state.history)
            steps = learner.train_chunk(*mocklens.training_rows(p, run, chunk, size))
            scores = select(frozen)
            if p.redraw_validation:
                again = select(mocklens.frozen_rows(p, "validation", frozen_size, (p.seed, run, chunk + 1)))
                scores |= {name: value for name, value in again.items() if name.startswith("code_")}
            state.add({"chunk": chunk, "training_loss": float(steps.mean()), **scores}, learner)
            now = time.monotonic()
            speed = (chunk + 1 - first) * p.chunk_size / (now - began)
            shown = {"loss": f"{steps.mean():.3f}", "val": f"{scores['loss']:.3f}", "images/s": f"{speed:.0f}"}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if now - saved > SAVE_SECONDS:
                state.save(folder / "state.npz", learner, state.seconds + now - began)
                saved = now
    state.seconds += time.monotonic() - began
    state.save(folder / "state.npz", learner, state.seconds)
    _finish(p, run, bank, folder, learner, state)


def _on_device(bank, split):
    return tuple(keras.ops.convert_to_tensor(x) for x in mocklens.device_bank(bank, split))


def _finish(p, run, bank, folder, learner, state):
    """Score every frozen set with every selector's checkpoint, and write the run folder; ``logits.h5`` comes last."""
    sets = {
        name: (split, mocklens.frozen_rows(p, name, mocklens.sizes(bank, split)))
        for name, split in mocklens.FROZEN.items()
    }
    # a training chunk that was not trained on, not augmented: what the published ensembles were fitted on
    sets["training"] = "train", mocklens.training_rows(p, run, p.chunks, mocklens.sizes(bank, "train"))[0]
    logits = {selector: {} for selector in metrics.SELECTORS}
    for name, (split, rows) in sets.items():
        pixels = learner.bank if split == "train" else _on_device(bank, split)
        scored = {}  # by chunk: selectors that chose the same chunk share a checkpoint
        for selector in ("loss",) if name == "information" else metrics.SELECTORS:
            chunk = state.best[selector][1]
            if chunk not in scored:
                learner.set(state.kept[chunk])
                scored[chunk] = learner.logits(rows, pixels)
            logits[selector][name] = scored[chunk]
    for selector in metrics.SELECTORS:
        learner.set(state.kept[state.best[selector][1]])
        with results.atomic(folder / f"{selector}.weights.h5") as beside:
            learner.model.save_weights(beside)
    results.write_csv(folder / "history.csv", pd.DataFrame(state.history))
    chosen = {selector: chunk for selector, (_, chunk) in state.best.items()}
    results.write_json(
        folder / "provenance.json", {**results.provenance(), "seconds": round(state.seconds, 1), "chosen": chosen}
    )
    results.write_logits(folder / "logits.h5", logits, {name: rows for name, (_, rows) in sets.items()})
    (folder / "state.npz").unlink()


class _State:
    """What a run has reached: history, the best chunk of each selector, the weights of those chunks."""

    def __init__(self):
        self.history, self.best, self.kept, self.seconds = [], {}, {}, 0.0

    def add(self, row, learner):
        self.history.append(row)
        for selector, direction in metrics.SELECTORS.items():
            sign = 1 if direction == "max" else -1
            value, _ = self.best.get(selector, (None, -1))
            # a number is better than none; of several that are none the first is kept, and patience runs out
            if value is None or np.isnan(value) > np.isnan(row[selector]) or sign * row[selector] > sign * value:
                self.best[selector] = (row[selector], row["chunk"])
                self.kept[row["chunk"]] = learner.get()
        wanted = {chunk for _, chunk in self.best.values()}
        self.kept = {chunk: weights for chunk, weights in self.kept.items() if chunk in wanted}

    def stopped(self, patience):
        """Whether the validation loss has not become better for ``patience`` chunks (section 4.4)."""
        return bool(self.history) and len(self.history) - 1 - self.best["loss"][1] >= patience

    def save(self, path, learner, seconds):
        arrays = {f"now/{i}": np.asarray(v) for i, v in enumerate(learner.variables)}
        arrays |= {f"kept/{chunk}/{i}": w for chunk, weights in self.kept.items() for i, w in enumerate(weights)}
        text = json.dumps({"history": self.history, "best": self.best, "seconds": seconds})
        with results.atomic(path) as beside:
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
            for i, variable in enumerate(learner.variables):
                variable.assign(file[f"now/{i}"])
            n = len(learner.network.variables)
            for _, chunk in state.best.values():
                state.kept[chunk] = [file[f"kept/{chunk}/{i}"] for i in range(n)]
        return state
