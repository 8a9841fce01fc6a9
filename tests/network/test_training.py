"""Training: plain Keras is the oracle of the compiled loop, an undisturbed run that of one that was killed.

A chunk has two steps: what is tested is the machinery, not what is learnt.
"""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from scipy.special import expit
from sklearn.metrics import accuracy_score, fbeta_score, log_loss

from lensdet import cli, experiments, parameters, runs
from lensdet.data import augmentation, frozen_sets, maxtree, mocklens
from lensdet.network import engine, resnet, side_by_side, training
from lensdet.network.checkpoints import SELECTORS, selectors
from lensdet.network.state import State
from lensdet.profiles import PROFILES
from lensdet.runs import Run

TINY = {"profile": "smoke", "workers": 1, "chunk_size": 32, "batch_size": 16, "chunks": 6, "patience": 6,
        "learning_rate": 0.01, "schedule": "cosine", "runs": 1}  # fmt: skip
SETS = {"validation", "calibration", "test", "information", "training"}

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="bit for bit under TensorFlow only")


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Trainings of this module share what is compiled, as runs of a loss do, where they compute the same."""
    learners, compiled = training.learners_of, {}

    def shared(p, bank, start=()):
        if start:
            return learners(p, bank, start)
        other = dict.fromkeys(("experiments", "runs", "patience", "redraw_validation", "ensembles"))
        key = changed(p, **other).model_dump_json(), bank.path
        compiled.setdefault(key, learners(p, bank))
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "learners_of", shared)
        yield


@pytest.fixture(scope="module")
def tiny():
    return parameters.resolve(TINY)


@pytest.fixture(scope="module")
def reference(tiny, smoke_bank, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_sets, "BLOCK", 17)  # several of the large test set
        patch.setenv("LENSDET_RESULTS", str(tmp_path_factory.mktemp("undisturbed")))
        training.train(tiny, "bce", 1, smoke_bank, progress=False)
        return runs.run_folder(tiny, "bce", 1, smoke_bank.data_key)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, tiny, smoke_bank):
    """The folder of the same run in other results."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    return runs.run_folder(tiny, "bce", 1, smoke_bank.data_key)


def changed(p, **given):
    return parameters.resolve({**p.model_dump(), **given})


def learner(p, bank, loss="bce", run=1):
    return engine.Learner(p, loss, run, *mocklens.device_bank(bank, "train"))


def contents(path):
    """Every dataset of an HDF5 file as bytes, by its name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: x[()].tobytes()}) if isinstance(x, h5py.Dataset) else None)
    return found


def assert_same_run(folder, reference):
    assert contents(folder / "large.h5") == contents(reference / "large.h5")
    assert (folder / "history.csv").read_bytes() == (reference / "history.csv").read_bytes()
    for name in ("logits.h5", *(f"{selector}.weights.h5" for selector in SELECTORS)):
        assert contents(folder / name) == contents(reference / name), name


# ---- the loop against plain Keras


def keras_steps(p, learner, rows, warps, loss):
    """Losses of the steps and the network after them, by `keras.Model.train_on_batch`."""
    model = resnet.resnet18(p.width, p.momentum, p.l2)
    resnet.initialise(model, p.seed, 1)
    model.compile(keras.optimizers.Adam(engine.learning_rate(p)), loss, run_eagerly=True)
    images = mocklens.merge(*learner.bank, *(rows[name] for name in ("stamp", "source", "alpha")))
    images = augmentation.warp(images, warps, p.interpolation).numpy()
    found = []
    for i in range(0, len(rows), p.batch_size):
        model.reset_metrics()  # what train_on_batch returns is a running mean
        batch = slice(i, i + p.batch_size)
        found.append(model.train_on_batch(images[batch], rows["label"][batch, None]))
    return found, model


@pytest.mark.parametrize("name", ["bce", "fbeta"])
def test_a_training_chunk_equals_that_of_plain_keras(tiny, smoke_bank, name):
    b2 = tiny.beta**2
    # what Keras calls a false positive here is a false negative
    tversky = keras.losses.Tversky(alpha=b2 / (1 + b2), beta=1 / (1 + b2))
    loss = {"bce": keras.losses.BinaryCrossentropy(), "fbeta": tversky}[name]
    tiny = changed(tiny, schedule="constant", learning_rate=1e-3)  # two steps, of the same rate
    ours = learner(tiny, smoke_bank, name)
    rows, warps = mocklens.training_rows(tiny, 1, 0, mocklens.sizes(smoke_bank, "train"))
    start = [w.numpy() for w in ours.model.weights]
    expected, model = keras_steps(tiny, ours, rows, warps, loss)
    np.testing.assert_allclose(ours.train_chunk(rows, warps), expected, rtol=1e-4)
    for before, mine, theirs in zip(start, ours.model.weights, model.weights, strict=True):
        # The gradient of a bias before batch normalisation is nothing but rounding, and Adam makes steps of it.
        if "conv2d" in mine.path and mine.name == "bias":
            continue
        moved = np.linalg.norm(theirs.numpy() - before)
        # Adam takes whole steps of gradients that are nothing but rounding, too: some per cent of these.
        assert np.linalg.norm(mine.numpy() - theirs.numpy()) < 0.1 * moved, mine.path


# Losses of the first chunks of `TINY`, run 1: whatever changes them changes every result to come.
LOSSES_THEN = {
    "bce": [0.852605, 0.766263, 0.814161, 0.833484],
    "fbeta": [0.683064, 0.536842, 0.555499, 0.672790],
}


@pytest.mark.parametrize("name", LOSSES_THEN)
def test_losses_of_the_first_steps_have_not_changed(tiny, smoke_bank, name):
    """JAX has those of TensorFlow (`test_jax_gives_the_same_losses_and_exchanges_states`): this holds for both."""
    size, tiny = mocklens.sizes(smoke_bank, "train"), changed(tiny, schedule="constant", learning_rate=1e-3)
    ours = learner(tiny, smoke_bank, name)
    found = [ours.train_chunk(*mocklens.training_rows(tiny, 1, chunk, size)) for chunk in range(2)]
    np.testing.assert_allclose(np.concatenate(found), LOSSES_THEN[name], rtol=1e-2)


def test_arithmetic_optimisation_of_tensorflow_is_off(tiny, smoke_bank):
    """With TensorFlow's rewriting of sums, losses of soft F_beta differed in the last digit when 8 steps of `quick`
    were done for the twelfth time, and without it they were the same 20 times; that takes minutes and is not done here.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})
    learner(tiny, smoke_bank, "fbeta")
    assert tf.config.optimizer.get_experimental_options()["arithmetic_optimization"] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, given",
    [
        ("bce", {"learning_rate": 2e-3}),
        ("bce", {"learning_rates": {"bce": 2e-3}}),
        ("bce", {"schedule": "cosine"}),
        ("bce", {"l2": 1e-2}),
        ("bce", {"batch_size": 8}),
        ("bce", {"shift": 0.0}),
        ("bce", {"zoom": (1.0, 1.3)}),
        ("bce", {"zoom_direction": "out"}),
        ("bce", {"interpolation": "nearest"}),
        ("bce", {"precision": "bfloat16"}),
        ("bce", {"alpha": (0.3, 0.5)}),
        ("bce", {"contaminant_fraction": 0.1}),
        ("bce", {"seed": 1}),
        ("fbeta", {"beta": 1.0}),
        ("focal", {"focal_gamma": 1.0}),
        ("sigmoid_f1", {"sigmoid_slope": 1.0}),
        ("sigmoid_f1", {"sigmoid_offset": 1.0}),
    ],
    ids=str,
)
def test_each_training_option_is_applied(tiny, smoke_bank, name, given):
    """The losses of some steps are others: an option that is read and not used would leave them."""
    tiny = changed(tiny, schedule="constant", learning_rate=1e-3)
    size, found = mocklens.sizes(smoke_bank, "train"), []
    for p in (tiny, changed(tiny, **given)):
        ours = learner(p, smoke_bank, name)
        found.append([float(ours.train_chunk(*mocklens.training_rows(p, 1, chunk, size)).mean()) for chunk in (0, 1)])
    assert not np.allclose(*found, rtol=1e-5)


