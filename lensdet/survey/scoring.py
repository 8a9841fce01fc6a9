"""Scores of a survey's stamps: read by worker processes, scored here in batches, and kept by stamp.

What was scored once is not scored again: after an interruption, where stamps are added, or where shards of a survey are
scored one by one.  Memory does not grow with the number of stamps.
"""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from lensdet import storage
from lensdet.data import stamps
from lensdet.network.finders import Finder
from lensdet.survey import cutouts, quality, reading

RETRIED = ("unreadable",)  # reasons that may have gone when the survey is ranked again


class Shard(NamedTuple):
    """One of several parts of a survey, of stamps that lie together."""

    number: int  # from 1
    of: int

    def rows(self, n: int) -> range:
        """Rows of a plan of n stamps."""
        return range((self.number - 1) * n // self.of, self.number * n // self.of)


ALL = Shard(1, 1)


def scores_folder(job: cutouts.Plan, finders: Mapping[str, Finder], folder: Path) -> Path:
    """Where scores are kept: a folder of its own for other finders, or stamps that are read in another way."""
    made = [repr(job.options), *(f"{name} {finder.digest}" for name, finder in finders.items())]
    return Path(folder) / f"scores-{hashlib.sha256(' '.join(made).encode()).hexdigest()[:8]}"


def score(
    job: cutouts.Plan,
    finders: Mapping[str, Finder],
    folder: Path,
    workers: int = -1,
    progress: bool = True,
    on_bad: stamps.OnBad = "quarantine",
    shard: Shard = ALL,
) -> Path:
    """Score the stamps of a plan, or of a shard of it, that have no score yet; each batch is kept when it is done.

    Files that could not be opened are read again by the next call.

    Parameters
    ----------
    job, finders, shard
    folder : Path
        Takes the folder of `scores_folder`, which is returned.
    workers : int
        Processes that read; -1: all cores.
    progress : bool
        Show a bar with stamps a second and time left.
    on_bad : {"quarantine", "raise"}
        Leave out what cannot be used, or stop at the first such stamp, a `lensdet.data.stamps.StampError`.
    """
    if on_bad == "raise" and job.rejections:
        raise stamps.StampError(*job.rejections[0])
    parts = scores_folder(job, finders, folder)
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / f".lock-{shard.number}-{shard.of}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process scores the same stamps into {parts}; waiting for it to end", flush=True)
        lock.acquire()
    ended = parts / f"shard-{shard.number}-of-{shard.of}"
    try:
        ended.unlink(missing_ok=True)  # of other stamps, where some were added
        _score(job, finders, parts, workers, progress, on_bad, shard)
        ended.touch()
    finally:
        lock.release()
    return parts


def _score(job, finders, parts, workers, progress, on_bad, shard):
    for half in parts.glob(".????????.*"):  # left by a process that was killed in the middle of a write
        if half.stat().st_mtime < time.time() - 3600:  # not by another that writes at this moment
            half.unlink(missing_ok=True)
    mine = np.array(shard.rows(len(job.ids)), int)
    known, bad = _kept(parts, ("key",))
    done = {*known["key"], *(key for key, reason, _ in bad if reason not in RETRIED)}
    todo = np.array([row for row in mine if job.keys[row].decode() not in done], int)
    todo = todo[np.sort(np.unique(job.keys[todo], return_index=True)[1])]  # positions given twice are scored once
    with tqdm(
        total=len(mine), initial=len(mine) - len(todo), unit="stamp", desc="scoring", disable=not progress
    ) as bar:
        chunks = [todo[i : i + cutouts.BATCH] for i in range(0, len(todo), cutouts.BATCH)]
        for rows, batch in zip(chunks, reading.batches(job, chunks, workers), strict=True):
            if on_bad == "raise" and batch.rejections:
                raise stamps.StampError(*batch.rejections[0])
            _keep(parts, job, rows, batch, finders)
            bar.update(len(rows))


