"""The training engine on one device: images a second and MFU, against plain Keras ``fit`` and against PyTorch.

    KERAS_BACKEND=jax python benchmarks/engine.py                 # on a GPU: builds, checks and times, under 10 minutes
    KERAS_BACKEND=jax python benchmarks/engine.py --width 8 --stamps 200 --chunk 256   # to try it on a CPU
    KERAS_BACKEND=jax python benchmarks/engine.py --only chunk,fit

The engine's variants train on the same rows, and their first losses are compared with those of float32, batch 64, one
member; those of `fit` and PyTorch are not (they see ready images).  Exit status 1 where a variant computes something
else or fails.  What the time limit leaves no room for is named in the table.  ``engine.json`` and ``engine.md`` are
written into ``--out`` after every part, so that nothing is lost.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch and further processes need room, too
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np

from lensdet import parameters, runs, storage
from lensdet.data import frozen_sets, mocklens
from lensdet.network import engine, resnet
from lensdet.profiles import PROFILES

# FLOP/s without sparsity, as in the data sheet; float32 means TensorFloat-32 on these cards
PEAK = {"bfloat16": {"H100": 989e12, "H200": 989e12}, "float32": {"H100": 494e12, "H200": 494e12}}
PARTS = ("chunk", "fit", "inference", "processes", "torch")
FROZEN, CHUNKS_THESIS = 1102, 8000


def flops(width):
    """Floating-point operations of one image in training: a multiplication and an addition each, backward as two."""
    network = resnet.resnet18(width)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    return 3 * sum(2 * math.prod(c.kernel.shape) * math.prod(c.output.shape[1:3]) for c in convolutions)


class Bench:
    """Rows, stamps and what was measured."""

    def __init__(self, options):
        self.options, self.began, self.rows = options, time.monotonic(), []
        rng = np.random.default_rng(0)
        n = options.stamps
        self.size = mocklens.Sizes(n // 10, n // 10, n)
        # uniform noise, not zeros, which can run faster; contaminants are darker, so that there is something to learn
        self.hosts = rng.random((n // 5, 101, 101), np.float32).astype(np.float16)
        self.hosts[n // 10 :] *= np.float16(0.5)
        self.sources = rng.random((n, 101, 101), np.float32).astype(np.float16)
        self.flops = flops(options.width)
        self.expected, self.failed = None, False

    def parameters(self, **given):
        o = self.options
        fixed = {"profile": o.profile, "width": o.width, "chunk_size": o.chunk, "frozen_size": FROZEN // 2}
        return parameters.resolve({**fixed, **given})

    def left(self):
        return self.options.seconds - (time.monotonic() - self.began)

    def check(self, losses, penalty, who="first losses"):
        """The first losses of a variant against those of the first one: a wrong program is not worth timing."""
        losses = losses[:4] - penalty  # the L2 penalty is the larger part, and the same for all
        if self.expected is None:
            self.expected = losses
            return ""
        off = np.abs(losses / self.expected - 1).max()
        self.failed |= bool(off > 0.05)
        return f"; {'WRONG: ' if off > 0.05 else ''}{who} within {off:.1%} of float32"

    def add(self, name, images, seconds, note="", precision=None):
        """A line of the table; with a precision also the share of the card's peak that training reaches."""
        speed = images / statistics.median(seconds)
        peak = next((p for card, p in PEAK.get(precision, {}).items() if card in self.options.device), None)
        mfu = f"{speed * self.flops / peak:.1%}" if peak else "–"
        low, high = images / max(seconds), images / min(seconds)
        self.rows.append({"what": name, "images_per_second": speed, "low": low, "high": high, "mfu": mfu,
                          "rounds": len(seconds), "note": note})  # fmt: skip
        print(f"{name:46s} {speed:10.0f} images/s ({low:.0f} to {high:.0f})  MFU {mfu}  {note}", flush=True)
        return speed

    def room(self, name):
        """Whether there is time for another variant; says so in the table where there is none."""
        if self.left() > 0:
            return True
        self.rows.append({"what": name, "note": "skipped: no time left"})
        print(f"{name}: skipped, no time left", flush=True)
        return False

    def time(self, work, fence, rounds=None):
        """Seconds of each round of ``work(i)``, after one to warm up; ``fence(result)`` waits for the device."""
        found = []
        for i in range((rounds or self.options.rounds) + 1):
            began = time.perf_counter()
            fence(work(i))
            if i:
                found.append(time.perf_counter() - began)
        return found


