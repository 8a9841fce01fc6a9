"""What came of training on segmented stamps: Table 5.3, and differences to plain ones and to plain discs."""

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet.chapters import style, thesis
from lensdet.chapters.ensembles import tables as ensemble_tables
from lensdet.chapters.losses import tables
from lensdet.chapters.maxtree import sweep as segmentation_sweep
from lensdet.data import maxtree
from lensdet.evaluation import statistics, thresholds
from lensdet.evaluation.scores import Scores
from lensdet.experiments import BCE, BY_LOSS, MAX_TREE
from lensdet.parameters import Parameters
from lensdet.study import Study

# What is compared, and how it is named in tables.
MEASURES = {
    name: ensemble_tables.MEASURES[name] for name in ("accuracy", "f_beta", "precision", "recall", "f_beta_own", "auc")
}
PLAIN = "none"
REMOVED = (0, 0.01, 0.1, 0.5, 1)  # edges of bins, shares of an arc's pixels

# On the calibration set and on the test set, by row of Table 5.1 and name of the segmentation.
Pairs = dict[tuple[str, str], tuple[Scores, Scores]]


def label(model: str, how: str = PLAIN) -> str:
    """How a row of Table 5.1 is called, on plain stamps or on those segmented with a preset."""
    return model if how == PLAIN else f"{model}, Max-Tree ({how})"


def studies(plain: Study, segmented: Study, asked: str) -> dict[str, Study]:
    """Studies by segmentation: plain stamps, both presets, and the one that was asked for, by its name."""
    own = {"maxtree_area": None, "maxtree_decay": None, "maxtree_tolerance": None}
    presets = {how: plain.changed(segmentation=how, **own) for how in maxtree.PRESETS}
    return {PLAIN: plain, **presets, asked: segmented}


def load_scores(ways: dict[str, Study]) -> Pairs:
    """`scores.Scores` on the calibration and test sets, by model and segmentation, of the runs that are there.

    Checkpoints of the lowest validation loss alone: those selected otherwise belong to Table 5.1.

    Parameters
    ----------
    ways : dict of lensdet.study.Study
        By name of the segmentation; first "none".

    Returns
    -------
    dict
        Of pairs, by (row of Table 5.1, name of the segmentation).
    """
    found = {}
    for model in [name for name, network in ways[PLAIN].models.items() if network.checkpoint == BY_LOSS]:
        for how, study in ways.items():
            both = tuple(study.scores(model, part) for part in ("calibration", "test"))
            if None not in both:
                found[model, how] = both
    return found


def table_5_3(parameters: Parameters, found: Pairs, weights: NDArray) -> pd.DataFrame:
    """Table 5.3: accuracy, F_beta, precision and recall on plain and on segmented stamps.

    Parameters
    ----------
    found : dict
        From `load_scores`.
    weights : array (B, N)
        From `Study.resamples`.

    Returns
    -------
    pandas.DataFrame
        As `losses.tables.table_5_1`; beside cross-entropy on segmented stamps stands the thesis' Table 5.3, whose
        settings were those of preset ``code``.
    """
    rows = []
    for (model, how), (_, test) in found.items():
        summary = statistics.summarise(
            test.labels, test.logits, weights, parameters.protocol, parameters.selection_beta
        )
        for which, line in zip(summary, tables.to_rows(model, test, summary), strict=True):
            published = (line["thesis"], line["thesis_spread"])
            if how != PLAIN:
                theirs = model == BCE and how in maxtree.PRESETS
                published = thesis.TABLE_5_3[MAX_TREE][which] if theirs else (np.nan, np.nan)
            beside = dict(zip(("thesis", "thesis_spread"), published, strict=True))
            rows.append({**line, "model": label(model, how), **beside})
    return pd.DataFrame(rows)


