"""The learning rate of each loss: the lowest validation loss of every run of the scan that is there (docs/why/plan.md).

    lensdet train -p profile evening -p learning_rate 0.003 -p runs 1      # one rate of the scan
    lensdet train -p profile evening -p schedule constant -p momentum 0.99 -p learning_rate 0.0001 -p runs 2 \\
        -p experiments bce,fbeta                                           # as published
    python benchmarks/rates.py                                             # the tables in docs/why/rates.md

A loss' values are its own, and are not compared with those of another.
"""

import argparse

import numpy as np
import pandas as pd

from lensdet import parameters, runs
from lensdet.evaluation import metrics, thresholds
from lensdet.experiments import BCE, F_BETA
from lensdet.runs import Run
from lensdet.study import Study

RATES = (3e-3, 1e-3, 3e-4)
RUNS = (1, 2)
# The thesis' training where the profile's differs: no schedule, momentum of the averages of batch normalisation, rate.
# (It stops after 1200 chunks without a better validation loss, which 64 chunks cannot come to.)
PUBLISHED = {"schedule": "constant", "momentum": 0.99, "learning_rate": 1e-4}
MEASURES = ("accuracy", "precision", "recall")


def scanned(profile):
    """Lowest validation losses, a row a loss and rate, a column a run; NaN where there is no complete run."""
    rows = []
    for experiment in parameters.LOSSES:
        for rate in RATES:
            p = parameters.resolve({"profile": profile, "learning_rate": rate})
            folders = [runs.run_folder(p, experiment, run, p.survey_key()) for run in RUNS]
            best = [Run(f).history["loss"].min() if Run(f).is_complete else np.nan for f in folders]
            rows.append({"loss": experiment, "rate": rate, **{f"run {n}": v for n, v in zip(RUNS, best, strict=True)}})
    return pd.DataFrame(rows)


def chosen(table):
    """Index of the rate of each loss, where all of the scan is there: of the two best of run 1, that of lowest mean."""
    found = []
    for _, own in table.groupby("loss", sort=False):
        two = own.nsmallest(2, "run 1")
        if own["run 1"].notna().all() and two["run 2"].notna().all():
            found.append(two[["run 1", "run 2"]].mean(axis=1).idxmin())
    return found


def markdown(table):
    """The table as text; the rate that is chosen in bold."""
    shown, bold = table.astype(object), chosen(table)
    shown["rate"] = [f"**{rate:g}**" if i in bold else f"{rate:g}" for i, rate in enumerate(table.rate)]
    for run in RUNS:
        shown[f"run {run}"] = ["–" if np.isnan(v) else f"{v:.4f}" for v in table[f"run {run}"]]
    return shown.to_markdown(index=False, disable_numparse=True)


def recipes(profile):
    """The profile's training beside the published one, a row a loss, recipe and run that is there.

    The lowest validation loss, and the large test set as that checkpoint sees it, at p = 0.5.
    """
    rows = []
    for loss, model in (("bce", BCE), ("fbeta", F_BETA)):
        for recipe, given in (("cosine, chosen rate", {}), ("as published", PUBLISHED)):
            p = parameters.resolve({"profile": profile, "experiments": [loss], "runs": len(RUNS), **given})
            study = Study(p)
            losses = {run.number: run.history["loss"].min() for run in study.runs(loss)}
            scores = study.scores(model, "large")
            if scores is None:
                continue
            values = metrics.evaluate(scores.labels, scores.logits, p.protocol, p.selection_beta)
            areas = [thresholds.auc(thresholds.curve(scores.labels, z)) for z in scores.logits]
            for i, run in enumerate(scores.runs):
                rows.append({"loss": loss, "recipe": recipe, "run": run, "lowest validation loss": losses[run],
                             "area under the ROC curve": areas[i],
                             **{name: values[name][i] for name in MEASURES}})  # fmt: skip
    return pd.DataFrame(rows)


def markdown_of_recipes(table):
    """`recipes` as text."""
    return table.to_markdown(index=False, floatfmt=".3f")


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="evening", help="whose runs (default: %(default)s)")
    profile = parser.parse_args().profile
    print(markdown(scanned(profile)))
    print()
    print(markdown_of_recipes(recipes(profile)))


if __name__ == "__main__":
    main()