def chunk(bench):
    """The engine: one member, batch 64 and 512, float32 and bf16; the data path; validation."""
    for batch, precision in ((64, "float32"), (64, "bfloat16"), (512, "bfloat16"), (512, "float32")):
        name = f"engine, batch {min(batch, bench.options.chunk)}, {precision}"
        if not bench.room(name):
            continue
        p = bench.parameters(batch_size=min(batch, bench.options.chunk), precision=precision)
        learner = engine.Learner(p, "bce", 1, bench.hosts, bench.sources)
        began, penalty = time.monotonic(), float(sum(learner.network.losses))
        losses = np.asarray(learner.train_chunk(*mocklens.training_rows(p, 1, 0, bench.size)))
        note = f"first call {time.monotonic() - began:.0f} s"
        if batch == 64:
            note += bench.check(losses, penalty)
        seconds = bench.time(lambda i: learner.train_chunk(*mocklens.training_rows(p, 1, i, bench.size)), np.asarray)  # noqa: B023
        speed = bench.add(name, p.chunk_size, seconds, note, precision)
        if batch == 64:
            extrapolate(bench, p, learner, p.chunk_size / speed)
        if batch == 64 and precision == "bfloat16":
            data_path(bench, p, learner, p.chunk_size / speed)


def data_path(bench, p, learner, chunk_seconds):
    """Merging and warping alone, as a compiled scan over the same batches."""
    rows, warps = mocklens.training_rows(p, 1, 0, bench.size)
    batches = engine._batches({**engine._columns(rows), "warp": warps}, p.batch_size)
    if keras.backend.backend() == "jax":
        import jax

        batches = jax.device_put(batches)
        scan = jax.jit(lambda bank, b: jax.lax.map(lambda one: learner.augmented(bank, one).sum(), b))
    else:
        import tensorflow as tf

        scan = tf.function(lambda bank, b: tf.map_fn(lambda one: tf.reduce_sum(learner.augmented(bank, one)), b,
                                                     fn_output_signature=tf.float32))  # fmt: skip
    seconds = bench.time(lambda i: scan(learner.bank, batches), np.asarray)
    share = statistics.median(seconds) / chunk_seconds
    bench.add("merging and warping alone", p.chunk_size, seconds, f"{share:.1%} of a step")


def extrapolate(bench, p, learner, chunk_seconds):
    """Validation, and the hours of a run of the thesis' profile."""
    rows = frozen_sets.frozen_rows(p, "validation", bench.size)
    seconds = bench.time(lambda i: learner.validate(rows, learner.bank), np.asarray)
    bench.add(f"validation and all selectors, {p.precision}", len(rows), seconds)
    hours = CHUNKS_THESIS * (chunk_seconds * 4096 / p.chunk_size + statistics.median(seconds)) / 3600
    name = f"one run of {CHUNKS_THESIS} chunks of 4096, {p.precision}, extrapolated"
    note = "chunks and validations; without compiling, saving and the last scoring"
    bench.rows.append({"what": name, "hours": hours, "note": note})
    print(f"{name}: {hours:.2f} hours ({note})", flush=True)


