"""Training and scoring with TensorFlow's oneDNN on and off, in turn, and how far logits then differ.

    python benchmarks/onednn.py            # nine minutes on two cores with AVX-512; with --widths 16 three

Each measurement is a process of its own, as oneDNN is switched before TensorFlow is imported; two processes run side by
side with a thread each, as `lensdet train --jobs 2` has them.  Medians over rounds; the first chunk of
each process, which compiles, is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def measure(width, chunk_size, chunks, path):
    """Speeds of one process, images a second as JSON on standard output; logits of the untrained network in a file."""
    from lensdet import parameters
    from lensdet.data import mocklens
    from lensdet.network import engine, resnet

    p = parameters.resolve({"profile": "quick", "width": width, "chunk_size": chunk_size, "chunks": chunks + 1})
    rng = np.random.default_rng(0)
    hosts, sources = rng.random((2, 200, resnet.STAMP, resnet.STAMP), np.float32).astype(np.float16)
    learner, size = engine.Learner(p, "bce", 1, hosts, sources), mocklens.Sizes(100, 100, 200)
    scored = mocklens.training_rows(p, 1, 0, size)[0]
    np.save(path, learner.logits(scored, learner.bank))
    training, scoring = [], []
    for chunk in range(chunks + 1):
        rows, warps = mocklens.training_rows(p, 1, chunk, size)
        began = time.perf_counter()
        np.asarray(learner.train_chunk(rows, warps))
        trained = time.perf_counter()
        learner.logits(scored, learner.bank)
        training.append(chunk_size / (trained - began))
        scoring.append(chunk_size / (time.perf_counter() - trained))
    print(json.dumps([statistics.median(training[1:]), statistics.median(scoring[1:])]))


def started(on, processes, width, chunk_size, chunks, folder):
    """Training and scoring speed (images/s, summed over the processes) and logits (N,) with oneDNN on or off."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(on)), "TF_CPP_MIN_LOG_LEVEL": "2"}
    if processes > 1:
        environment |= dict.fromkeys(THREADS, "1")
    path = Path(folder) / "logits.npy"
    words = [sys.executable, __file__, "--measure", str(width), str(chunk_size), str(chunks), str(path)]
    running = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{' '.join(words)}: FAILED")
    return np.sum([json.loads(text.splitlines()[-1]) for text in said], axis=0), np.load(path)


def main():
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", help="smoke: as little as shows that it runs")
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--rounds", type=int, default=3, help="processes each way")
    parser.add_argument("--chunks", type=int, default=3, help="chunks a process")
    parser.add_argument("--measure", nargs=4, metavar=("WIDTH", "IMAGES", "CHUNKS", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        *numbers, path = options.measure
        return measure(*map(int, numbers), path)
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(widths="8", rounds=1, chunks=1)
        options = parser.parse_args()
    print("| width | processes | training off, on (images/s) | ratio | scoring off, on | ratio | logits differ by |")
    print("|---|---|---|---|---|---|---|")
    for width in map(int, options.widths.split(",")):
        images = 64 if options.profile == "smoke" else max(64, 4096 // width)
        for processes in (1, 2):
            speeds, logits = {False: [], True: []}, {}
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(options.rounds):
                    for on in speeds:
                        speed, logits[on] = started(on, processes, width, images, options.chunks, folder)
                        speeds[on].append(speed)
            off, on = (np.median(speeds[way], axis=0) for way in (False, True))
            apart = np.abs(logits[True] - logits[False]).max()
            cells = [f"{off[k]:.0f}, {on[k]:.0f} | {on[k] / off[k]:.2f}" for k in (0, 1)]
            print(f"| {width} | {processes} | {' | '.join(cells)} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