def test_batch_norm_averages_equal_those_of_plain_keras(tiny, smoke_bank):
    """Keras with a momentum of 0 leaves what a batch has; of two batches the mean is taken, and no weight changes."""
    ours = learner(tiny, smoke_bank)
    rows, warps = mocklens.training_rows(tiny, 1, 0, mocklens.sizes(smoke_bank, "train"))
    ours.train_chunk(rows, warps)
    model = resnet.resnet18(tiny.width, 0.0, tiny.l2)
    for own, theirs in zip(model.weights, ours.model.weights, strict=True):
        own.assign(theirs)
    images = mocklens.merge(*ours.bank, *(rows[name] for name in ("stamp", "source", "alpha")))
    images, n, found = augmentation.warp(images, warps, tiny.interpolation), tiny.batch_size, []
    for i in range(0, len(rows), n):
        model(images[i : i + n], training=True)
        found.append([variable.numpy() for variable in model.weights])
    before = [variable.numpy() for variable in ours.model.weights]
    ours.average_statistics(rows, warps)
    averages = {variable.path for variable in ours.averages()}
    assert len(averages) == 2 * 17
    for variable, then, *batches in zip(ours.model.weights, before, *found, strict=True):
        mine = variable.numpy()
        if variable.path in averages:
            np.testing.assert_allclose(mine, np.mean(batches, 0), rtol=1e-3, atol=1e-5 * np.abs(mine).max())
            assert not np.array_equal(*batches)
        else:
            np.testing.assert_array_equal(mine, then)


def test_batch_norm_averages_change_validation_but_not_training(tiny, smoke_bank, reference, tmp_path, monkeypatch):
    """The same steps, and so the same training losses; validation and what is kept have the new averages."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    p = changed(tiny, batch_norm_images=tiny.chunk_size)
    training.train(p, "bce", 1, smoke_bank, progress=False)
    folder = runs.run_folder(p, "bce", 1, smoke_bank.data_key)
    mine, theirs = Run(folder).history, Run(reference).history
    np.testing.assert_array_equal(mine["training_loss"], theirs["training_loss"])
    assert not np.isclose(mine["loss"], theirs["loss"], rtol=1e-3).any()
    network = training.load_network(folder)
    rows = frozen_sets.frozen_rows(p, "test", mocklens.sizes(smoke_bank, "test"))
    again = network(mocklens.images(smoke_bank, "test", rows), training=False).numpy()[:, 0]
    np.testing.assert_allclose(again, expit(Run(folder).logits("loss", "test")[1]), atol=1e-5)


@pytest.mark.slow
def test_bfloat16_training_losses_are_close_to_float32(tiny, smoke_bank):
    """bfloat16 has 8 bits of mantissa: a relative rounding of 0.4 % in each layer, and float32 where it adds up."""
    rows, warps = mocklens.training_rows(tiny, 1, 0, mocklens.sizes(smoke_bank, "train"))
    exact, rounded = (learner(changed(tiny, precision=bits), smoke_bank) for bits in ("float32", "bfloat16"))
    first, second = (x.train_chunk(rows, warps) for x in (exact, rounded))
    assert second.dtype == np.float32 and not np.array_equal(first, second)
    np.testing.assert_allclose(second, first, rtol=0.03)
    assert {v.dtype for v in rounded.variables if "iteration" not in v.name} == {"float32"}


def test_learning_rate_is_constant_or_warms_up_and_decays_as_a_cosine(tiny):
    assert engine.learning_rate(changed(tiny, schedule="constant")) == tiny.learning_rate
    p = changed(tiny, chunks=50)  # 100 steps, of which 2 up
    rate = [float(engine.learning_rate(p)(step)) for step in range(101)]
    up = [0, 0.5 * tiny.learning_rate]
    down = tiny.learning_rate * (1 + np.cos(np.pi * np.arange(99) / 98)) / 2
    np.testing.assert_allclose(rate, [*up, *down], atol=1e-8)


def test_training_loss_includes_the_l2_penalty(tiny, reference):
    """At the start the loss is about log 2 or more, and the penalty of a narrow network is small: taken apart here."""
    history = Run(reference).history
    model = training.load_network(reference, "code_loss")
    kernels = [x.kernel.numpy() for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    penalty = tiny.l2 * sum(np.sum(np.square(k, dtype=float)) for k in kernels)
    labels, logits = Run(reference).logits("code_loss", "validation")
    batches = [slice(i, i + 64) for i in range(0, len(labels), 64)]
    plain = np.mean([log_loss(labels[b], expit(logits[b].astype(float)), labels=[0, 1]) for b in batches])
    np.testing.assert_allclose(history["code_loss"].min(), plain + penalty, rtol=1e-5)
    assert penalty > 1e-3


def test_a_reused_network_trains_like_a_new_one_bit_for_bit(tiny, smoke_bank, reference, monkeypatch):
    """Run 2 in the network of run 1, which has been trained, and in one of its own: bit for bit."""
    learners, size = training.learners_of(tiny, smoke_bank), mocklens.sizes(smoke_bank, "train")
    monkeypatch.setattr(engine, "Learner", lambda *_: pytest.fail("a second network"))
    used = learners("bce", 1)
    trained = [mocklens.training_rows(tiny, run, 0, size) for run in (1, 2)]
    used.train_chunk(*trained[0])
    assert learners("bce", 2) is used
    monkeypatch.undo()
    new = learner(tiny, smoke_bank, run=2)
    assert used.train_chunk(*trained[1]).tobytes() == new.train_chunk(*trained[1]).tobytes()
    assert [w.tobytes() for w in used.get(every=True)] == [w.tobytes() for w in new.get(every=True)]


def test_runs_go_on_from_networks_in_turn(tiny, smoke_bank):
    """Run i begins with the i-th, past the last with the first again, and with a fresh optimiser."""
    start = [learner(tiny, smoke_bank, run=run) for run in (5, 6)]
    rows = mocklens.training_rows(tiny, 5, 0, mocklens.sizes(smoke_bank, "train"))
    for one in start:  # so that averages of batch normalisation are other ones, too
        one.train_chunk(*rows)
    learners = training.learners_of(tiny, smoke_bank, [one.network for one in start])
    fresh = learner(tiny, smoke_bank)
    moments = [w.tobytes() for w in fresh.get(every=True)[len(fresh.model.variables) :]]
    for run, expected in ((1, start[0]), (2, start[1]), (3, start[0])):
        found = learners("bce", run)
        assert [w.tobytes() for w in found.get()] == [w.tobytes() for w in expected.get()]
        assert [w.tobytes() for w in found.get(every=True)[len(found.model.variables) :]] == moments
        found.train_chunk(*rows)


# ---- a run that was disturbed


DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from lensdet import parameters
from lensdet.data import bank
from lensdet.network import training
from lensdet.network.state import State

given, how = json.loads(sys.argv[1]), sys.argv[2]
training.SAVE_SECONDS = -1  # after every chunk
save, savez = State.save, np.savez

def save_and_wait(self, *words):
    save(self, *words)
    time.sleep(0.5)  # so that the kill from outside finds a run that goes on

def half_a_save(path, **arrays):
    savez(path, **arrays)
    if len(json.loads(str(arrays["text"]))["history"]) == 4:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

if how == "outside":
    State.save = save_and_wait
else:
    np.savez = half_a_save
p = parameters.resolve(given)
training.train(p, "bce", 1, bank.open_bank(p), progress=False)
"""