def processes(bench):
    """Several runs side by side, each in a process of its own with its share of the cores: what ``--jobs`` does."""
    for n in (2, 4):
        if not bench.room(f"{n} processes"):
            continue
        threads = str(max(1, (os.cpu_count() or 1) // n))
        limits = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), threads)
        command = [
            sys.executable,
            __file__,
            *sys.argv[1:],
            "--only",
            "one",
            "--out",
            tempfile.mkdtemp(),
        ]  # the last one counts
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ | limits}
        running = [subprocess.Popen(command, **pipes) for _ in range(n)]
        try:
            for process in running:  # all have compiled before any is timed
                while process.stdout.readline().strip() != "ready":
                    if process.poll() is not None:
                        raise RuntimeError(f"a process ended with status {process.returncode}")
            began = time.perf_counter()
            for process in running:
                process.stdin.write("go\n")
                process.stdin.flush()
            if any([process.wait() for process in running]):
                raise RuntimeError("a process failed")
            seconds = [(time.perf_counter() - began) / bench.options.rounds]
        finally:
            for process in running:
                process.kill()
                process.wait()
        note = f"mean of {bench.options.rounds} chunks of each"
        bench.add(f"{n} processes, batch 64, bfloat16", n * bench.options.chunk, seconds, note, "bfloat16")


def one(bench):
    """One of the `processes`."""
    p = bench.parameters(precision="bfloat16")
    learner = engine.Learner(p, "bce", 1, bench.hosts, bench.sources)
    work = lambda i: np.asarray(learner.train_chunk(*mocklens.training_rows(p, 1, i, bench.size)))  # noqa: E731
    work(0)
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(bench.options.rounds):
        work(i)
    os._exit(0)  # nothing is written, and what ends a process is not what is timed


