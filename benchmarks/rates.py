"""The learning rate of each loss: the lowest validation loss of every run of the scan that is there (docs/why/plan.md).

    lensdet train -p profile evening -p learning_rate 0.003 -p runs 1      # one rate of the scan
    python benchmarks/rates.py                                                         # the table in docs/why/rates.md

A loss' values are its own, and are not compared with those of another.
"""

import argparse

import numpy as np
import pandas as pd

from lensdet import parameters, runs
from lensdet.runs import Run

RATES = (3e-3, 1e-3, 3e-4)
RUNS = (1, 2)


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


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="evening", help="whose runs (default: %(default)s)")
    print(markdown(scanned(parser.parse_args().profile)))


if __name__ == "__main__":
    main()
