"""Grad-CAM: seconds for 1000 images at four layers, on each backend that `KERAS_BACKEND` names.

python benchmarks/gradcam.py
KERAS_BACKEND=jax python benchmarks/gradcam.py --width 64
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from lensdet import runs
from lensdet.network import gradcam, resnet


def main():
    """Measure and print; the first call compiles, and so does every other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--profile", default="quick", choices=["smoke", "quick"], help="smoke: as little as shows that it runs"
    )
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(width=8, images=8, rounds=1)
        options = parser.parse_args()
    model = resnet.resnet18(options.width)
    resnet.initialise(model, 0, 1)
    images = np.random.default_rng(0).random((options.images, 101, 101, 1), np.float32)
    seconds = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        gradcam.heat_maps(model, images)
        seconds.append(time.perf_counter() - began)
    print(f"{runs.device()}; {keras.backend.backend()}; {runs.versions()}")
    print(f"{options.images} images, four layers, width {options.width}: median {np.median(seconds):.2f} s "
          f"({min(seconds):.2f} to {max(seconds):.2f}, n = {options.rounds}), compiling included")  # fmt: skip


if __name__ == "__main__":
    main()