def fit(bench):
    """The same network under Keras ``fit`` with NumPy batches, merged and warped beforehand."""
    p = bench.parameters()
    rng = np.random.default_rng(1)
    images = rng.random((p.chunk_size, 101, 101, 1), np.float32)
    labels = rng.integers(0, 2, p.chunk_size).astype(np.float32)
    for precision in ("float32", "bfloat16"):
        if not bench.room(f"Keras fit, {precision}"):
            continue
        model = resnet.logit_model(resnet.resnet18(p.width, p.momentum, p.l2, precision=precision))
        model.compile(keras.optimizers.Adam(1e-4), keras.losses.BinaryCrossentropy(from_logits=True))
        work = lambda i, m=model: m.fit(images, labels, batch_size=64, shuffle=False, verbose=0)  # noqa: E731
        seconds = bench.time(work, lambda history: None, max(1, bench.options.rounds // 2))
        bench.add(f"Keras fit, NumPy batches of 64, {precision}", p.chunk_size, seconds, precision=precision)


def torch(bench):
    """The same network in PyTorch with ``torch.compile``: ready images on the device, bf16 autocast, channels last."""
    try:
        import torch
        from torch import nn
    except ImportError:
        bench.rows.append({"what": "PyTorch", "note": "not installed: pip install torch"})
        print("PyTorch: not installed", flush=True)
        return

    class Block(nn.Module):
        def __init__(self, inside, out, stride, first):
            super().__init__()
            norm = nn.Identity() if first else nn.Sequential(nn.BatchNorm2d(inside, 1e-3), nn.ReLU())
            self.path = nn.Sequential(norm, nn.Conv2d(inside, out, 3, stride, 1), nn.BatchNorm2d(out, 1e-3), nn.ReLU(),
                                      nn.Conv2d(out, out, 3, 1, 1))  # fmt: skip
            self.short = nn.Identity() if inside == out and stride == 1 else nn.Conv2d(inside, out, 1, stride)

        def forward(self, x):
            return self.short(x) + self.path(x)

    w = bench.options.width
    sizes = [(w, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)]
    blocks = [Block(a if i == 0 else b, b, 2 if s and i == 0 else 1, s == i == 0)
              for s, (a, b) in enumerate(sizes) for i in range(2)]  # fmt: skip
    net = nn.Sequential(nn.Conv2d(1, w, 7, 2, 3), nn.BatchNorm2d(w, 1e-3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
                        nn.BatchNorm2d(8 * w, 1e-3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(8 * w, 1))  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = net.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, weight_decay=1e-4, fused=device == "cuda")
    x = torch.rand(bench.options.chunk, 1, 101, 101, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 2, (bench.options.chunk, 1), device=device).float()

    def one(images, labels):
        with torch.autocast(device, torch.bfloat16):
            logits = net(images)
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)

    compiled = torch.compile(one, mode="reduce-overhead" if device == "cuda" else "default")

    def epoch(i):
        for images, labels in zip(x.split(64), y.split(64), strict=True):
            optimizer.zero_grad()
            loss = compiled(images, labels)
            loss.backward()
            optimizer.step()
        return loss

    seconds = bench.time(epoch, lambda loss: loss.item())
    name = f"PyTorch {torch.__version__}, torch.compile, batch 64, bfloat16"
    bench.add(name, bench.options.chunk, seconds, precision="bfloat16")


def inference(bench):
    """Stamps a second by the engine's scoring of rows, and by Keras ``predict`` in batches of the same size."""
    p = bench.parameters(precision="bfloat16")
    learner = engine.Learner(p, "bce", 1, bench.hosts, bench.sources)
    rows = mocklens.training_rows(p, 1, 0, bench.size)[0]
    seconds = bench.time(lambda i: learner.logits(rows, learner.bank), np.asarray)
    bench.add("scoring rows, bfloat16", len(rows), seconds, "merging included")
    images = np.random.default_rng(2).random((len(rows), 101, 101, 1), np.float32)
    predict = lambda i: learner.network.predict(images, batch_size=engine.PREDICT_BATCH, verbose=0)  # noqa: E731
    seconds = bench.time(predict, np.asarray)
    bench.add("Keras predict on ready images, bfloat16", len(rows), seconds)


def main():
    """Measure what there is time for, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="thesis", choices=list(PROFILES),
                        help="smoke: as little as shows that it runs")  # fmt: skip
    parser.add_argument("--only", default=",".join(PARTS), help="parts, of %(default)s")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=4096, help="images in a chunk")
    parser.add_argument("--stamps", type=int, default=80_000, help="sources in the bank; a fifth as many hosts")
    parser.add_argument("--rounds", type=int, default=5, help="timed chunks of each variant; the median counts")
    parser.add_argument("--seconds", type=float, default=540, help="parts that would begin later than this are skipped")
    parser.add_argument("--out", type=Path, default=None, help="folder (default: build/)")
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(width=8, stamps=200, chunk=128, rounds=1)
        options = parser.parse_args()
    options.device = runs.device()
    print(f"{options.device}; {keras.backend.backend()}; {runs.versions()}", flush=True)
    if options.device.startswith("CPU") and options.width > 16:
        parser.error(f"no GPU is seen ({options.device}), and width {options.width} takes hours without one; try "
                     "--width 8 --stamps 200 --chunk 256, or install the backend for your GPU")  # fmt: skip
    bench = Bench(options)
    print(f"{bench.flops / 1e9:.2f} GFLOP an image in training at width {options.width}", flush=True)
    for name in options.only.split(","):
        try:
            globals()[name](bench)
        except Exception as error:  # the other parts are worth having
            bench.failed = True
            bench.rows.append({"what": name, "note": f"FAILED: {type(error).__name__}: {str(error)[:200]}"})
            print(f"{name}: FAILED\n{error}", flush=True)
        write(bench, options.out or storage.build_dir())
    return int(bench.failed)


def write(bench, folder):
    """The table as JSON, with what made it, and as Markdown."""
    made = {**runs.provenance(), "flops_per_image": bench.flops, "rows": bench.rows}
    storage.write_json(folder / "engine.json", made)
    lines = ["| what | images/s | range | MFU | note |", "|---|---|---|---|---|"]
    for r in bench.rows:
        speed = f"{r['images_per_second']:,.0f}" if "images_per_second" in r else ""
        speed = f"{r['hours']:.2f} hours" if "hours" in r else speed
        span = f"{r['low']:,.0f} to {r['high']:,.0f}" if "low" in r else ""
        lines.append(f"| {r['what']} | {speed} | {span} | {r.get('mfu', '')} | {r.get('note', '')} |")
    with storage.atomic(folder / "engine.md") as beside:
        beside.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
