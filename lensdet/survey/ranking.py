"""A user's own survey, ranked: stamps in, a list of candidates and a page to look through out.

Stamps are read by worker processes and scored here, in batches: memory does not grow with their number.  Each batch is
kept when it is done, in a folder named for the job, so that what was interrupted resumes.

`lensdet rank` does what notebook 07 does with a survey, without a notebook.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from joblib import effective_n_jobs
from joblib.externals.loky import ProcessPoolExecutor
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from lensdet import runs, storage
from lensdet.data import stamps
from lensdet.network.finders import Finder, name_of
from lensdet.network.finders import load as load_finder
from lensdet.parameters import Parameters
from lensdet.survey import candidate_list, catalogues, cutouts, headers, page
from lensdet.survey.candidate_list import ENSEMBLE

AHEAD = 3  # batches a worker that are read, or being read, before they are scored
RESERVED = ("id", "rank", "ra", "dec", "filled", "match", "separation", "reference", ENSEMBLE)  # columns of a list
UNSAID = ("A stamp whose header names no band is taken to be of the finders' band.",)


class NothingUsable(RuntimeError):
    """Not one stamp could be scored."""


class Outcome(NamedTuple):
    """What `run` leaves."""

    ranked: pd.DataFrame  # as from `rank`, with what `candidate_list.match` adds
    rejections: list  # of lensdet.data.stamps.Rejection
    folder: Path
    page: Path  # index.html
    plan: cutouts.Plan


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
    ValueError
        Where neither is given, or the catalogue cannot be used.
    FileNotFoundError
        Where a folder or file is not there.
    """
    p, asked = parameters, wanted(finders)
    if p.survey:
        return cutouts.plan_folder(p.survey, asked, p.pixel_scale, p.band)
    if p.catalogue:
        return cutouts.plan_tiles(p.catalogue, p.tiles, asked, p.columns, p.pixel_scale, p.band, p.max_filled)
    raise ValueError("nothing to rank: give the parameter survey (a folder), or catalogue and tiles")


def calibrated(logits: Mapping[str, ArrayLike], finders: dict[str, Finder]) -> dict[str, NDArray[np.float64]]:
    """Logits of each finder over its temperature, and their mean as ``ensemble``: dict of float64 arrays (N,).

    The mean of logits, not of probabilities: far out in the tail, where a list begins, those are all 1.
    """
    made = {name: np.asarray(logits[name], np.float64) / finder.temperature for name, finder in finders.items()}
    return {ENSEMBLE: np.mean(list(made.values()), axis=0), **made}


def score(
    job: cutouts.Plan,
    finders: dict[str, Finder],
    folder: Path,
    workers: int = -1,
    progress: bool = True,
    on_bad: stamps.OnBad = "quarantine",
) -> Path:
    """Score every stamp of a plan, in batches, each kept as soon as it is done.

    Batches with files that could not be opened are read again by the next call.

    Parameters
    ----------
    job : lensdet.survey.cutouts.Plan
    finders : dict of lensdet.network.finders.Finder
    folder : Path
        Takes a folder ``scores-<key>`` with a file a batch; the key is that of the stamps and the finders.
    workers : int
        Processes that read; -1: all cores.
    progress : bool
        Show a bar with stamps a second and time left.
    on_bad : {"quarantine", "raise"}
        Leave out what cannot be used, or stop at the first such stamp.

    Returns
    -------
    Path
        That folder.

    Raises
    ------
    lensdet.data.stamps.StampError
        With ``on_bad="raise"``.
    """
    if on_bad == "raise" and job.rejections:
        raise stamps.StampError(*job.rejections[0])
    digest = hashlib.sha256("".join([job.digest, *(f"{n} {f.digest}" for n, f in finders.items())]).encode())
    parts = Path(folder) / f"scores-{digest.hexdigest()[:8]}"
    parts.mkdir(parents=True, exist_ok=True)
    with FileLock(parts / ".lock"):
        _score(job, finders, parts, workers, progress, on_bad)
    return parts


