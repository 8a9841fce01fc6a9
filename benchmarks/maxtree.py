"""Max-Tree segmentation: `lensdet.data.maxtree` against the same pipeline with scikit-image's or higra's tree.

    pip install scikit-image higra && python benchmarks/maxtree.py

One process, one thread, the same mock lenses and negatives, in turns; what is not installed is left out.  Gaussian and
flood fill of the others are SciPy's and scikit-image's, as in the published runs.  Every mask is compared with ours:
exit status 1 where one differs.  Then images a second of ours, with one thread and with two; and with --width a
training of that width on segmented stamps over one on whole stamps, in turns, where the next chunk is drawn and
segmented while the network trains.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numba import njit
from scipy.ndimage import convolve

from lensdet import parameters
from lensdet.data import frozen_sets, maxtree, mocklens
from lensdet.data.bank import open_bank
from lensdet.network.engine import Learner
from lensdet.profiles import PROFILES

TEXT = maxtree.PRESETS["text"]
GAUSSIAN = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
ROWS, COLUMNS = np.indices((101, 101))
DIMMED = np.exp(-np.hypot(ROWS - 50, COLUMNS - 50) / TEXT.decay)


def kept(area, dx, dy):
    """Section 4.7's criteria."""
    with np.errstate(divide="ignore"):
        fits = (area >= 45) & (dx >= 3) & (dx <= 60) & (dy >= 3) & (dy <= 60)
        return fits & (area / (dx * dy) >= 0.45)


@njit
def summed(parents, order, pixels):
    """Area and box of every pixel's component from scikit-image's tree; compiled, to its advantage."""
    for p in order[::-1]:
        q = parents[p]
        if q != p:
            pixels[0, q] += pixels[0, p]
            pixels[1, q], pixels[2, q] = min(pixels[1, q], pixels[1, p]), max(pixels[2, q], pixels[2, p])
            pixels[3, q], pixels[4, q] = min(pixels[3, q], pixels[3, p]), max(pixels[4, q], pixels[4, p])


@njit
def painted(grey, parents, order, keep):
    result = grey.copy()
    for p in order[1:]:
        if grey[parents[p]] == grey[p] or not keep[p]:
            result[p] = result[parents[p]]
    return result


def scikit_images_tree(grey):
    from skimage.morphology import max_tree

    parents, order = max_tree(grey, connectivity=2)
    rows, columns = ROWS.ravel(), COLUMNS.ravel()
    pixels = np.stack([np.ones_like(rows), rows, rows, columns, columns])
    summed(parents.ravel(), order, pixels)
    keep = kept(pixels[0], pixels[4] - pixels[3], pixels[2] - pixels[1])
    return painted(grey.ravel(), parents.ravel(), order, keep).reshape(grey.shape)


def higras_tree(grey):
    import higra

    graph = higra.get_8_adjacency_implicit_graph(grey.shape)
    tree, altitudes = higra.component_tree_max_tree(graph, grey)
    least, most = higra.Accumulators.min, higra.Accumulators.max

    def extent(of):
        return higra.accumulate_sequential(tree, of, most) - higra.accumulate_sequential(tree, of, least)

    keep = kept(higra.attribute_area(tree), extent(COLUMNS), extent(ROWS))
    keep[tree.root()] = True
    keep[: tree.num_leaves()] = False  # its leaves are pixels
    return higra.reconstruct_leaf_data(tree, altitudes, ~keep)