def drive(how):
    return subprocess.Popen([sys.executable, "-c", DRIVER, json.dumps(TINY), how])


def saved_chunks(folder):
    with np.load(folder / "state.npz", allow_pickle=False) as file:
        return len(json.loads(str(file["text"]))["history"])


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_the_same(tiny, smoke_bank, reference, elsewhere, monkeypatch):
    # killed from outside, after its first save
    process, state = drive("outside"), elsewhere / "state.npz"
    patience = time.monotonic() + 1200
    while not state.exists():
        assert process.poll() is None and time.monotonic() < patience
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 1 <= saved_chunks(elsewhere) < 4
    # killed in the middle of a save
    assert drive("in a save").wait() == -signal.SIGKILL
    assert saved_chunks(elsewhere) == 3
    assert not (elsewhere / "history.csv").exists()

    # stopped while it leaves its results
    def full_disk(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(runs, "write_logits", full_disk)
        training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert not Run(elsewhere).is_complete and state.exists()
    # and at last let be
    training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert_same_run(elsewhere, reference)
    assert {f.name for f in elsewhere.iterdir()} == {f.name for f in reference.iterdir()}


def test_a_failed_run_resumes_and_ends_the_same(tiny, smoke_bank, reference, elsewhere, monkeypatch):
    train_chunk, done = engine.Learner.train_chunk, []

    def fails(self, *chunk):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(chunk)
        return train_chunk(self, *chunk)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "SAVE_SECONDS", -1)
        patch.setattr(engine.Learner, "train_chunk", fails)
        training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert saved_chunks(elsewhere) == 3
    again = []
    monkeypatch.setattr(
        engine.Learner, "train_chunk", lambda self, *chunk: (again.append(chunk), train_chunk(self, *chunk))[1]
    )
    training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert len(again) == tiny.chunks - 3  # taken up, not begun anew
    assert_same_run(elsewhere, reference)


# ---- one process a folder


HOLD = """
import sys
from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    input()
"""


def test_two_processes_never_train_in_one_run_folder(tiny, smoke_bank, elsewhere, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("two processes in a folder"))
    elsewhere.mkdir(parents=True)
    command = [sys.executable, "-c", HOLD, str(elsewhere / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=f"{elsewhere}: another process is training this run"):
            training.train(tiny, "bce", 1, smoke_bank, progress=False)
        other.kill()
    # the lock of a process that was killed goes with it
    reached = []
    monkeypatch.setattr(training, "_train", lambda *words: reached.append(words))
    training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert len(reached) == 1


def test_two_threads_never_train_in_one_run_folder(tiny, smoke_bank, elsewhere):
    elsewhere.mkdir(parents=True)
    with FileLock(elsewhere / ".lock"), pytest.raises(RuntimeError, match="another process is training this run"):
        training.train(tiny, "bce", 1, smoke_bank, progress=False)


def test_a_complete_run_is_not_trained_again(tiny, smoke_bank, reference, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(reference.parents[2]))
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("trained again"))
    before = {f.name: f.stat().st_mtime_ns for f in reference.iterdir() if f.name != ".lock"}
    training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert {f.name: f.stat().st_mtime_ns for f in reference.iterdir() if f.name != ".lock"} == before


# ---- pairing


def test_run_i_of_every_loss_has_the_same_start_and_images(tiny, smoke_bank):
    """The same weights to begin with, and the same images in the same order; another run has others."""
    start, seen = {}, {}
    for loss, run in (("bce", 1), ("f1", 1), ("fbeta", 1), ("bce", 2)):
        start[loss, run] = [w.tobytes() for w in learner(tiny, smoke_bank, loss, run).get()]
        rows, warps = mocklens.training_rows(tiny, run, 0, mocklens.sizes(smoke_bank, "train"))
        seen[loss, run] = rows.tobytes() + warps.tobytes()
    for found in (start, seen):
        assert found["bce", 1] == found["f1", 1] == found["fbeta", 1] != found["bce", 2]


def test_every_loss_is_trained_on_the_same_rows(tiny, smoke_bank, elsewhere, monkeypatch):
    chunks = {}
    for loss in parameters.LOSSES:
        seen = chunks[loss] = []

        def record(self, rows, warps, masks, seen=seen):
            assert masks is None
            seen.append(rows.tobytes() + warps.tobytes())
            return np.zeros(2, np.float32)

        monkeypatch.setattr(engine.Learner, "train_chunk", record)
        monkeypatch.setattr(engine.Learner, "logits", lambda self, rows, *_: np.zeros(len(rows), np.float32))
        monkeypatch.setattr(engine.Learner, "validate", lambda *_: [0.0] * len(SELECTORS))
        monkeypatch.setattr(training, "_finish", lambda *_: None)
        training.train(changed(tiny, chunks=2), loss, 1, smoke_bank, progress=False)
    assert len(set(chunks["bce"])) == 2
    assert chunks["bce"] == chunks["fbeta"] == chunks["f1"] == chunks["f1_double"]