def differences(parameters: Parameters, found: Pairs, weights: NDArray) -> pd.DataFrame:
    """Segmented less plain, run i against run i, in each of `MEASURES`.

    Parameters are those of `table_5_3`.

    Returns
    -------
    pandas.DataFrame
        A row a model, preset and measure: both means over the runs that both have; the difference with the interval
        over seeds and images, ``low`` and ``high``, and over images alone (`statistics.paired`); its direction
        (`statistics.directions` of all rows).  Empty where no model has both.
    """
    rows, compared = [], []
    for model, how, *pair in _pairs(found):
        ours, theirs = ([ensemble_tables.values(parameters, *both, w) for w in (None, weights)] for both in pair)
        for which, measure in MEASURES.items():
            d = statistics.paired(ours[0][which], theirs[0][which], ours[1][which], theirs[1][which])
            rows.append({"model": model, "preset": how, "measure": measure, "plain": theirs[0][which].mean(),
                         "segmented": ours[0][which].mean(), "difference": d.mean, "seed_spread": d.seed_spread,
                         "low": d.low, "high": d.high, "test_low": d.test_low, "test_high": d.test_high,
                         "runs": d.n_runs})  # fmt: skip
            compared.append(d)
    return pd.DataFrame(rows).assign(verdict=statistics.directions(compared))


def by_measure(table: pd.DataFrame, how: str) -> pd.DataFrame:
    """Of `differences` those with one segmentation, of the first model that has them; NaN for what is not there."""
    rows = table.reindex(columns=["preset", "measure", "plain", "segmented", "difference", "low", "high", "verdict"])
    return rows[rows["preset"] == how].drop_duplicates("measure").set_index("measure").reindex(MEASURES.values())


def _pairs(found):
    """Of `load_scores` the model, the segmentation, and the scores on segmented and on plain stamps of common runs."""
    for (model, how), segmented in found.items():
        plain = found.get((model, PLAIN))
        common = np.intersect1d(plain[1].runs, segmented[1].runs) if plain and how != PLAIN else ()
        if len(common):
            yield model, how, *([_of(s, common) for s in both] for both in (segmented, plain))


def _of(scores, runs):
    """`Scores` of some runs alone, by rising number."""
    place = [list(scores.runs).index(run) for run in runs]
    return scores._replace(logits=np.asarray(scores.logits)[place], runs=np.asarray(runs))


def to_rows(table: pd.DataFrame) -> pd.DataFrame:
    """`differences` as they are read, a row a model and preset."""
    if not len(table):
        return table
    rows = []
    for (model, how), part in table.groupby(["model", "preset"], sort=False):
        cells = {}
        for r in part.itertuples():  # of a single run there is the interval over images alone
            alone = not np.isfinite(r.low)
            span = tables.interval(r.test_low, r.test_high) if alone else tables.interval(r.low, r.high)
            cells[r.measure] = f"{r.difference:+.3f} ({span}{', images alone' * alone})"
        rows.append({"model": label(model, how), "n": style.number_of(part.runs.iloc[0], "run"), **cells})
    return pd.DataFrame(rows)


