"""What Eq. 4.2 itself gives away: how well a line through a few numbers tells mock lenses from negatives.

A mock lens is an LRG plus light, cut at 1 and not normalised again, as in the published runs.  That leaves traces that
are no arcs: a brighter core, more saturated pixels, and a darkest pixel that is not exactly 0.  They are measured here
and left as they are.  In the broad survey a mock lens is normalised again (``--profile finder``).  The corner sky is
the control: it should tell nothing.

    python benchmarks/shortcuts.py
    python benchmarks/shortcuts.py --profile finder
"""

import argparse

import numpy as np
from astropy.stats import mad_std
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from lensdet import parameters
from lensdet.data import mocklens
from lensdet.data.bank import open_bank
from lensdet.profiles import PROFILES

CENTRE, CORNER = 50, 12
RADIUS = np.hypot(*np.indices((101, 101)) - CENTRE)


def corner_sky(images):
    """Mean, median, two sigmas and two quantiles of each corner box, sorted over the corners: (n, 24)."""
    near, far = slice(CORNER), slice(-CORNER, None)
    boxes = np.stack([images[:, a, b].reshape(len(images), -1) for a in (near, far) for b in (near, far)], 1)
    found = [boxes.mean(2), np.median(boxes, 2), boxes.std(2), mad_std(boxes, axis=2)]
    found += list(np.quantile(boxes, (0.05, 0.95), axis=2))
    return np.concatenate([np.sort(f, 1) for f in found], 1)


def core_mean(images):
    """Mean of the central 5 x 5 pixels: (n, 1)."""
    core = slice(CENTRE - 2, CENTRE + 3)
    return images[:, core, core].mean((1, 2))[:, None]


def radial_profile(images):
    """Means of 25 rings of 2 pixels about the centre: (n, 25)."""
    rings = [(r <= RADIUS) & (r + 2 > RADIUS) for r in range(0, 50, 2)]
    return np.stack([images[:, ring].mean(1) for ring in rings], 1)


def minimum(images):
    """The darkest pixel: (n, 1)."""
    return images.min((1, 2))[:, None]


def saturation(images):
    """The brightest pixel and how many are saturated: (n, 2)."""
    return np.stack([images.max((1, 2)), (images >= 1).sum((1, 2))], 1)


FEATURES = {
    "corner sky": (corner_sky,),
    "core mean": (core_mean,),
    "radial profile": (radial_profile,),
    "minimum": (minimum,),
    "maximum, saturated pixels": (saturation,),
    "all": (corner_sky, core_mean, radial_profile, minimum, saturation),
}


def held_out(features, labels, draws=500):
    """AUC of five held-out folds together, and its 95 % interval from a bootstrap of the scores."""
    # By rank: the darkest pixels of mock lenses span six decades
    line = make_pipeline(
        QuantileTransformer(n_quantiles=min(len(labels) // 4, 1000)),
        StandardScaler(),
        LogisticRegression(max_iter=5000),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(line, features, labels, cv=folds, method="predict_proba")[:, 1]
    rng, spread = np.random.default_rng(0), []
    one, other = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    for _ in range(draws):
        drawn = np.concatenate([rng.choice(one, len(one)), rng.choice(other, len(other))])
        spread.append(roc_auc_score(labels[drawn], scores[drawn]))
    return roc_auc_score(labels, scores), *np.quantile(spread, (0.025, 0.975))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=list(PROFILES), help="whose survey to take")
    parser.add_argument("--n", type=int, default=2200, help="mock lenses, and negatives of each class, at the most")
    parser.add_argument("--workers", type=int, default=-1, help="processes that build the survey where it is not there")
    options = parser.parse_args()
    p = parameters.resolve({"profile": options.profile, "workers": options.workers})
    bank = open_bank(p)
    size = mocklens.sizes(bank, "train")
    n_lrg, n_contaminant, n_source = size[:3]
    n = min(options.n, n_lrg // 2, n_contaminant, n_source)

    # Each stamp once: LRGs 0 ... n are lenses, the next n negatives.
    rows = np.zeros(3 * n, mocklens.ROW)
    rows["stamp"] = np.concatenate([np.arange(2 * n), n_lrg + np.arange(n)])
    rows["source"][:n] = np.arange(n)
    if size.source_seeing is not None:  # the broad survey: of like PSFs, so that some sources are there twice
        rows["source"][:n] = mocklens.pairs(np.random.default_rng(1), size.seeing[:n], size.source_seeing)
    rows["alpha"][:n] = np.random.default_rng(0).uniform(*p.alpha, n)
    images = mocklens.images(bank, "train", rows, p.renormalise)[..., 0]
    mocks = images[:n]

    print(f"AUC of a logistic regression on ranks, held out (5 folds), with 95 % intervals; survey of {p.profile},")
    print(f"{n} mock lenses against {n} negatives of a class, each LRG, source and contaminant used once")
    print("| features | against LRGs | against contaminants |\n|---|---|---|")
    labels = np.repeat([1, 0], n)
    for name, functions in FEATURES.items():
        cells = []
        for negatives in (images[n : 2 * n], images[2 * n :]):
            both = np.concatenate([mocks, negatives])
            features = np.concatenate([function(both) for function in functions], 1)
            cells.append("{:.3f} ({:.3f} to {:.3f})".format(*held_out(features, labels)))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