# ---- selection and stopping


def test_each_checkpoint_is_the_best_by_its_selector(reference):
    history = Run(reference).history
    chosen = json.loads((reference / "provenance.json").read_text())["chosen"]
    assert set(chosen) == set(SELECTORS)
    thresholds = (np.arange(50) + 1e-4) / 50
    for selector, direction in SELECTORS.items():
        values = history[selector]
        assert chosen[selector] == (values.idxmin() if direction == "min" else values.idxmax())
        labels, logits = Run(reference).logits(selector, "validation")
        p = expit(logits.astype(float))
        oracle = {
            "loss": lambda y, p: log_loss(y, p),
            "f_beta": lambda y, p: np.mean([fbeta_score(y, p >= t, beta=0.17, zero_division=0) for t in thresholds]),
            "code_accuracy": lambda y, p: np.mean(
                [accuracy_score(y[i : i + 16], p[i : i + 16] > 0.5) for i in (0, 16, 32)]
            ),
        }
        if selector in oracle:
            np.testing.assert_allclose(values[chosen[selector]], oracle[selector](labels, p), rtol=1e-5)


def test_each_selector_has_its_own_checkpoint(tiny, smoke_bank, elsewhere, monkeypatch):
    """Selectors that each choose another chunk: what they leave are the logits that were validated in that chunk."""
    seen, validate = [], engine.Learner.validate

    def choose_in_turn(self, rows, bank, masks):
        validate(self, rows, bank, masks)
        seen.append(self.logits(rows, bank))
        best = {"min": -1.0, "max": 1.0}
        return [best[way] * (len(seen) == turn) for turn, way in enumerate(SELECTORS.values(), 1)]

    with monkeypatch.context() as patch:
        patch.setattr(engine.Learner, "validate", choose_in_turn)
        training.train(tiny, "bce", 1, smoke_bank, progress=False)
    assert len(seen) == len(SELECTORS) == len({logits.tobytes() for logits in seen})
    for turn, selector in enumerate(SELECTORS):
        np.testing.assert_array_equal(Run(elsewhere).logits(selector, "validation")[1], seen[turn])
    assert len({(elsewhere / f"{s}.weights.h5").read_bytes() for s in SELECTORS}) == len(seen)


@pytest.mark.parametrize("loss", ["bce", "f1_double"])
def test_validation_in_one_call_equals_the_selectors_of_the_logits(tiny, smoke_bank, loss):
    """One compiled call for forward passes, selectors and penalty, against each of them apart; also off the batch."""
    ours = learner(tiny, smoke_bank, loss)
    bank = engine.on_device(*mocklens.device_bank(smoke_bank, "validation"))
    for n in (48, 130):
        p = changed(tiny, frozen_size=n // 2)
        rows = frozen_sets.frozen_rows(p, "validation", mocklens.sizes(smoke_bank, "validation"))
        logits, penalty = ours.logits(rows, bank), float(sum(ours.network.losses))
        apart = selectors(rows["label"], logits, ours.loss, tiny.selection_beta, penalty, tiny.batch_size)
        np.testing.assert_allclose(ours.validate(rows, bank), apart, rtol=1e-5)


def test_three_rows_of_table_5_1_come_from_one_training(reference):
    first = list(experiments.NETWORKS.values())[:3]
    assert {network.loss for network in first} == {"bce"}
    for protocol in ("text", "code"):
        assert len({network.checkpoint[protocol] for network in first}) == 3
        for network in first:
            assert len(Run(reference).logits(network.checkpoint[protocol], "test")[0]) == 48


class Weights:
    """A learner whose weights say when they were kept."""

    selectors = SELECTORS

    def get(self):
        self.chunk = getattr(self, "chunk", -1) + 1
        return [self.chunk]


def add(state, chunk, value, learner):
    row = {name: value if way == "min" else -value for name, way in SELECTORS.items()}
    state.add({"chunk": chunk, **row}, learner)


@pytest.mark.parametrize(
    "losses, patience, chunks",
    [
        ([3, 2, 2, 4, 1, 0], 2, 4),  # as good as the best is not better
        ([3, 2, 2, 1, 5, 5, 0], 2, 6),
        ([1, 2, 3, 4, 5, 6, 7], 1, 2),
        ([7, 6, 5, 4, 3, 2, 1], 1, 7),
        ([np.nan, 3, np.nan, np.nan, np.nan, 1, 1], 3, 5),
        ([np.nan] * 7, 3, 4),  # diverged from the first chunk: no reason to go on for thousands
    ],
)
def test_patience_counts_chunks_without_a_better_validation(losses, patience, chunks):
    state = State()
    for chunk, loss in enumerate(losses):
        if state.stopped(patience):
            break
        add(state, chunk, loss, Weights())
    assert len(state.history) == chunks


def test_a_training_stops_when_patience_is_over(tiny, smoke_bank, elsewhere, monkeypatch):
    """Of a training that learns nothing, with given validation losses."""
    losses = [3, 2, 2, 1, 5, 5, 0]
    values = iter(losses)
    p = changed(tiny, patience=2, chunks=7)
    monkeypatch.setattr(engine.Learner, "train_chunk", lambda *_: np.zeros(2, np.float32))
    monkeypatch.setattr(engine.Learner, "logits", lambda self, rows, *_: np.zeros(len(rows), np.float32))
    monkeypatch.setattr(engine.Learner, "validate", lambda *_: [next(values)] * len(SELECTORS))
    training.train(p, "bce", 1, smoke_bank, progress=False)
    history = Run(runs.run_folder(p, "bce", 1, smoke_bank.data_key)).history
    np.testing.assert_array_equal(history["loss"], losses[:6])


@pytest.mark.parametrize(
    "values, best", [([np.nan, 2, np.nan, 3], 1), ([2, np.nan, 1, np.nan], 2), ([np.nan] * 3, 0), ([1, 1, 1], 0)]
)
def test_nan_is_never_the_best_checkpoint_after_a_number(values, best):
    state, learner = State(), Weights()
    for chunk, value in enumerate(values):
        add(state, chunk, value, learner)
    assert {chunk for _, chunk in state.best.values()} == {best}
    assert list(state.kept) == [best]


# ---- what a run leaves


def test_run_folder_has_its_files_and_history(tiny, smoke_bank, reference):
    kept = {"parameters.json", "provenance.json", "history.csv", "logits.h5", "large.h5"}
    files = kept | {".lock"} | {f"{selector}.weights.h5" for selector in SELECTORS}
    assert {f.name for f in reference.iterdir()} == files
    Run(reference).check(tiny, "bce", 1, smoke_bank.data_key)
    history = Run(reference).history
    assert list(history) == ["chunk", "training_loss", *SELECTORS]
    assert list(history["chunk"]) == list(range(tiny.chunks))
    assert json.loads((reference / "provenance.json").read_text())["seconds"] > 0
    with h5py.File(reference / "logits.h5") as file:
        assert set(file) == {"rows", "logits"}
        assert set(file["rows"]) == SETS
        assert set(file["logits"]) == set(SELECTORS)
        for selector, sets in file["logits"].items():
            assert set(sets) == SETS - ({"information"} if selector != "loss" else set())
            for name, logits in sets.items():
                assert logits.dtype == np.float32 and logits.shape == file["rows"][name].shape
                assert np.isfinite(logits[:]).all()
        for name, split in frozen_sets.FROZEN.items():
            rows = frozen_sets.frozen_rows(tiny, name, mocklens.sizes(smoke_bank, split))
            np.testing.assert_array_equal(file["rows"][name][:], rows)
        seen = [mocklens.training_rows(tiny, 1, c, mocklens.sizes(smoke_bank, "train"))[0] for c in range(tiny.chunks)]
        assert not any(np.array_equal(file["rows/training"][:], rows) for rows in seen)
    assert not list(reference.glob("*.npz"))


def test_each_checkpoint_of_the_tables_is_scored_on_the_large_test_set(tiny, smoke_bank, reference, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(reference.parents[2]))
    opened, rows = frozen_sets.frozen_bank(tiny, "large")
    np.testing.assert_array_equal(Run(reference).rows("large"), frozen_sets.large_rows(tiny))
    images = mocklens.images(opened, "large", rows)
    for selector in sorted({"loss", "f_beta", "soft_f_beta", "code_loss", "code_f_beta", "code_accuracy"}):
        labels, logits = Run(reference).logits(selector, "large")
        np.testing.assert_array_equal(labels, rows["label"])
        again = training.load_network(reference, selector)(images, training=False).numpy()[:, 0]
        np.testing.assert_allclose(again, expit(logits), atol=1e-5)
    with h5py.File(reference / "large.h5") as file:
        assert set(file["logits"]) == set(SELECTORS)
    assert Run(reference).scored_on_large(frozen_sets.large_key(tiny))
    assert not Run(reference).scored_on_large(frozen_sets.large_key(changed(tiny, large_size=31)))
    truth = pd.read_parquet(frozen_sets.large_folder(tiny) / "truth.parquet")
    assert list(truth["label"]) == list(rows["label"]) and truth["einstein_radius"].notna().sum() == tiny.large_size


def test_missing_rows_of_the_large_test_set_are_written_again(tiny, smoke_bank, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path))
    folder = tmp_path / reference.relative_to(reference.parents[2])
    shutil.copytree(reference, folder)
    with pytest.raises(FileNotFoundError, match=r"rows.h5: rows of the large test set; run notebooks/02_losses.py"):
        Run(folder).rows("large")
    assert training.train_missing(changed(tiny, experiments=["bce"])) == smoke_bank.data_key  # nothing is to train
    assert len(Run(folder).rows("large")) == 2 * tiny.large_size
    (folder / "large.h5").unlink()
    with pytest.raises(FileNotFoundError, match="large.h5: not scored on the large set; remove .* to train it anew"):
        Run(folder).logits("loss", "large")


