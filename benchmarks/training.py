"""Training with everything on, against a bare Keras ``fit`` of the same network on ready arrays, in one process.

    python benchmarks/training.py            # quick: a few minutes on two cores

Prints images a second (medians over interleaved rounds, after one to warm up), their ratio, and the share of a step
that merging and warping take.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from lensdet import parameters, runs
from lensdet.data import bank, mocklens
from lensdet.network import engine, resnet


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of one chunk each way")
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(rounds=1)
        options = parser.parse_args()
    p = parameters.resolve({"profile": options.profile})
    stamps = bank.open_bank(p)
    size = mocklens.sizes(stamps, "train")
    learner = engine.Learner(p, "bce", 1, *mocklens.device_bank(stamps, "train"))

    # the bare fit: images merged and warped beforehand
    rows, warps = mocklens.training_rows(p, 1, 0, size)
    batches = {name: rows[name].reshape(-1, p.batch_size) for name in rows.dtype.names}
    batches["warp"] = warps.reshape(-1, p.batch_size, 6)
    steps = len(rows) // p.batch_size
    batch = [{name: array[i] for name, array in batches.items()} for i in range(steps)]
    images = np.concatenate([np.asarray(learner.augmented(learner.bank, b)) for b in batch])
    bare = resnet.logit_model(resnet.resnet18(p.width, p.momentum, p.l2))
    # epsilon and betas are Adam's defaults in both
    bare.compile(
        keras.optimizers.Adam(p.learning_rate), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False
    )

    def fit():
        bare.fit(images, rows["label"], batch_size=p.batch_size, shuffle=False, verbose=0)

    def ours(chunk):
        learner.train_chunk(*mocklens.training_rows(p, 1, chunk, size))

    if keras.backend.backend() == "tensorflow":
        from tensorflow import function as compile_
    else:
        from jax import jit as compile_
    compiled = compile_(learner.augmented)

    def data():
        for b in batch:
            np.asarray(compiled(learner.bank, b))

    times = {"fit": [], "lensdet": [], "data path": []}
    for i in range(options.rounds + 1):
        for name, work in (("fit", fit), ("lensdet", lambda i=i: ours(i)), ("data path", data)):
            began = time.perf_counter()
            work()
            if i:
                times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(t) for name, t in times.items()}
    print(
        f"{runs.device()}, {keras.backend.backend()}; profile {p.profile}, width {p.width}, batch {p.batch_size}, "
        f"{p.chunk_size} images a round, {options.rounds} rounds"
    )
    for name in ("fit", "lensdet"):
        print(f"{name:10s} {p.chunk_size / median[name]:8.0f} images/s")
    ratios = [f / o for f, o in zip(times["fit"], times["lensdet"], strict=True)]
    print(f"ratio      {statistics.median(ratios):8.3f}  (goal: at least 0.95; {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"data path  {median['data path'] / median['lensdet']:8.1%} of a step")


if __name__ == "__main__":
    main()