def by_arc_removed(found: Pairs, removed: dict[str, pd.DataFrame], weights: NDArray) -> pd.DataFrame:
    """Whether segmentation costs most where the mask removes most: segmented less plain, by what it removes of the arc.

    The thesis suspects that the mask cuts into lenses (section 5.5), which the networks then miss.

    Parameters
    ----------
    found : dict
        From `load_scores`.
    removed : dict of pandas.DataFrame
        From `effect.arc_removed`, of the mock lenses of the test set in order, by name of the segmentation.
    weights : array (B, N)
        From `Study.resamples`, of the test set.

    Returns
    -------
    pandas.DataFrame
        A row a model, preset and bin of `REMOVED`: its edges ``removed_low`` and ``removed_high``, shares of arc
        pixels; n, its mock lenses; the area under the ROC curve of these against all negatives, ``plain`` and
        ``segmented``, means over ``runs``; their ``difference`` with its interval over seeds and images
        (`statistics.paired`), and its direction (`statistics.directions` of all rows).  Left out are bins without
        lenses, lenses without arc pixels, and resamples that have no lens of a bin.
    """
    rows, compared = [], []
    for model, how, (_, segmented), (_, plain) in _pairs(found):
        shares = np.full(len(plain.labels), np.nan)
        shares[plain.labels == 1] = removed[how]["pixels"]
        for low, high in itertools.pairwise(REMOVED):
            inside = (shares >= low) & ((shares < high) | (high == REMOVED[-1]))
            if not inside.any():
                continue
            some = inside | (plain.labels == 0)
            drawn = weights[weights[:, inside].any(1)][:, some]  # of few lenses a resample may have none
            values = [[np.stack([thresholds.auc(thresholds.curve(plain.labels[some], z[some], w)) for z in s.logits])
                       for s in (segmented, plain)] for w in (None, drawn)]  # fmt: skip
            d = statistics.paired(*values[0], *values[1])
            rows.append({"model": model, "preset": how, "removed_low": low, "removed_high": high,
                         "n": int(inside.sum()), "plain": values[0][1].mean(), "segmented": values[0][0].mean(),
                         "difference": d.mean, "low": d.low, "high": d.high, "runs": d.n_runs})  # fmt: skip
            compared.append(d)
    return pd.DataFrame(rows).assign(verdict=statistics.directions(compared))


def of_settings(table: pd.DataFrame, how: str) -> pd.DataFrame:
    """Of `by_arc_removed` one segmentation and the first model, a row a bin of `REMOVED`; NaN where there is none.

    ``part`` is the share of a bin in the change over all lenses.
    """
    rows = table.reindex(columns=["preset", "removed_low", "n", "plain", "difference", "low", "high", "verdict"])
    rows = rows[rows["preset"] == how].drop_duplicates("removed_low").set_index("removed_low")
    change = rows.n * rows.difference
    return rows.assign(part=change / change.sum()).reindex(REMOVED[:-1]).reset_index()


def training_time(ways: dict[str, Study]) -> pd.DataFrame:
    """Whether segmented stamps shorten the training (section 1.3): when the lowest validation loss came.

    All trainings have the same number of chunks.

    Parameters
    ----------
    ways : dict of lensdet.study.Study
        As for `load_scores`.

    Returns
    -------
    pandas.DataFrame
        A row a model and segmentation: the ``chunk`` of the lowest validation loss, mean over ``runs``.
    """
    rows = []
    for model, network in ways[PLAIN].models.items():
        for how, study in ways.items() if network.checkpoint == BY_LOSS else ():
            if best := [run.history["loss"].argmin() + 1 for run in study.runs(network.loss)]:
                rows.append({"model": label(model, how), "chunk": np.mean(best), "chunks": study.parameters.chunks,
                             "runs": len(best)})  # fmt: skip
    return pd.DataFrame(rows)


def against_discs(removed: dict[str, pd.DataFrame], weights: NDArray) -> pd.DataFrame:
    """Settings less the plain disc that removes as many neighbours on the validation set.

    Parameters
    ----------
    removed, weights
        As in `effect.totals`.

    Returns
    -------
    pandas.DataFrame
        A row a setting and share, ``arc kept`` (of its pixels), ``light kept`` (of the source's light in them) or
        ``neighbours removed``: the difference on the test set with its 95 % interval over LRGs, and where that lies
        (`statistics.side_of_zero`).
    """
    rows = []
    for how, table in removed.items():
        if (plain := removed.get(segmentation_sweep.disc_name(how))) is None:
            continue
        shares = ("arc kept", "pixels", -1), ("light kept", "light", -1), ("neighbours removed", "neighbours", 1)
        for share, column, sign in shares:
            values = (sign * (table[column] - plain[column])).to_numpy()
            rows.append((how, share, *statistics.mean_interval(values, weights)))
    table = pd.DataFrame(rows, columns=["settings", "share", "difference", "low", "high"])
    return table.assign(interval=statistics.side_of_zero(table["low"], table["high"]))
