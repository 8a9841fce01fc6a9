"""What came of training on segmented stamps: Table 5.3, differences to plain ones, the fourth research question."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet.chapters import style, thesis
from lensdet.chapters.ensembles import tables as ensemble_tables
from lensdet.chapters.losses import tables, threshold_control
from lensdet.chapters.maxtree import effect as segmentation_effect
from lensdet.chapters.maxtree import sweep as segmentation_sweep
from lensdet.data import maxtree
from lensdet.evaluation import statistics
from lensdet.evaluation.scores import Scores
from lensdet.experiments import BCE, BY_LOSS, MAX_TREE
from lensdet.parameters import Parameters
from lensdet.study import Study

# What is compared, and how it is named in tables.
MEASURES = {
    name: ensemble_tables.MEASURES[name] for name in ("accuracy", "f_beta", "precision", "recall", "f_beta_own", "auc")
}
PLAIN = "none"

# On the calibration set and on the test set, by row of Table 5.1 and name of the segmentation.
Pairs = dict[tuple[str, str], tuple[Scores, Scores]]


def label(model: str, how: str = PLAIN) -> str:
    """How a row of Table 5.1 is called, on plain stamps or on those segmented with a preset."""
    return model if how == PLAIN else f"{model}, Max-Tree ({how})"


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
    for (model, how), segmented in found.items():
        plain = found.get((model, PLAIN))
        common = np.intersect1d(plain[1].runs, segmented[1].runs) if plain and how != PLAIN else ()
        if not len(common):
            continue
        ours, theirs = (
            [ensemble_tables.values(parameters, *(_of(s, common) for s in both), w) for w in (None, weights)]
            for both in (segmented, plain)
        )
        for which, measure in MEASURES.items():
            d = statistics.paired(ours[0][which], theirs[0][which], ours[1][which], theirs[1][which])
            rows.append({"model": model, "preset": how, "measure": measure, "plain": theirs[0][which].mean(),
                         "segmented": ours[0][which].mean(), "difference": d.mean, "seed_spread": d.seed_spread,
                         "low": d.low, "high": d.high, "test_low": d.test_low, "test_high": d.test_high,
                         "runs": d.n_runs})  # fmt: skip
            compared.append(d)
    return pd.DataFrame(rows).assign(verdict=statistics.directions(compared))


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
        cells = {r.measure: f"{r.difference:+.3f} ({_both(r)})" for r in part.itertuples()}
        rows.append({"model": label(model, how), "n": style.number_of(part.runs.iloc[0], "run"), **cells})
    return pd.DataFrame(rows)


def _both(r):
    """The interval over runs and images; of a single run that over images."""
    if np.isfinite(r.low):
        return tables.interval(r.low, r.high)
    return f"{tables.interval(r.test_low, r.test_high)}, images alone"


def training_time(ways: dict[str, Study]) -> str:
    """Whether segmented stamps shorten the training (section 1.3), in words; `ways` as for `load_scores`.

    All trainings have the same number of chunks: what can come earlier is the lowest validation loss.
    """
    items = []
    for model, network in ways[PLAIN].models.items():
        for how, study in ways.items() if network.checkpoint == BY_LOSS else ():
            if runs := study.runs(network.loss):
                best, chunks = [run.history["loss"].argmin() + 1 for run in runs], study.parameters.chunks
                items.append(f"{label(model, how)}: after {np.mean(best):.1f} of {chunks} chunks (n = {len(best)})")
    asked = "Do segmented stamps shorten the training?  The lowest validation loss came, means over runs,"
    return f"{asked}\n\n" + "\n".join(f"- {item}" for item in items)


def fourth_question(
    parameters: Parameters,
    compared: pd.DataFrame,
    total: pd.DataFrame,
    binned: pd.DataFrame,
    discs: dict[str, pd.DataFrame],
    swept: pd.DataFrame,
    removed: dict[str, pd.DataFrame],
    weights: NDArray,
) -> str:
    """The fourth research question, in sentences made of the tables.

    Parameters
    ----------
    compared : pandas.DataFrame
        From `differences`; may be empty.
    total, binned, swept : pandas.DataFrame
        From `effect.totals` and `effect.by_radius`, of the test set, and `sweep.sweep`, of
        the validation set.
    discs : dict of pandas.DataFrame
        From `effect.disc`, by name of the settings.
    removed, weights
        That `effect.totals` was made of.
    """
    said = [_compared(compared), *_removed(total, binned), *_disc(discs), *_swept(swept, removed, weights)]
    question, runs = "Does Max-Tree segmentation help?", int(compared["runs"].max()) if len(compared) else 0
    if not runs:
        return "\n\n".join([*said, f"{question} **Not decided**: no runs on segmented and on plain stamps to compare."])
    verdicts = []
    for (model, how), rows in compared.groupby(["model", "preset"], sort=False):
        for verdict, word in (("higher", "better"), ("lower", "worse")):
            if names := list(rows.loc[rows["verdict"] == verdict, "measure"]):
                verdicts.append(f"{label(model, how)}: **{word}** in {', '.join(names)} than without.")
    words = " ".join(verdicts) or "No difference to plain stamps is shown."
    words += f"  ({len(compared)} differences, corrected for their number.)"
    return "\n\n".join([*said, threshold_control.verdict(question, words, runs, parameters)])


def _compared(table):
    if not len(table):
        return "There are no runs on both segmented and plain stamps to compare."
    items = []
    for (model, how), rows in table.groupby(["model", "preset"], sort=False):
        for r in rows.itertuples():
            items.append(f"{label(model, how)}, {r.measure}: {r.segmented:.3f}, on plain stamps {r.plain:.3f}; "
                         f"{r.difference:+.3f} ({_both(r)})")  # fmt: skip
    return f"Segmented less plain, 95 % over runs and images, {_runs(table)}:\n\n" + "\n".join(f"- {i}" for i in items)


def _runs(table):
    low, high = int(table["runs"].min()), int(table["runs"].max())
    return f"{low} paired run{'s' * (low != 1)}" if low == high else f"{low} to {high} paired runs"


def _removed(total, binned):
    """What each of the settings takes from mock lenses."""
    names = set(total["settings"])
    for how, rows in total.groupby("settings", sort=False):
        if how in map(segmentation_sweep.disc_name, names):  # spoken of where it is compared
            continue
        parts = [f"{r.mean:.1%} of the {segmentation_effect.SHARES[r.share]} ({_range(r)}, n = {r.n})"
                 for r in rows[rows["n"] > 0].itertuples()]  # fmt: skip
        if not parts:
            continue
        text = f"**{how}** removes, on average over mock lenses of the test set, {_and(parts)}."
        mine = binned[(binned["settings"] == how) & (binned["n"] > 0)] if len(binned) else binned
        if len(mine) > 1:
            ends = [f"{r.mean:.1%} ({_range(r)}, n = {r.n}) at Einstein radii of {r.radius_low:.1f} to "
                    f"{r.radius_high:.1f} arcsec" for r in mine.iloc[[0, -1]].itertuples()]  # fmt: skip
            text += f"  Of the arc it removes {_and(ends)}."
        yield text


def _range(r):
    if not np.isfinite(r.low):
        return "one mock lens: no interval"
    return f"95 % {r.low:.1%} to {r.high:.1%}" if r.low < r.high else "of all alike"


def _and(parts):
    return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]


def _disc(discs):
    for how, table in discs.items():
        low, middle, high = table["sky"].quantile([0.1, 0.5, 0.9])
        dim, bright = (table[condition] for condition in (table["sky"] <= middle, table["sky"] > middle))
        parts = [f"{part.radius.median():.1f} pixels (predicted {part.predicted.median():.1f})"
                 for part in (table, dim, bright) if len(part)]  # fmt: skip
        halves = f", {parts[1]} in the half of dimmer sky, {parts[2]} in the other" if len(parts) == 3 else ""
        yield (f"Decay and flood fill of **{how}** alone leave a disc of median radius {parts[0]}{halves}; the sky is "
               f"at {low:.0f} to {high:.0f} grey levels (80 % of {len(table)} stamps).")  # fmt: skip


def _swept(swept, removed, weights):
    """Whether other settings, or a plain disc, would do better than the presets."""
    chosen = segmentation_sweep.best(swept)
    if chosen is None:
        yield "Neighbours are not known pixel by pixel on these stamps, so that no settings can be chosen by them."
        return
    row, n = swept.loc[chosen], int(swept["disc"].isna().sum())
    best = segmentation_sweep.describe(row)
    yield (f"Of {n} settings, on the validation set, {best} tells arcs from neighbours best: it keeps "
           f"{row.arc_kept:.1%} of arcs and removes {row.neighbours_removed:.1%} of neighbours.")  # fmt: skip
    for preset in maxtree.PRESETS:
        better = len(segmentation_sweep.beaten(swept, preset))
        text = f"{better or 'None'} of the others keep{'s' * (better < 2)} more of the arc than preset {preset} and "
        yield text + ("removes" if better < 2 else "remove") + " as many neighbours or more."
    for how, table in removed.items():
        if (plain := removed.get(segmentation_sweep.disc_name(how))) is not None:
            kept, taken = (
                statistics.mean_interval((sign * (table[column] - plain[column])).to_numpy(), weights)
                for column, sign in (("pixels", -1), ("neighbours", 1))
            )
            yield (
                f"Against a plain disc that removes as many neighbours on the validation set, **{how}** differs on the "
                f"test set in the arc kept by {_points(kept)} and in neighbours removed by {_points(taken)}."
            )


def _points(mean_low_high):
    mean, low, high = (100 * x for x in mean_low_high)
    return f"{mean:+.1f} points (95 % {low:+.1f} to {high:+.1f})"
