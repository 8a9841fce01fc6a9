"""Stamps of a plan, read in this process or by others; one that dies or hangs costs the file that did it."""

import concurrent.futures
import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from joblib.externals.loky import ProcessPoolExecutor
from numpy.typing import NDArray

from lensdet.data.stamps import Rejection, StampError
from lensdet.survey import cutouts, headers, quality
from lensdet.survey.cutting import Image, Reader

SECONDS = 120  # that a stamp may take to be read
AHEAD = 3  # batches a worker that are read, or being read, before they are used
BATCH_SECONDS = 600  # that a batch may take to be read, before its stamps are read apart
_GONE = concurrent.futures.BrokenExecutor, concurrent.futures.TimeoutError


class Batch(NamedTuple):
    """What `read` returns: n usable stamps in the order of the unit, and the others by name."""

    ids: list  # of str
    ra: np.ndarray  # degrees (ICRS), (n,); NaN where not known
    dec: np.ndarray
    pixels: np.ndarray  # float32 (n, rows, columns), in the units of the file; finite, not constant
    filled: np.ndarray  # int (n,): masked or missing pixels that were filled
    rejections: list  # of lensdet.data.stamps.Rejection; its `file` is the id
    places: list  # of lensdet.survey.cutting.Place, (n,): where each was cut
    measures: pd.DataFrame  # of `lensdet.survey.quality.measure`, n rows


def read(unit: cutouts.Unit) -> Batch:
    """Read some stamps of a plan, in any process; n = 0 where none can be used.  What a file holds raises nothing."""
    pixels = np.empty((len(unit.ids), *unit.options.wanted.size), np.float32)
    kept, rejections = [], []
    reader = Reader(unit.options)
    with headers.quiet():
        for name, ra, dec, places in zip(unit.ids, unit.ra, unit.dec, unit.places, strict=True):
            try:
                with _limited(name):
                    stamp = _first(reader, name, places)
            except StampError as error:
                rejections.append(Rejection(name, error.reason, error.detail[:1000]))  # a card may be long
                continue
            pixels[len(kept)] = stamp.pixels
            ra, dec = (stamp.ra, stamp.dec) if np.isnan(ra) else (ra, dec)
            kept.append((name, ra, dec, stamp.filled, stamp.place))
        reader.close()
    ids, ra, dec, filled, where = zip(*kept, strict=True) if kept else ((),) * 5
    ra, dec = (np.array(degrees, float) for degrees in (ra, dec))
    pixels = pixels[: len(kept)]
    measures = quality.measure(pixels, unit.options.wanted.pixel_scale)
    return Batch(list(ids), ra, dec, pixels, np.array(filled, int), rejections, list(where), measures)


def look(unit: cutouts.Unit) -> Iterator[tuple[Image | StampError, NDArray | None]]:
    """The image that each stamp of a unit is cut from, or what is wrong with it, and its scales (`headers.scales_of`).

    No pixel is read; an image is open until the next one is taken.
    """
    with headers.quiet(), contextlib.closing(Reader(unit.options)) as reader:
        for place, *_ in unit.places:
            try:
                image = reader.image(place)
            except StampError as error:
                yield error, None
            else:
                yield image, headers.scales_of(image.header, image.wcs) if image.scales is None else image.scales


@contextlib.contextmanager
def _limited(name):
    """StampError where what is inside takes longer than SECONDS; in a main thread, as those of processes that read."""

    def stop(*_):
        raise StampError(name, "too slow", f"not read in {SECONDS} s")

    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _first(reader, name, places):
    """The stamp at the first of some places that has it; else the error of the first."""
    errors = []
    for place in places:
        try:
            return reader(name, place)
        except StampError as error:
            errors.append(error)
    raise errors[0]


def batches(job: cutouts.Plan, chunks: Sequence[NDArray], workers: int) -> Iterator[Batch]:
    """Batches of some rows of a plan, in order, read by worker processes that are never far ahead.

    joblib's own generator does not wait for who takes its results, and would fill the memory.  Where a worker dies or
    takes too long, the stamps that it had are read apart, so that it costs the file that did it.

    Parameters
    ----------
    job : lensdet.survey.cutouts.Plan
    chunks : sequence of arrays of int
        Rows of each batch.
    workers : int
        Processes; -1: as many as there are cores, one at least.  1: none, all is read in this process.
    """
    n = min(effective_n_jobs(workers), len(chunks))
    if workers == 1 or not n:
        yield from (read(job.unit(rows)) for rows in chunks)
        return
    pool, waiting, left = ProcessPoolExecutor(n), deque(), iter(chunks)  # not loky's shared one, which is joblib's
    try:
        while True:
            for rows in left:
                waiting.append((rows, pool.submit(read, job.unit(rows))))
                if len(waiting) >= AHEAD * n:
                    break
            if not waiting:
                return
            rows, future = waiting.popleft()
            try:
                batch = future.result(BATCH_SECONDS)
            except _GONE:
                pool.shutdown(kill_workers=True)
                batch = _read_apart(job.unit(rows))
                pool = ProcessPoolExecutor(n)
                waiting = deque((some, pool.submit(read, job.unit(some))) for some, _ in waiting)
            yield batch
    finally:
        pool.shutdown(kill_workers=True)  # after an error or Ctrl-C too


def joined(some: Iterable[Batch]) -> Batch:
    """Several batches as one."""
    *columns, measures = zip(*some, strict=True)
    lists = ([*chain(*of)] if isinstance(of[0], list) else np.concatenate(of) for of in columns)
    return Batch(*lists, pd.concat(measures, ignore_index=True))


def _read_apart(unit):
    """A batch, read by a process of its own; where that dies or takes too long, by halves."""
    pool = ProcessPoolExecutor(1)
    try:
        return pool.submit(read, unit).result(BATCH_SECONDS)
    except _GONE as error:
        slow = isinstance(error, concurrent.futures.TimeoutError)
    finally:
        pool.shutdown(kill_workers=True)
    n = len(unit.ids)
    if n == 1:
        why = ("too slow", f"not read in {BATCH_SECONDS} s") if slow else ("crash", "the process that read it died")
        return read(unit._replace(ids=(), ra=(), dec=(), places=()))._replace(rejections=[Rejection(unit.ids[0], *why)])
    return joined(
        [
            _read_apart(cutouts.Unit(*(v[half] for v in unit[:4]), unit.options))
            for half in (slice(n // 2), slice(n // 2, n))
        ]
    )
