"""A user's own survey, ranked: stamps in, a list of candidates and a page to look through out.

`lensdet rank` does what notebook 07 does with a survey, without a notebook.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from lensdet import runs
from lensdet.data import stamps
from lensdet.network.finders import Finder, name_of
from lensdet.network.finders import load as load_finder
from lensdet.parameters import Parameters
from lensdet.survey import (
    candidate_list,
    catalogues,
    check,
    cutouts,
    files,
    grading_pictures,
    headers,
    page,
    quality,
    scoring,
)
from lensdet.survey.candidate_list import ENSEMBLE

RESERVED = ("id", "rank", "ra", "dec", "filled", "match", "separation", "reference", ENSEMBLE)  # columns of a list
NO_BAND = "A stamp whose header names no band is taken to be of the finders' band."


class NothingUsable(RuntimeError):
    """Not one stamp could be scored."""


class Unfinished(RuntimeError):
    """Not all shards of a survey were scored."""


class Outcome(NamedTuple):
    """What `run` leaves."""

    ranked: pd.DataFrame  # as from `rank`, with what `candidate_list.match` adds
    rejections: list  # of lensdet.data.stamps.Rejection
    folder: Path
    page: Path  # index.html
    plan: cutouts.Plan
    advice: list[str]  # from `advice`, on what was left out and what is flagged


def load_finders(names: Iterable[str | Path]) -> dict[str, Finder]:
    """Finders by name, see `finders.load`; all must take the same stamps.

    Raises
    ------
    FileNotFoundError, ValueError
        As `finders.load`; where two were trained on stamps of other scale or band: names both and what differs;
        or for a name that cannot be that of a column.
    """
    loaded = {}
    for name in map(str, names):
        called = name_of(name)
        if called in loaded or called in RESERVED or not re.fullmatch(r"[A-Za-z0-9_.:-]+", called):
            raise ValueError(f"finder {called!r}: a name has Latin letters, digits and _ . - alone, is none of "
                             f"{', '.join(RESERVED)}, and stands once; rename the file")  # fmt: skip
        loaded[called] = load_finder(name)
    (first, one), *others = loaded.items()
    for name, other in others:
        differs = sorted(k for k in one.preprocessing if one.preprocessing[k] != other.preprocessing.get(k))
        if differs:
            both = ", ".join(f"{k}: {one.preprocessing[k]} and {other.preprocessing.get(k)}" for k in differs)
            raise ValueError(f"finders {first} and {name} take different stamps ({both}); rank with one at a time")
    return loaded


def wanted(finders: dict[str, Finder]) -> cutouts.Wanted:
    """The stamps that finders take, a `cutouts.Wanted`: their preprocessing travels with them."""
    expected = next(iter(finders.values())).preprocessing
    return cutouts.Wanted(tuple(expected["size"]), expected["pixel_scale"], expected["band"])


def plan(parameters: Parameters, finders: dict[str, Finder]) -> cutouts.Plan:
    """What is to be scored, a `cutouts.Plan`: the folder ``survey``, or what ``catalogue`` names on ``tiles``.

    Raises
    ------
    ValueError, FileNotFoundError
        Where neither is given; as `cutouts.plan_folder` and `cutouts.plan_tiles`.
    """
    p, asked = parameters, wanted(finders)
    how = p.pixel_scale, p.band, p.max_filled, p.plane
    if p.survey:
        return cutouts.plan_folder(p.survey, asked, *how)
    if p.catalogue:
        return cutouts.plan_tiles(p.catalogue, p.tiles, asked, p.columns, *how, p.workers, p.keep)
    raise ValueError("nothing to rank: give the parameter survey (a folder), or catalogue and tiles")


def calibrated(logits: Mapping[str, ArrayLike], finders: dict[str, Finder]) -> dict[str, NDArray[np.float64]]:
    """Logits of each finder over its temperature, and their mean as ``ensemble``: dict of float64 arrays (N,).

    For the mean each is clipped to its finder's `limits`: what is no galaxy has had logits beyond 1000.  The mean of
    probabilities would follow the least sure finder: of 50 lenses it has 27 among the first 200, this one 35
    (docs/how-to/survey.md).
    """
    made = {name: np.asarray(logits[name], np.float64) / finder.temperature for name, finder in finders.items()}
    clipped = [np.clip(made[name], *np.array(finder.limits) / finder.temperature) for name, finder in finders.items()]
    return {ENSEMBLE: np.mean(clipped, axis=0), **made}


def rank(table: pd.DataFrame, by: str = ENSEMBLE) -> pd.DataFrame:
    """A table of stamps and scores with a column ``rank`` from 1, sorted: the highest first, ties by id.

    What has a ``flag``, being unlike the training set, comes after all that has none.
    """
    flagged = (table["flag"] != "") if "flag" in table else np.zeros(len(table), bool)
    order = np.lexsort([table["id"].to_numpy(object).astype(str), -table[by], flagged])
    ranked = table.iloc[order].reset_index(drop=True)
    return pd.concat([pd.Series(np.arange(1, len(ranked) + 1), name="rank"), ranked], axis=1)


def survey_name(parameters: Parameters) -> str:
    """What a survey is called: its folder, or its catalogue and tiles."""
    p = parameters
    return p.survey.name if p.survey else f"{p.catalogue.name} on {', '.join(tile.name for tile in p.tiles[:3])}"


def output_folder(parameters: Parameters) -> Path:
    """Where list and page go, as `files.output_folder`: by default a folder of ``build/candidates``."""
    p = parameters
    return files.output_folder(p.output, "candidates", p.survey or p.catalogue, filter(None, (p.survey, *p.tiles)))


def rank_survey(parameters: Parameters, merge: bool = False) -> Outcome:
    """Rank a survey by the ``finders`` that its parameters name: `load_finders`, then `run`."""
    return run(parameters, load_finders(parameters.finders), merge=merge)


def run(
    parameters: Parameters,
    finders: dict[str, Finder],
    progress: bool = True,
    called: str | None = None,
    notes: Sequence[str] = (),
    merge: bool = False,
) -> Outcome:
    """Score, rank, match, write: all that a survey needs.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        `parameters.Candidates` says which matter.
    finders, progress
    called : str, optional
        The survey, in the heading of the page, where `survey_name` does not say what it is.
    notes : sequence of str
        ASCII, what a reader of the page and of the tables has to know of the stamps.
    merge : bool
        Score nothing: the shards of the survey did.

    Raises
    ------
    Unfinished
        With ``merge``, where stamps are not scored yet; names the shards.
    NothingUsable
        With the number of stamps of each reason; the list of what was left out is written.
    lensdet.data.stamps.StampError
        With ``on_bad="raise"``, at the first stamp that cannot be used.
    """
    p, job = parameters, plan(parameters, finders)
    folder = output_folder(p)
    if not merge and len(job.ids) > check.SAMPLE:  # a smaller one is ranked in the time that a look takes
        lines = check.look(job, finders, p.workers)
        if wrong := [line for line in lines if line.level == "error"]:
            raise NothingUsable("\n".join(f"{line.text}\n  {line.remedy}" for line in wrong))
        print(*(f"{line.level:8}{line.text}" for line in lines if progress), sep="\n", flush=True)
    known = catalogues.read_known(p.published) if p.published else None  # what is wrong with it is said at once
    if merge:
        parts = scoring.scores_folder(job, finders, folder)
    else:
        parts = scoring.score(job, finders, folder, p.workers, progress, p.on_bad)
    ranked, rejections = _ranked(p, finders, job, parts)
    if known is not None:
        ranked = pd.concat([ranked, candidate_list.match(ranked, known, p.match_radius)], axis=1)
    header = {"rank_by": p.rank_by, "stamps": job.digest, "lensdet": runs.versions()["lensdet"]}
    header |= {f"finder {name}": finder.digest for name, finder in finders.items()}
    header |= {"notes": " ".join(notes)} if notes else {}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # another process may rank into the same folder
        page.remove(folder / "page")  # it would show another list
        candidate_list.write(folder, ranked, rejections, finders, header)
        grading_pictures.describe(folder, job, bool(p.survey), p.finders)
        if ranked.empty:
            why = counted(rejections)
            raise NothingUsable(f"none of {job.total} stamps can be scored: {why}; see {folder}/rejected.csv")
        said = advice(rejections, ranked["flag"], finders)
        outcome = Outcome(ranked, rejections, folder, folder / "page" / "index.html", job, said)
        _write_page(p, finders, outcome, progress, called or survey_name(p), notes)
    return outcome


def _ranked(parameters, finders, job, parts):
    """The ranked table of what was scored, and rejections; Unfinished where stamps are not scored yet."""
    table, rejections, missing = scoring.collect(job, parts, finders)
    if missing:
        some = scoring.shards_to_run(parts)
        raise Unfinished(f"{missing:,} of {job.total:,} stamps are not scored yet in {parts}; shards to run: {some}")
    logits = {name: table.pop(f"logit/{name}") for name in finders}
    table["flag"] = quality.flags(table, logits, finders)
    table = table.drop(columns=[name for name in quality.LIMITS if name != "centre_snr"])
    ranked = rank(pd.concat([table, pd.DataFrame(calibrated(logits, finders))], axis=1), parameters.rank_by)
    return ranked, rejections


def score_shard(parameters: Parameters, shard: scoring.Shard) -> Path:
    """Score one shard of a survey, see `scoring.score`; `run` with ``merge`` ranks when all are done."""
    finders = load_finders(parameters.finders)
    job = plan(parameters, finders)
    folder = output_folder(parameters)
    return scoring.score(job, finders, folder, parameters.workers, on_bad=parameters.on_bad, shard=shard)


def _write_page(parameters, finders, outcome, progress, called, notes):
    """The page of the highest ranked, with a small table of what they are."""
    p, (ranked, rejections, _, index, job, said) = parameters, outcome
    top = ranked.head(p.page_size)
    shown = next(iter(finders)) if p.rank_by == ENSEMBLE else p.rank_by
    part = f"the first {len(top):,}" if len(top) < len(ranked) else "all that are ranked"
    summary = [("stamps asked for", f"{job.total:,}"), ("ranked", f"{len(ranked):,}"),
               ("flagged, and listed last", f"{(ranked['flag'] != '').sum():,}"),
               ("left out", counted(rejections)), ("on this page", part),
               ("ranked by", p.rank_by), ("heat map", f"{shown}, layer {candidate_list.LAYER}")]  # fmt: skip
    made = {name: about(finder) for name, finder in finders.items()}
    summary += [(f"finder {name}", f"{of['trained on']}, {of['run']}, {of['SHA-256']}") for name, of in made.items()]
    models = [shown, *(name for name in finders if name != shown)]
    page.write(
        index.parent,
        list(candidate_list.page_rows(top, finders, p.rank_by)),
        candidate_list.pictures(job, top, finders[shown]),
        models,
        f"Lens candidates: {called}",
        notes=[*notes, *job.remarks, NO_BAND, *said],
        summary=summary,
        progress=progress,
        scale=finders[shown].preprocessing["pixel_scale"],
    )


def counted(rejections: Iterable[stamps.Rejection]) -> str:
    """How many stamps were left out for each reason, in words."""
    reasons = pd.Series([r.reason for r in rejections], dtype=object).value_counts()
    return ", ".join(f"{n:,} {reason}" for reason, n in reasons.items()) or "none"


def advice(
    rejections: Iterable[stamps.Rejection], flags: Iterable[str] = (), finders: Mapping[str, Finder] | None = None
) -> list[str]:
    """What each reason, and each flag of some finders, means and what to do, a list of texts."""
    known = headers.REASONS | quality.reasons(finders or {})
    given = dict.fromkeys([*(r.reason for r in rejections), *(flag for flag in flags if flag)])
    return [f"{reason}: {known[reason]}" for reason in given]


def about(finder: Finder) -> dict[str, str]:
    """What a finder was trained on and what it takes, by what it is: a dict of texts."""
    p, wants, made = finder.made["parameters"], finder.preprocessing, finder.made
    networks = 1 + len(finder.others)
    on = f"{made['chunks']} chunks of {p['chunk_size']} simulated stamps"
    if made.get("hosts"):
        on += f", and on {made['hosts']} real galaxies"
    return {
        "loss": p["loss"] + (f", beta {p['beta']:g}" if "beta" in p else ""),
        "network": f"ResNet18 of width {p['width']}" + (f", {networks} of them" if networks > 1 else ""),
        "trained on": on,
        "run": made["run"],
        "validation loss": f"{made['validation_loss']:.4f}",
        "temperature": f"{finder.temperature:.3f}",
        "takes": f"{wants['size'][0]} x {wants['size'][1]} pixels, {wants['pixel_scale']} arcsec, {wants['band']} band",
        "SHA-256": finder.digest[:16],
    }