def test_kept_weights_give_the_kept_logits(smoke_bank, reference):
    for selector in SELECTORS:
        network = training.load_network(reference, selector)
        for name, split in (("test", "test"), ("training", "train")):
            with h5py.File(reference / "logits.h5") as file:
                rows, logits = file[f"rows/{name}"][:], file[f"logits/{selector}/{name}"][:]
            images = mocklens.images(smoke_bank, split, rows)
            assert images.shape == (len(rows), 101, 101, 1)
            again = network(images, training=False).numpy()[:, 0]
            np.testing.assert_allclose(again, expit(logits), atol=1e-5)


def test_missing_weights_are_an_error_with_the_remedy(reference, tmp_path):
    shutil.copy(reference / "parameters.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/loss.weights.h5: no weights; remove the folder"):
        training.load_network(tmp_path)


# ---- switches


def test_a_redrawn_validation_set_changes_published_selectors_only(tiny, smoke_bank, reference, elsewhere):
    p = changed(tiny, redraw_validation=True)
    training.train(p, "bce", 1, smoke_bank, progress=False)
    found = Run(runs.run_folder(p, "bce", 1, smoke_bank.data_key)).history
    fixed = Run(reference).history
    for column in found:
        if not column.startswith("code_"):
            assert found[column].equals(fixed[column]), column
    assert (found["code_loss"] != fixed["code_loss"]).all()  # the other two are counts, and may tie


@pytest.mark.parametrize("direction, sign", [("in", -1), ("out", 1)])
def test_zoom_direction_enlarges_or_shrinks(tiny, direction, sign):
    _, warps = mocklens.training_rows(changed(tiny, zoom_direction=direction), 1, 0, mocklens.Sizes(40, 40, 40))
    scales = np.linalg.svd(warps.reshape(-1, 2, 3)[:, :, :2].astype(float), compute_uv=False) ** sign
    assert scales.min() >= 1 - 1e-6 and scales.max() <= 1.05 + 1e-6
    assert (np.ptp(scales, axis=1) < 1e-6).all() == (direction == "in")  # the published runs drew each axis apart


def test_missing_runs_are_trained_run_by_run_over_all_losses(tiny, reference, smoke_bank, monkeypatch):
    """First the first run of every experiment; and nothing is built or opened where nothing is missing."""
    monkeypatch.setenv("LENSDET_RESULTS", str(reference.parents[2]))
    p, trained = changed(tiny, runs=2, experiments=["bce", "f1"]), []
    monkeypatch.setattr(training, "train", lambda p, loss, run, *_, **__: trained.append((loss, run)))
    assert training.train_missing(p) == smoke_bank.data_key
    assert trained == [("f1", 1), ("bce", 2), ("f1", 2)]
    truth = reference.parents[1] / f"truth-{smoke_bank.data_key}"
    assert {f.stem for f in truth.glob("*.parquet")} == set(frozen_sets.FROZEN)
    before = (truth / "test.parquet").read_bytes()
    (truth / "test.parquet").unlink()  # as one does with a table that is damaged: it comes back without a training
    training.train_missing(changed(tiny, experiments=["bce"]))
    assert (truth / "test.parquet").read_bytes() == before
    monkeypatch.setattr(training, "open_bank", lambda _: pytest.fail("a bank was opened"))
    assert training.train_missing(changed(tiny, experiments=["bce"])) == smoke_bank.data_key