def _keep(parts, job, rows, batch, finders):
    """Write the scores of a batch, and what was left out, under the keys of its stamps."""
    keys = dict(zip((job.ids[row] for row in rows), (job.keys[row].decode() for row in rows), strict=True))
    bad = np.array([[keys[r.file], r.reason, r.detail] for r in batch.rejections], str).reshape(-1, 3)
    path, hdu, x, y = zip(*batch.places, strict=True) if batch.places else ((),) * 4
    some = len(batch.pixels) > 0
    logits = {f"logit/{n}": f.score(batch.pixels) if some else np.zeros(0, np.float32) for n, f in finders.items()}
    name = hashlib.sha256("".join(keys.values()).encode()).hexdigest()[:16]
    with storage.atomic(parts / f"{name}.npz") as beside, open(beside, "wb") as file:
        np.savez(
            file,
            key=np.array([keys[i] for i in batch.ids], str),
            ra=batch.ra, dec=batch.dec, filled=batch.filled,
            tile=np.array(path, str), hdu=np.array(hdu, int), x=np.array(x, float), y=np.array(y, float),
            rejected=bad,
            **batch.measures.to_dict("series"),
            **logits,
        )  # fmt: skip


def _kept(parts, names):
    """Columns of all that was kept in a folder, and rows of key, reason and detail of what was left out."""
    read, bad = {name: [] for name in names}, []
    whole = parts.glob("[!.]*.npz")  # not what another process is writing
    for path in sorted(whole, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        with np.load(path, allow_pickle=False) as file:
            for name, found in read.items():
                found.append(file[name])
            bad += file["rejected"].tolist()
    return {name: np.concatenate(found) if found else np.zeros(0) for name, found in read.items()}, bad


def collect(
    job: cutouts.Plan, parts: Path, finders: Mapping[str, Finder]
) -> tuple[pd.DataFrame, list[stamps.Rejection], int]:
    """All scores of a plan, and what was left out; ``parts`` is the folder from `score`.

    Returns
    -------
    table : pandas.DataFrame
        ``id``, ``ra``, ``dec`` (degrees), ``filled`` (pixels), ``tile`` (path of the file), ``hdu``, ``x`` and ``y``
        (its pixels, from 0), the measures of `quality.measure`, and the logits of each finder as ``logit/<name>``;
        columns of the catalogue that were asked for, as ``catalogue_<name>``.
    rejections : list of lensdet.data.stamps.Rejection
    missing : int
        Stamps that were not scored yet.
    """
    names = ["key", "ra", "dec", "filled", "tile", "hdu", "x", "y", *quality.LIMITS]
    names += [f"logit/{name}" for name in finders]
    columns, bad = _kept(parts, names)
    # object: a file name need not be valid Unicode, as pandas' own text has to be
    columns |= {name: pd.Series(columns[name], dtype=object) for name in ("key", "tile")}
    table = pd.DataFrame(columns).drop_duplicates("key", keep="last").set_index("key")
    keys = pd.Index([key.decode() for key in job.keys], dtype=object)
    found = keys.isin(table.index)
    left_out = {key: (reason, detail) for key, reason, detail in bad}
    rejections = list(job.rejections)
    for row in np.flatnonzero(~found):
        if keys[row] in left_out:
            rejections.append(stamps.Rejection(job.ids[row], *left_out[keys[row]]))
    missing = len(keys) - int(found.sum()) - (len(rejections) - len(job.rejections))
    scored = table.loc[keys[found]].reset_index(drop=True)
    scored.insert(0, "id", pd.Series([job.ids[row] for row in np.flatnonzero(found)], dtype=object))
    if job.kept is not None:
        kept = job.kept[found].reset_index(drop=True)
        scored = pd.concat([scored, kept.rename(columns=lambda name: f"catalogue_{name}")], axis=1)
    placed = np.isfinite(job.ra[found])  # a catalogue's own position, of whatever row first had these pixels
    scored.loc[placed, ["ra", "dec"]] = np.stack([job.ra[found][placed], job.dec[found][placed]], axis=1)
    return scored, rejections, missing


def shards_to_run(parts: Path) -> str:
    """Shards that have not ended, as ``7/64``, of as many as the last that has; or what else is to be done."""
    ended = sorted(parts.glob("shard-*-of-*"), key=lambda path: path.stat().st_mtime_ns)
    if not ended:
        return "none has ended"
    done, of = {path.name for path in ended}, int(ended[-1].name.split("-")[-1])
    left = [f"{i}/{of}" for i in range(1, of + 1) if f"shard-{i}-of-{of}" not in done]
    more = f" and {len(left) - 20} more" if len(left) > 20 else ""
    return ", ".join(left[:20]) + more or f"all {of} again, as files were added or changed since they ended"
