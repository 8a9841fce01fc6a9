"""Other settings of the Max-Tree segmentation, without training: arcs kept against neighbours removed (section 5.6)."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lensdet import storage
from lensdet.chapters.maxtree import effect as segmentation_effect
from lensdet.data import frozen_sets, maxtree
from lensdet.parameters import keyed
from lensdet.storage import digest
from lensdet.study import Study

FORMAT = 1  # part of the name of a kept sweep: raise it when a number changes
RADII = (8, 10, 12, 15, 18, 22, 27, 33, 40, 50)  # pixels, of plain discs


def grid() -> list[maxtree.Settings]:
    """Settings around the presets: filters (none, or areas), decay and tolerance, each also without; presets first."""
    text = maxtree.PRESETS["text"]
    filters = [segmentation_effect.NONE, *({"area": area} for area in (25, 45, 90))]
    around = itertools.product(filters, (None, 10.0, 15.0, 20.0, 30.0), (None, 5, 10, 15, 20, 30))
    around = [text._replace(**limits, decay=decay, tolerance=tolerance) for limits, decay, tolerance in around]
    return [*maxtree.PRESETS.values(), *(s for s in around if s != text)]


def settings_and_discs(settings: Mapping[str, maxtree.Settings]) -> list[maxtree.Settings | float]:
    """What a sweep compares: `grid`, some settings that it may lack, and plain discs of `RADII`."""
    found = grid()
    return [*found, *(s for s in settings.values() if s not in found), *RADII]


def sweep(found: segmentation_effect.Lenses, ways: Sequence[maxtree.Settings | float]) -> pd.DataFrame:
    """How much each way leaves of the arcs and removes of the neighbours.

    Parameters
    ----------
    found : Lenses
        Of the validation set, as something is chosen.
    ways : list
        Of `maxtree.Settings` and radii, as in `effect.masks_of`; `RADII` say what cutting does without any tree.

    Returns
    -------
    pandas.DataFrame
        A row a way, in order: the fields of `maxtree.Settings`; ``preset``, its name or nothing; ``disc``, a
        plain disc's radius (pixels); ``arc_kept``, ``light_kept`` and ``neighbours_removed``, means over mock lenses
        that have any, the last NaN where neighbours are not known; ``youden``, arc kept less neighbours kept.
    """
    rows = []
    for how in ways:
        tree = isinstance(how, maxtree.Settings)
        preset = next((name for name, known in maxtree.PRESETS.items() if known == how), "")
        removed = segmentation_effect.arc_removed(found, how)[list(segmentation_effect.SHARES)].mean()
        rows.append({**(how._asdict() if tree else {}), "preset": preset, "disc": np.nan if tree else how,
                     "arc_kept": 1 - removed["pixels"], "light_kept": 1 - removed["light"],
                     "neighbours_removed": removed["neighbours"],
                     "youden": removed["neighbours"] - removed["pixels"]})  # fmt: skip
    return pd.DataFrame(rows)


def _keyed(how):
    return list(keyed(how._asdict()).values()) if isinstance(how, maxtree.Settings) else how


def kept(study: Study, ways: Sequence[maxtree.Settings | float]) -> pd.DataFrame:
    """`sweep` of the validation set, computed once: kept beside the truth tables, by a digest of the ways."""
    folder = frozen_sets.truth_folder(study.parameters, study.key)
    path = folder / f"maxtree_sweep-{digest([FORMAT, *map(_keyed, ways)])}.csv"
    found = storage.kept_table(path, lambda: sweep(segmentation_effect.lenses(study.parameters, "validation"), ways))
    return found.fillna({"preset": ""})


def best(swept: pd.DataFrame) -> int | None:
    """Place in `sweep` of the settings of highest Youden index: share of arc pixels kept less that of neighbours kept.

    The mask as a test that tells arcs from neighbours, by the number that is usual where neither error has a price
    (Youden 1950).  The first of equal ones; None where neighbours are not known.
    """
    among = swept[swept["disc"].isna()]
    return None if among["youden"].isna().all() else int(among["youden"].idxmax())


def trained_with(study: Study, settings: maxtree.Settings) -> Study | None:
    """The study of trainings on stamps that are segmented with some settings of `grid`.

    None where the settings leave a step out, which parameters cannot.
    """
    own = {"area": settings.area, "decay": settings.decay, "tolerance": settings.tolerance}
    found = study.changed(segmentation="text", **{f"maxtree_{k}": v for k, v in own.items()})
    return found if found.parameters.maxtree() == settings else None


def train_best(
    study: Study,
    losses: Sequence[str],
    settings: Mapping[str, maxtree.Settings],
    swept: pd.DataFrame,
    ways: Sequence[maxtree.Settings | float],
) -> dict[str, Study]:
    """The study of the best settings of a sweep, by their name, after training what is missing of it.

    Nothing where there are no best ones, they are among `settings`, or no training can have them.

    Parameters
    ----------
    study : lensdet.study.Study
        Of plain stamps.
    losses : sequence of str
        What is trained.
    settings : dict of lensdet.data.maxtree.Settings
        Trained already, by name.
    swept, ways
        As in `shown`.
    """
    chosen = best(swept)
    if chosen is None:
        return {}
    found, known = trained_with(study, ways[chosen]), ways[chosen] in settings.values()
    if known or found is None:
        reason = "are a preset" if known else "leave a step out, which no training can"
        print(f"no training with the best settings: they {reason}")
        return {}
    found.train_missing(losses)
    return {describe(swept.loc[chosen]): found}


def presets_and_best(swept: pd.DataFrame) -> pd.DataFrame:
    """Of `sweep` the presets and the best settings.

    Returns
    -------
    pandas.DataFrame
        A row each: ``settings``, ``arc_kept``, ``neighbours_removed`` and ``youden`` on the validation set; ``beaten``,
        how many settings keep more of the arcs and remove as many neighbours or more.
    """
    trees = swept[swept["disc"].isna()]
    places = dict.fromkeys([*trees.index[trees["preset"] != ""], *([] if best(swept) is None else [best(swept)])])
    rows = []
    for _, it in swept.loc[list(places)].iterrows():
        better = (trees["arc_kept"] > it.arc_kept) & (trees["neighbours_removed"] >= it.neighbours_removed)
        rows.append({"settings": describe(it), **it[["arc_kept", "neighbours_removed", "youden"]],
                     "beaten": int(better.sum())})  # fmt: skip
    return pd.DataFrame(rows)


def equal_disc(swept: pd.DataFrame, removed: float) -> float | None:
    """Radius (pixels) of the plain disc that removes this share of neighbours, between those of `sweep`; or None."""
    discs = swept[swept["disc"].notna()].sort_values("neighbours_removed")
    shares = discs["neighbours_removed"]
    if not shares.min() <= removed <= shares.max():  # nor where neighbours are not known
        return None
    return float(np.interp(removed, shares, discs["disc"]))


def shown(
    settings: dict[str, maxtree.Settings], swept: pd.DataFrame, ways: Sequence[maxtree.Settings | float]
) -> dict[str, maxtree.Settings | float]:
    """What is shown of a sweep: some settings, those that do best, and for each the plain disc that removes as much.

    Parameters
    ----------
    settings : dict of lensdet.data.maxtree.Settings
        By name, such as `maxtree.PRESETS`; all are among the ways.
    swept : pandas.DataFrame
        From `sweep`.
    ways : list
        That it was made of.

    Returns
    -------
    dict
        `maxtree.Settings`, and radii of discs (pixels), by name.
    """
    found, chosen = dict(settings), best(swept)
    if chosen is not None and ways[chosen] not in found.values():
        found[describe(swept.loc[chosen])] = ways[chosen]
    discs = {}
    for how, each in found.items():
        removed = swept.loc[ways.index(each), "neighbours_removed"]
        if (radius := equal_disc(swept, removed)) is not None:
            discs[disc_name(how)] = radius
    return {**found, **discs}


def disc_name(how: str) -> str:
    """What the plain disc that removes as many neighbours as some settings is called."""
    return f"disc as {how}"


def describe(row: pd.Series) -> str:
    """A row of `sweep` in words."""
    if np.isfinite(row.disc):
        return f"a plain disc of {row.disc:g} pixels"
    if row.preset:
        return f"preset {row.preset}"
    limits = "no filters" if pd.isna(row.area) else f"area {row.area:g}"
    decay = "no decay" if pd.isna(row.decay) else f"decay {row.decay:g}"
    tolerance = "no flood fill" if pd.isna(row.tolerance) else f"tolerance {row.tolerance:g}"
    return f"{limits}, {decay}, {tolerance}"
