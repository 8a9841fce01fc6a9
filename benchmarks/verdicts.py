"""How often the rule of the claims decides where there is nothing to decide, and how often it finds what there is.

    python benchmarks/verdicts.py          # some minutes on one core

Families of paired differences of normal numbers are drawn and judged as claims are: five runs, a share of the variance
from test images, claims that share runs and images correlated.  docs/why/statistics.md describes the model.
"""

import argparse

import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from lensdet.evaluation import statistics

RIPPLE = np.repeat([-1.0, 1.0], 20) * np.sqrt(39 / 40)  # resamples whose standard deviation is 1


def family(rng, claims, runs, ratio, shared, shift):
    """Differences of a family: `ratio` is the images' variance over the seeds', `shared` what claims have in common."""

    def normal(*shape):
        own, common = rng.normal(size=(claims, *shape)), rng.normal(size=(1, *shape))
        return np.sqrt(1 - shared) * own + np.sqrt(shared) * common

    of_images = np.sqrt(ratio / runs)  # of the mean; that of seeds is 1 / sqrt(runs)
    values = normal(runs) + of_images * normal(1) + shift
    none = np.zeros(runs), np.zeros((runs, len(RIPPLE)))
    return [statistics.paired(v, none[0], v[:, None] + of_images * RIPPLE, none[1]) for v in values]


def main():
    """Draw, judge, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="", help="smoke: as little as shows that it runs")
    parser.add_argument("--families", type=int, default=1000, help="drawn for each row (default: 1000)")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if options.profile == "smoke":  # what is asked for otherwise still counts
        parser.set_defaults(families=3)
        options = parser.parse_args()
    print("| claims | images' variance over seeds' | shared | true difference (its error: 1) | any decided (95 %) | "
          "claims decided |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    cases = [(m, ratio, shared, 0.0) for m in (4, 24, 40) for ratio in (0.0, 0.3, 1.0, 3.0) for shared in (0.0, 0.5)]
    cases += [(m, ratio, 0.5, true) for m in (4, 24, 40) for ratio in (0.3, 3.0) for true in (3.0, 5.0)]
    for k, (m, ratio, shared, true) in enumerate(tqdm(cases, leave=False)):
        rng, any_decided, decided = np.random.default_rng([7, k]), 0, 0
        shift = true * np.sqrt((1 + ratio) / options.runs)
        for _ in range(options.families):
            said = statistics.judge(family(rng, m, options.runs, ratio, shared, shift), [1] * m)
            wanted = [word in ("agrees", "contradicts") for word in said]
            any_decided, decided = any_decided + any(wanted), decided + sum(wanted)
        low, high = binomtest(any_decided, options.families).proportion_ci()
        share = decided / options.families / m
        print(f"| {m} | {ratio:g} | {shared:g} | {true:g} | {any_decided / options.families:.1%} ({low:.1%} to "
              f"{high:.1%}) | {share:.1%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
