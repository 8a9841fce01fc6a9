"""Finders on real galaxies with and without painted arcs, as ``benchmarks/simulation_steps.py`` measured them."""

import pandas as pd

from lensdet import storage

LABELS = {  # of finders, in the order of the figure
    "1-thesis": "thesis' survey",
    "2-normalised-again": "+ mock lenses normalised again",
    "3-galaxies-and-negatives": "+ all kinds of galaxies,\nnegatives by class",
    "4-neighbours": "+ neighbours",
    "5-PSFs": "+ PSFs",
    "6-depth-and-noise": "+ depth and noise: the broad survey",
    "thesis/bce": "weights/thesis/bce",
    "thesis/fbeta": "weights/thesis/fbeta",
    "broad": "weights/broad",
}
COLUMNS = ["finder", "arcs", "set", "quantity", "value", "low", "high", "hosts", "stamps"]


def read() -> pd.DataFrame:
    """Each number of each finder, `COLUMNS`: from ``results/real_hosts.csv``, or no rows where that is not there.

    The stamps are not part of the repository; ``arcs`` is NaN where stamps have none painted on them.
    """
    path = storage.results_dir() / "real_hosts.csv"
    return pd.read_csv(path)[COLUMNS] if path.exists() else pd.DataFrame(columns=COLUMNS)