def test_no_run_is_started_that_would_not_end_in_time(tiny, smoke_bank, elsewhere, monkeypatch):
    """By the clock of the runs before: the first takes 40 of 60 seconds, and the second is not begun."""
    clock, begun = [0.0], []

    def train(p, experiment, run, bank, progress, deadline, learners):
        begun.append((run, deadline))
        clock[0] += 40

    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(training, "train", train)
    training.train_missing(changed(tiny, runs=3, experiments=["bce"]), minutes=1)
    assert begun == [(1, 60)]


def test_train_command_trains_resumes_and_packs(tiny, smoke_bank, reference, elsewhere, tmp_path, capsys, monkeypatch):
    """No time, no run; a run whose time was up after its first chunk is taken up; a complete one is left alone."""
    given = [word for name, value in TINY.items() for word in ("-p", name, str(value))]
    command = [*given, "-p", "experiments", "bce", "--pack", str(tmp_path / "runs.zip")]
    assert cli.main(["train", *command, "--minutes", "0"]) == 3
    assert "runs still missing: 1" in capsys.readouterr().out and not elsewhere.exists()
    training.train(tiny, "bce", 1, smoke_bank, progress=False, deadline=0)
    assert saved_chunks(elsewhere) == 1
    assert cli.main(["train", *command]) == cli.main(["train", *command]) == 0
    assert_same_run(elsewhere, reference)
    with zipfile.ZipFile(tmp_path / "runs.zip") as file:
        file.extractall(tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / elsewhere.relative_to(tmp_path)
    packed = {"parameters.json", "provenance.json", "history.csv", "logits.h5", "large.h5"}
    assert {f.name for f in folder.iterdir()} == packed
    assert (folder / "logits.h5").read_bytes() == (elsewhere / "logits.h5").read_bytes()
    assert {f.stem for f in folder.parents[1].glob("truth-*/*.parquet")} == set(frozen_sets.FROZEN)
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "elsewhere"))
    assert len(Run(folder).rows("large")) == 2 * tiny.large_size


@pytest.mark.slow
def test_runs_trained_side_by_side_equal_those_trained_one_by_one(tiny, reference, elsewhere, tmp_path):
    """Two processes, of one thread each, take a run each: the same within the rounding of sums."""
    given = [word for name, value in {**TINY, "runs": 2}.items() for word in ("-p", name, str(value))]
    assert cli.main(["train", *given, "-p", "experiments", "bce", "--jobs", "2"]) == 0
    mine, theirs = (pd.read_csv(folder / "history.csv") for folder in (elsewhere, reference))
    np.testing.assert_allclose(mine["training_loss"], theirs["training_loss"], rtol=1e-3)
    assert Run(elsewhere.with_name("run_02")).is_complete


def test_processes_side_by_side_share_the_memory_of_a_gpu(monkeypatch):
    """Neither backend may take the whole memory at once; what the user has set is kept."""
    started = []

    class Process:
        def __init__(self, command, env):
            started.append(env)

        def wait(self):
            pass

        terminate = wait

    monkeypatch.setattr(side_by_side.subprocess, "Popen", Process)
    monkeypatch.setattr(side_by_side.os, "environ", {"TF_FORCE_GPU_ALLOW_GROWTH": "false"})
    side_by_side._processes([], 2)
    assert len(started) == 2
    assert {env["XLA_PYTHON_CLIENT_PREALLOCATE"] for env in started} == {"false"}
    assert {env["TF_FORCE_GPU_ALLOW_GROWTH"] for env in started} == {"false"}


def test_a_run_trained_by_another_process_is_waited_for(tiny, smoke_bank, elsewhere, monkeypatch):
    """Others are trained first; then the one that was busy is asked for again, and not without waiting."""
    asked = []

    def train(p, experiment, run, bank, progress, deadline, wait=0.0, learners=None):
        asked.append((run, wait))
        if run == 1 and not wait:
            raise training.Busy

    monkeypatch.setattr(training, "train", train)
    training.train_missing(changed(tiny, runs=3, experiments=["bce"]))
    assert asked == [(1, 0), (2, 0), (3, 0), (1, math.inf)]


def test_shards_of_a_training_have_each_run_once_whatever_is_complete(tiny, smoke_bank, elsewhere, monkeypatch):
    trained = []

    def train(p, experiment, run, bank, *_, **__):
        trained.append((run, experiment))
        runs.write_logits(runs.run_folder(p, experiment, run, bank.data_key) / "logits.h5", {}, {})

    monkeypatch.setattr(training, "train", train)
    words = [word for name, value in {**TINY, "runs": 2}.items() for word in ("-p", name, str(value))]
    words = ["train", *words, "-p", "experiments", "bce,fbeta,f1"]
    every = [(run, loss) for run in (1, 2) for loss in ("bce", "fbeta", "f1")]
    for i in (4, 1, 6, 2, 3, 5, 4):  # a run a task, in whatever order; the last one again
        assert cli.main([*words, "--shard", f"{i}/6"]) == 0
    assert trained == [every[i - 1] for i in (4, 1, 6, 2, 3, 5)]
    assert cli.main([*words, "--shard", "7/9"]) == 0  # more tasks than runs
    for wrong in ("0/6", "7/6", "1", "a/6"):
        with pytest.raises(SystemExit) as left:
            cli.main([*words, "--shard", wrong])
        assert left.value.code == 2


def test_an_ensemble_network_is_not_trained_before_its_members(tiny, smoke_bank, elsewhere, capsys):
    training.train_missing(changed(tiny, runs=1), progress=False, experiments=["IDE_3"])
    said = capsys.readouterr().out
    assert "IDE_3 run 1 needs members that are not trained yet: " in said and "bce-" in said and "fbeta-" in said
    assert not Run(runs.run_folder(tiny, "IDE_3", 1, smoke_bank.data_key)).is_complete


def test_an_ensemble_network_without_member_weights_is_an_error(tiny, smoke_bank, elsewhere):
    for loss in ("bce", "fbeta", "f1"):
        folder = runs.run_folder(tiny, loss, 1, smoke_bank.data_key)
        runs.write_logits(folder / "logits.h5", {}, {})
    with pytest.raises(FileNotFoundError, match=r"bce-\w+/run_01/loss.weights.h5: no weights; remove the folder"):
        training.train(tiny, "IDE_3", 1, smoke_bank, progress=False)