def _score(job, finders, parts, workers, progress, on_bad):
    for half in parts.glob(".????????.*"):  # left by a process that was killed in the middle of a write
        half.unlink()
    todo = [i for i in range(len(job.units)) if not _done(_part(parts, i))]
    total = sum(len(unit.ids) for unit in job.units)
    known = total - sum(len(job.units[i].ids) for i in todo)
    with tqdm(total=total, initial=known, unit="stamp", desc="scoring", disable=not progress) as bar:
        for i, batch in zip(todo, _read(job.units, todo, workers), strict=True):
            found = {f"logit/{name}": _logits(finder, batch.pixels) for name, finder in finders.items()}
            if on_bad == "raise" and batch.rejections:
                raise stamps.StampError(*batch.rejections[0])
            bad = np.array([list(r) for r in batch.rejections], str).reshape(-1, 3)
            place = {"ids": np.array(batch.ids, str), "ra": batch.ra, "dec": batch.dec, "filled": batch.filled}
            with storage.atomic(_part(parts, i)) as beside, open(beside, "wb") as file:
                np.savez(file, rejected=bad, **place, **found)
            bar.update(len(batch.ids) + len(bad))


def _part(folder, i):
    return folder / f"{i:06d}.npz"


def _done(path):
    """Whether a batch was read, and nothing stood in the way that may have gone."""
    if not path.exists():
        return False
    with np.load(path, allow_pickle=False) as file:
        return "unreadable" not in file["rejected"][:, 1]


def _logits(finder, pixels):
    return finder.score(pixels) if len(pixels) else np.zeros(0, np.float32)


def _read(every, chosen, workers):
    """Batches of some units, in order, read by worker processes that are never far ahead.

    joblib's own generator does not wait for who takes its results, and would fill the memory.
    """
    n = effective_n_jobs(workers)
    if n == 1 or len(chosen) < 2:
        yield from map(cutouts.read, (every[i] for i in chosen))
        return
    pool, waiting, left = ProcessPoolExecutor(n), deque(), iter(chosen)  # not loky's shared one, which is joblib's
    try:
        while True:
            for i in left:
                waiting.append(pool.submit(cutouts.read, every[i]))
                if len(waiting) >= AHEAD * n:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(kill_workers=True)  # after an error or Ctrl-C too


def collect(job: cutouts.Plan, parts: Path, finders: dict[str, Finder]) -> tuple[pd.DataFrame, list[stamps.Rejection]]:
    """All scores of a job, and what was left out; ``parts`` is the folder from `score`.

    Returns
    -------
    table : pandas.DataFrame
        ``id``, ``ra``, ``dec`` (degrees), ``filled`` (pixels), and calibrated logits by finder and ``ensemble``.
    rejections : list of lensdet.data.stamps.Rejection
    """
    read, rejections = [], list(job.rejections)
    for i in range(len(job.units)):
        with np.load(_part(parts, i), allow_pickle=False) as file:
            read.append({name: file[name] for name in file.files if name != "rejected"})
            rejections += [stamps.Rejection(*map(str, row)) for row in file["rejected"]]
    joined = {name: np.concatenate([part[name] for part in read]) for name in (read[0] if read else ())}
    joined = {"ids": np.zeros(0, str), "ra": np.zeros(0), "dec": np.zeros(0), "filled": np.zeros(0, int), **joined}
    logits = {name: joined.pop(f"logit/{name}", np.zeros(0)) for name in finders}
    ids = pd.Series(joined.pop("ids"), dtype=object)  # for pandas text is Unicode alone, which a file name need not be
    return pd.DataFrame({"id": ids, **joined, **calibrated(logits, finders)}), rejections


def rank(table: pd.DataFrame, by: str = ENSEMBLE) -> pd.DataFrame:
    """The table of `collect` with a column ``rank`` from 1, sorted: the highest first, ties by id."""
    order = np.lexsort((table["id"].to_numpy(str), -table[by].to_numpy()))
    ranked = table.iloc[order].reset_index(drop=True)
    return pd.concat([pd.Series(np.arange(1, len(ranked) + 1), name="rank"), ranked], axis=1)


def survey_name(parameters: Parameters) -> str:
    """What a survey is called: its folder, or its catalogue and tiles."""
    p = parameters
    return p.survey.name if p.survey else f"{p.catalogue.name} on {', '.join(tile.name for tile in p.tiles[:3])}"


def output_folder(parameters: Parameters) -> Path:
    """Where list and page go: ``output``, or a folder of ``build/candidates`` that is called as the survey.

    Raises
    ------
    ValueError
        Where it lies in the survey: its files would be taken for stamps.
    """
    p = parameters
    called = re.sub(r"[^A-Za-z0-9_.-]+", "_", (p.survey or p.catalogue).stem).strip(".") or "survey"
    folder = p.output or storage.build_dir() / "candidates" / called
    for read in filter(None, (p.survey, *p.tiles)):
        if folder.resolve().is_relative_to(read):
            raise ValueError(f"output {folder}: lies in {read}, whose files are read; choose another folder")
    return folder