def with_tree(filtered):
    """The published pipeline, image by image, with another tree."""
    from skimage.segmentation import flood_fill

    def pipeline(images):
        result = np.empty(images.shape, bool)
        for i, image in enumerate(images):
            grey = np.clip(image * 255.0, 0, 255).astype(np.uint16)
            grey = (convolve(grey.astype(np.int32), GAUSSIAN, mode="constant") // 256).astype(np.uint8)
            dim = (filtered(grey) * DIMMED).astype(int)
            result[i] = flood_fill(dim, (2, 2), 0, connectivity=2, tolerance=TEXT.tolerance) > 0
        return result

    return pipeline


def in_turns(works, rounds):
    """Seconds of each work, by name, a list of `rounds`; one round before to warm up."""
    seconds = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if i:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def trainings(p, bank, rounds):
    """Seconds of a chunk without and with segmentation, by name, `rounds` of each in turns."""
    size, pixels = mocklens.sizes(bank, "train"), mocklens.device_bank(bank, "train")
    masks = mocklens.masker(TEXT, *pixels)

    def draw(chunk, masked):
        rows, warps = mocklens.training_rows(p, 1, chunk, size)
        return rows, warps, masks(rows) if masked else None

    learners = {masked: Learner(p, "bce", 1, *pixels) for masked in (False, True)}
    seconds = {False: [], True: []}
    with ThreadPoolExecutor(1) as ahead:
        for i in range(rounds + 1):
            for masked, learner in learners.items():
                drawn = draw(i, masked)
                began = time.perf_counter()
                coming = ahead.submit(draw, i + 1, masked)
                np.asarray(learner.train_chunk(*drawn))
                coming.result()
                if i:
                    seconds[masked].append(time.perf_counter() - began)
    return seconds


def installed(*names):
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=list(PROFILES), help="whose survey to take")
    parser.add_argument("--n", type=int, default=64, help="images of the comparison, half of them mock lenses")
    parser.add_argument("--chunk", type=int, default=4096, help="images a call for images a second")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, help="of the network of the trainings; without it there are none")
    parser.add_argument("--images", type=int, default=1024, help="of a chunk of the trainings")
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(n=4, chunk=32, rounds=1, width=8, images=64)
        options = parser.parse_args()
    p = parameters.resolve({"profile": options.profile})
    bank = open_bank(p)
    rows = frozen_sets.frozen_rows(p, "test", mocklens.sizes(bank, "test"))
    lenses, negatives = (rows[rows["label"] == label][: options.n // 2] for label in (1, 0))
    images = mocklens.images(bank, "test", np.concatenate([lenses, negatives]))[..., 0]

    packages = installed("numpy", "numba", "scipy", "scikit-image", "higra")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}")
    print(f"{len(images)} images of {p.profile}, medians of {options.rounds} rounds in turn, one thread\n")
    pipelines = {"own": lambda x: maxtree.masks(x, TEXT, threads=1)}
    if "scikit-image" in packages:
        pipelines["scikit-image"] = with_tree(scikit_images_tree)
        if "higra" in packages:
            pipelines["higra"] = with_tree(higras_tree)
    masks = {name: pipeline(images) for name, pipeline in pipelines.items()}
    works = {name: lambda pipeline=pipeline: pipeline(images) for name, pipeline in pipelines.items()}
    works["own, preset code"] = lambda: maxtree.masks(images, maxtree.PRESETS["code"], threads=1)
    seconds = in_turns(works, options.rounds)
    print("| whole pipeline | ms an image and core | times ours | masks that differ |\n|---|---|---|---|")
    for name, each in seconds.items():
        ratios = [a / b for a, b in zip(each, seconds["own"], strict=True)]
        differ = np.any(masks[name] != masks["own"], (1, 2)).sum() if name in masks else ""
        milliseconds = 1e3 * statistics.median(each) / len(images)
        print(f"| {name} | {milliseconds:.3f} | {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}) | {differ} |")  # fmt: skip

    many = np.resize(images, (options.chunk, *images.shape[1:]))
    seconds = in_turns(
        {threads: lambda threads=threads: maxtree.masks(many, TEXT, threads) for threads in (1, 2)}, options.rounds
    )
    print(f"\n{options.chunk} images a call, medians of {options.rounds} rounds in turn")
    for threads, each in seconds.items():
        median, least, most = (len(many) / s for s in (statistics.median(each), max(each), min(each)))
        print(f"{threads} thread{'s' if threads > 1 else ' '}  {median:6.0f} images/s ({least:.0f} to {most:.0f})")
    gains = [a / b for a, b in zip(seconds[1], seconds[2], strict=True)]
    print(f"gain of the second thread: {statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})")
    size, pixels = mocklens.sizes(bank, "train"), mocklens.device_bank(bank, "train")
    rows = np.resize(mocklens.training_rows(p, 1, 0, size)[0], options.chunk)
    maskers = {threads: mocklens.masker(TEXT, *pixels, threads=threads) for threads in (1, 2)}
    works = {threads: lambda masker=masker: masker(rows) for threads, masker in maskers.items()}
    for threads, each in in_turns(works, options.rounds).items():
        median, least, most = (len(rows) / s for s in (statistics.median(each), max(each), min(each)))
        print(f"{threads} thread{'s' if threads > 1 else ' '}  {median:6.0f} rows/s of a training chunk, mock lenses "
              f"merged and segmented, others looked up ({least:.0f} to {most:.0f})")  # fmt: skip
    if options.width:
        own = {"profile": options.profile, "width": options.width, "chunk_size": options.images}
        seconds = trainings(parameters.resolve(own), bank, options.rounds)
        ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
        speeds = [options.images / statistics.median(each) for each in seconds.values()]
        print(f"\ntraining at width {options.width}, medians of {options.rounds} chunks of {options.images} in turns: "
              f"{speeds[0]:.0f} images/s, segmented {speeds[1]:.0f}; time of a segmented chunk over a plain one "
              f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip
    sys.exit(any(np.any(mask != masks["own"]) for mask in masks.values()))


if __name__ == "__main__":
    main()