def test_the_command_trains_ensembles_after_their_members(tiny, elsewhere, capsys):
    given = [x for name, value in TINY.items() for x in ("-p", name, str(value))]
    command = [*given, "-p", "ensembles", "IDE_3,NM_6", "-p", "experiments", "bce,fbeta,f1", "--ensembles"]
    assert cli.main(["train", *command, "--minutes", "0"]) == 3
    said = capsys.readouterr().out
    assert "3 runs to train, 6 chunks each, and 1 network of ensembles, 2 chunks each" in said
    assert said.strip().endswith("runs still missing: 4")
    with pytest.raises(SystemExit):
        cli.main(["train", *given, "-p", "experiments", "bce", "--ensembles"])
    assert "no ensemble can be made of the experiments bce" in capsys.readouterr().err


def test_the_train_command_says_what_is_wrong(capsys, tmp_path):
    (tmp_path / "list.yaml").write_text("- bce\n")
    (tmp_path / "broken.yaml").write_text("runs: [1\n")
    for given, words in (
        (["-p", "chunk", "3"], "did you mean 'chunks'"),
        (["-f", str(tmp_path / "none.yaml")], "none.yaml"),
        (["-f", str(tmp_path / "list.yaml")], "list.yaml: not a file of parameters"),
        (["-f", str(tmp_path / "broken.yaml")], "broken.yaml"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", *given])
        assert stopped.value.code == 2
        assert words in capsys.readouterr().err


def test_banner_counts_runs_and_warns_of_long_trainings():
    assert "WARNING" not in training.banner(parameters.resolve({"profile": "smoke"}))
    line, own = training.banner(parameters.resolve({"profile": "quick", "experiments": "fbeta"})), PROFILES["quick"]
    assert line.startswith(f"profile quick: {own['runs']} runs to train, {own['chunks']} chunks each; ")
    assert "WARNING" not in line
    assert "quick: 1 run to train, " in training.banner(parameters.resolve({"experiments": "fbeta", "runs": 1}))
    if "CPU" in runs.device():
        assert "WARNING: on this CPU that is about" in training.banner(parameters.resolve({"profile": "thesis"}))


# ---- on segmented stamps


def test_training_on_segmented_stamps_uses_masked_images_throughout(tiny, smoke_bank, elsewhere, monkeypatch):
    """What is learnt from, selected by, scored and kept is what the Max-Tree leaves of each stamp."""
    p = changed(tiny, chunks=2, segmentation="text", maxtree_tolerance=12)
    seen = []
    train_chunk = engine.Learner.train_chunk
    monkeypatch.setattr(
        engine.Learner, "train_chunk", lambda self, *given: seen.append(given) or train_chunk(self, *given)
    )
    training.train(p, "bce", 1, smoke_bank, progress=False)
    folder = runs.run_folder(p, "bce", 1, smoke_bank.data_key)
    assert folder != runs.run_folder(changed(p, segmentation="none"), "bce", 1, smoke_bank.data_key)
    Run(folder).check(p, "bce", 1, smoke_bank.data_key)
    assert json.loads((folder / "parameters.json").read_text())["segmentation"]["tolerance"] == 12

    settings, size = p.maxtree(), mocklens.sizes(smoke_bank, "train")
    for chunk, (rows, warps, masks) in enumerate(seen):
        again, same = mocklens.training_rows(p, 1, chunk, size)
        assert (rows == again).all() and (warps == same).all()
        expected = maxtree.masks(mocklens.images(smoke_bank, "train", rows)[..., 0], settings)
        assert (masks == expected).all() and 0 < masks.mean() < 0.9

    network = resnet.logit_model(training.load_network(folder))
    opened, rows = frozen_sets.frozen_bank(p, "large")
    images = maxtree.segment(mocklens.images(opened, "large", rows)[..., 0], settings)[..., None]
    mine = np.asarray(network(images))[:, 0]
    np.testing.assert_allclose(Run(folder).logits("loss", "large")[1], mine, atol=1e-4)
    rows = frozen_sets.frozen_rows(p, "test", mocklens.sizes(smoke_bank, "test"))
    images = mocklens.images(smoke_bank, "test", rows)
    mine = np.asarray(network(maxtree.segment(images[..., 0], settings)[..., None]))[:, 0]
    np.testing.assert_allclose(Run(folder).logits("loss", "test")[1], mine, atol=1e-4)
    assert np.abs(mine - np.asarray(network(images))[:, 0]).max() > 1e-2
    best = Run(folder).history["loss"].min()
    rows = frozen_sets.frozen_rows(p, "validation", mocklens.sizes(smoke_bank, "validation"))
    images = maxtree.segment(mocklens.images(smoke_bank, "validation", rows)[..., 0], settings)[..., None]
    assert best == pytest.approx(log_loss(rows["label"], expit(np.asarray(network(images))[:, 0])), rel=1e-4)


def test_masks_are_applied_before_the_augmentation(tiny, smoke_bank):
    rows, warps = mocklens.training_rows(tiny, 1, 0, mocklens.sizes(smoke_bank, "train"))
    one, masks = learner(tiny, smoke_bank), np.random.default_rng(0).random((len(rows), 101, 101)) < 0.5
    batch = {**{name: rows[name] for name in rows.dtype.names}, "mask": masks}
    images = mocklens.images(smoke_bank, "train", rows)
    assert np.asarray(one.merged(one.bank, batch)) == pytest.approx(np.where(masks[..., None], images, 0), abs=1e-6)
    warped = augmentation.warp(np.where(masks[..., None], images, 0).astype("f4"), warps, tiny.interpolation)
    assert np.asarray(one.augmented(one.bank, {**batch, "warp": warps})) == pytest.approx(np.asarray(warped), abs=1e-5)


# ---- the second backend


OTHER_BACKEND = """
import json, sys
from pathlib import Path
import jax, keras, numpy as np
from scipy.special import log_softmax
from lensdet import parameters, runs as run_folders
from lensdet.data import bank, frozen_sets, mocklens
from lensdet.network import engine, ensemble_network, resnet, training
from lensdet.network.state import State
from lensdet.runs import Run

p, folder = parameters.resolve(json.loads(sys.argv[1])), Path(sys.argv[2])
assert keras.backend.backend() == "jax"
assert run_folders.device().startswith("CPU")
stamps = bank.open_bank(p)
learner = engine.Learner(p, "fbeta", 1, *mocklens.device_bank(stamps, "train"))
size = mocklens.sizes(stamps, "train")
losses = learner.train_chunk(*mocklens.training_rows(p, 1, 0, size))
logits = learner.logits(mocklens.training_rows(p, 1, 9, size)[0], learner.bank)
state = State()
state.add({"chunk": 0, **dict.fromkeys(learner.selectors, 1.0)}, learner)
state.save(folder / "jax.npz", learner, 1.0)
State.load(folder / "tensorflow.npz", learner)
validation = engine.on_device(*mocklens.device_bank(stamps, "validation"))
frozen = frozen_sets.frozen_rows(p, "validation", mocklens.sizes(stamps, "validation"))
rows = mocklens.training_rows(p, 1, 1, size)
values = learner.validate(frozen, validation)  # compiles
with jax.transfer_guard("disallow"):  # what is not sent or fetched on purpose stays where it is
    more = learner.train_chunk(*rows)
    values = learner.validate(frozen, validation)
learner.restart(1)  # as new, with what is compiled
again = learner.train_chunk(*mocklens.training_rows(p, 1, 0, size))
assert np.array_equal(np.asarray(again), np.asarray(losses))
learner.average_statistics(*mocklens.training_rows(p, 1, 0, size))
averaged = learner.logits(mocklens.training_rows(p, 1, 9, size)[0], learner.bank)
np.savez(folder / "found.npz", losses=losses, logits=logits, more=more, values=values, averaged=averaged)
"""
# What the slow test asks for beyond that.
OTHER_BACKEND_TOO = """
before = [np.asarray(x) for x in learner.get(every=True)]
learner.set(learner.get())  # the network alone: the optimiser's moments stay
assert all(np.array_equal(x, y) for x, y in zip(before, learner.get(every=True)))

# a run that was stopped and taken up ends as one that was not
import os
short, ends = parameters.resolve({**p.model_dump(), "chunks": 2, "schedule": "cosine"}), []
for deadlines in ((float("inf"),), (0, float("inf"))):
    os.environ["LENSDET_RESULTS"] = str(folder / f"jax{len(deadlines)}")
    for deadline in deadlines:
        training.train(short, "fbeta", 1, stamps, progress=False, deadline=deadline)
    run = run_folders.run_folder(short, "fbeta", 1, stamps.data_key)
    ends.append([(run / "history.csv").read_text(), *Run(run).logits("loss", "test")])
assert ends[0][0] == ends[1][0] and np.array_equal(ends[0][2], ends[1][2])

# two runs, not one twice
runs = [engine.Learner(p, "fbeta", run, *mocklens.device_bank(stamps, "train")) for run in (1, 2)]
chunks = [mocklens.training_rows(p, run, 0, size) for run in (1, 2)]
one, other = [np.asarray(each.train_chunk(*chunk)) for each, chunk in zip(runs, chunks)]
assert np.abs(one - other).max() > 1e-2

# segmented: what is zero outside a mask trains otherwise, in the same one call
whole, middle = np.ones((2, len(rows[0]), 101, 101), bool)
middle[:, :30] = False
state, masked = runs[0].get(every=True), []
for masks in (None, whole, middle):
    masked.append(np.asarray(runs[0].train_chunk(*chunks[0], masks)))
    runs[0].set(state)
np.testing.assert_allclose(masked[0], masked[1], rtol=1e-4)
assert abs(masked[0] - masked[2]).max() > 1e-3

# the network of an input-dependent ensemble, whose members are frozen
models = [runs[0].model, runs[1].model]
one = ensemble_network.DynamicEnsembler(p.dynamic(), models, 1, *mocklens.device_bank(stamps, "train"))
steps = np.asarray(one.train_chunk(*rows))
own, images = one.logits(frozen, validation), mocklens.images(stamps, "validation", frozen)
others = np.concatenate([np.asarray(resnet.logit_model(run.model)(images)) for run in runs], -1)
target = np.asarray(ensemble_network.closest(frozen["label"], others))
expected = -log_softmax(own.astype(float), -1)[np.arange(len(own)), target].mean(), (own.argmax(-1) == target).mean()
assert np.isfinite(steps).all() and steps.shape == losses.shape
np.testing.assert_allclose(one.validate(frozen, validation), expected, rtol=1e-4)
"""
ON_JAX = {"learning_rate": 1e-3, "schedule": "constant"}  # rounding grows with the step
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


def run_on_jax(code, folder):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
                   "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # fmt: skip  # compiles in half the time
    given = json.dumps({**TINY, **ON_JAX})
    subprocess.run([sys.executable, "-c", code, given, folder], env=environment, check=True)


@pytest.mark.slow
@needs_jax
def test_jax_gives_the_same_losses_and_exchanges_states(tiny, smoke_bank, tmp_path):
    """The same losses over some steps, and each backend takes up the other's state."""
    p = changed(tiny, **ON_JAX)
    ours, size = learner(p, smoke_bank, "fbeta"), mocklens.sizes(smoke_bank, "train")
    losses = ours.train_chunk(*mocklens.training_rows(p, 1, 0, size))
    logits = ours.logits(mocklens.training_rows(p, 1, 9, size)[0], ours.bank)
    state = State()
    state.add({"chunk": 0, **dict.fromkeys(SELECTORS, 1.0)}, ours)
    state.save(tmp_path / "tensorflow.npz", ours, 1.0)
    run_on_jax(OTHER_BACKEND, tmp_path)
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-4)
    np.testing.assert_allclose(found["logits"], logits, atol=2e-2)
    read = State.load(tmp_path / "jax.npz", ours)
    assert read.best == state.best and len(read.kept[0]) == len(state.kept[0])
    more = ours.train_chunk(*mocklens.training_rows(p, 1, 1, size))
    np.testing.assert_allclose(found["more"], more, rtol=1e-3)
    bank = engine.on_device(*mocklens.device_bank(smoke_bank, "validation"))
    values = ours.validate(frozen_sets.frozen_rows(p, "validation", mocklens.sizes(smoke_bank, "validation")), bank)
    np.testing.assert_allclose(found["values"], values, rtol=2e-2)
    ours.restart(1)
    ours.train_chunk(*mocklens.training_rows(p, 1, 0, size))
    ours.average_statistics(*mocklens.training_rows(p, 1, 0, size))
    averaged = ours.logits(mocklens.training_rows(p, 1, 9, size)[0], ours.bank)
    np.testing.assert_allclose(found["averaged"], averaged, atol=2e-2)
    assert np.abs(averaged - logits).max() > 0.1


@pytest.mark.slow
@needs_jax
def test_jax_resumes_exactly_and_trains_with_masks_and_members(tiny, smoke_bank, tmp_path):
    """An exact resume, masks, the network of an ensemble, and compiling ahead: asserted where they run."""
    ours = learner(changed(tiny, **ON_JAX), smoke_bank, "fbeta")
    state = State()
    state.add({"chunk": 0, **dict.fromkeys(SELECTORS, 1.0)}, ours)
    state.save(tmp_path / "tensorflow.npz", ours, 1.0)
    run_on_jax(OTHER_BACKEND + OTHER_BACKEND_TOO, tmp_path)