def rank_survey(parameters: Parameters) -> Outcome:
    """Rank a survey by the ``finders`` that its parameters name: `load_finders`, then `run`."""
    return run(parameters, load_finders(parameters.finders))


def run(
    parameters: Parameters,
    finders: dict[str, Finder],
    progress: bool = True,
    called: str | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """Score, rank, match, write: all that a survey needs.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        `parameters.Candidates` says which matter.
    finders : dict of lensdet.network.finders.Finder
    progress : bool
    called : str, optional
        The survey, in the heading of the page, where `survey_name` does not say what it is.
    notes : sequence of str
        ASCII, what a reader of the page and of the tables has to know of the stamps.

    Raises
    ------
    NothingUsable
        With the number of stamps of each reason; the list of what was left out is written.
    lensdet.data.stamps.StampError
        With ``on_bad="raise"``, at the first stamp that cannot be used.
    """
    p, job = parameters, plan(parameters, finders)
    folder = output_folder(p)
    known = catalogues.read_known(p.published) if p.published else None  # what is wrong with it is said at once
    parts = score(job, finders, folder, p.workers, progress, p.on_bad)
    table, rejections = collect(job, parts, finders)
    ranked = rank(table, p.rank_by)
    if known is not None:
        ranked = pd.concat([ranked, candidate_list.match(ranked, known, p.match_radius)], axis=1)
    header = {"rank_by": p.rank_by, "stamps": job.digest, "lensdet": runs.versions()["lensdet"]}
    header |= {f"finder {name}": finder.digest for name, finder in finders.items()}
    header |= {"notes": " ".join(notes)} if notes else {}
    page.remove(folder / "page")  # it would show another list
    candidate_list.write(folder, ranked, rejections, finders, header)
    if ranked.empty:
        raise NothingUsable(
            f"none of {job.total} stamps can be scored: {counted(rejections)}; see {folder}/rejected.csv"
        )
    outcome = Outcome(ranked, rejections, folder, folder / "page" / "index.html", job)
    _write_page(p, finders, outcome, progress, called or survey_name(p), notes)
    return outcome


def _write_page(parameters, finders, outcome, progress, called, notes):
    """The page of the highest ranked, with a small table of what they are."""
    p, (ranked, rejections, _, index, job) = parameters, outcome
    top = ranked.head(p.page_size)
    shown = next(iter(finders)) if p.rank_by == ENSEMBLE else p.rank_by
    summary = [("stamps asked for", f"{job.total:,}"), ("ranked", f"{len(ranked):,}"),
               ("left out", counted(rejections)), ("on this page", f"the first {len(top):,}"),
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
        notes=[*notes, *UNSAID, *advice(rejections)],
        summary=summary,
        progress=progress,
    )


def counted(rejections: Iterable[stamps.Rejection]) -> str:
    """How many stamps were left out for each reason, in words."""
    reasons = pd.Series([r.reason for r in rejections], dtype=object).value_counts()
    return ", ".join(f"{n:,} {reason}" for reason, n in reasons.items()) or "none"


def advice(rejections: Iterable[stamps.Rejection]) -> list[str]:
    """What each reason means and what to do, a list of texts."""
    return [f"{reason}: {headers.REASONS[reason]}" for reason in dict.fromkeys(r.reason for r in rejections)]


def about(finder: Finder) -> dict[str, str]:
    """What a finder was trained on and what it takes, by what it is: a dict of texts."""
    p, wants = finder.made["parameters"], finder.preprocessing
    return {
        "loss": p["loss"] + (f", beta {p['beta']:g}" if "beta" in p else ""),
        "network": f"ResNet18 of width {p['width']}",
        "trained on": f"{finder.made['chunks']} chunks of {p['chunk_size']} simulated stamps",
        "run": finder.made["run"],
        "validation loss": f"{finder.made['validation_loss']:.4f}",
        "temperature": f"{finder.temperature:.3f}",
        "takes": f"{wants['size'][0]} x {wants['size'][1]} pixels, {wants['pixel_scale']} arcsec, {wants['band']} band",
        "SHA-256": finder.digest[:16],
    }
