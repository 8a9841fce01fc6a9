"""A look at a survey before it is ranked: what will happen to it, by headers and a sample of its pixels."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from lensdet.data import images, stamps
from lensdet.network.engine import PREDICT_BATCH
from lensdet.network.finders import Finder
from lensdet.survey import cutouts, headers, quality, reading

SAMPLE = 256  # stamps that are read, spread over the survey
TOGETHER = 32  # of them, by one process
MANY = 0.05  # share of stamps left out or flagged from which it is a warning
REMEDIES = {  # what the command line takes, by reason of `headers.REASONS`
    "band": "give the files of band {band}; or -p band {band}, where a header is not understood and the band is right",
    "no scale": "-p pixel_scale {scale:g}, where that is the scale",
    "scale": "-p pixel_scale ARCSEC, where the header is right",
    "shape": "-p catalogue FILE -p tiles FOLDER, where these are tiles; -p plane 1, where they are cubes",
    "masked": "-p max_filled 0.1",
    "no position": "-p columns '{{ra: NAME, dec: NAME}}'",
    "duplicate id": "-p columns '{{id: NAME}}'",
    "off the tiles": "-p tiles FOLDER, once for each folder; RA and Dec have to be in degrees, and not swapped",
}


class Line(NamedTuple):
    """A line of the summary."""

    level: Literal["ok", "warning", "error"]
    text: str
    remedy: str = ""


def look(job: cutouts.Plan, finders: Mapping[str, Finder], workers: int = -1) -> list[Line]:
    """What ranking a plan would do, with an error where nothing could be ranked, each line with its remedy.

    ``workers`` are the processes that would read, for the time it will take.
    """
    lines = [Line("ok", f"{job.total:,} stamps asked for, from {len(job.files):,} files")]
    lines += [Line("warning", remark) for remark in job.remarks]
    wanted, n = job.options.wanted, len(job.ids)
    errors = [] if n else [r.reason for r in job.rejections]
    lines += _left_out(job.rejections, job.total, f"of {job.total:,}", wanted, errors)
    if not n:
        return lines
    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))
    batch, seconds = _read(job, rows, workers)
    of = f"of {len(rows)} that were read" if len(rows) < n else f"of {n}"
    lines += _seen(job, rows)
    errors = [] if batch.ids else [batch.rejections[0].reason]
    lines += _left_out(batch.rejections, len(rows), of, wanted, errors)
    if not batch.ids:
        return lines
    logits = {name: finder.score(batch.pixels) for name, finder in finders.items()}
    began = time.perf_counter()  # compiled by now; a network's batch takes the same, full or not
    for finder in finders.values():
        finder.score(batch.pixels[:1])
    seconds = -(-n // PREDICT_BATCH) * (time.perf_counter() - began) + n * seconds
    flags = quality.flags(batch.measures, logits, finders)
    for flag, count in Counter(flags[flags != ""].tolist()).most_common():
        level = "warning" if count > MANY * len(batch.ids) else "ok"
        lines.append(Line(level, f"{flag}: {count} {of}, which are listed last", quality.reasons(finders)[flag]))
    lines.append(Line("ok", f"{int((flags == '').sum())} {of} can be ranked as the finders were trained"))
    return [*lines, Line("ok", f"some {_duration(seconds)} on this machine")]


def _read(job, rows, workers):
    """Stamps of some rows as ranking reads them, and the seconds that each takes."""
    chunks = np.array_split(rows, -(-len(rows) // TOGETHER))
    began = time.perf_counter()
    batches = reading.batches(job, chunks, workers)
    first, timed = next(batches), len(rows)
    if len(chunks) > 1:  # without the start of the processes
        began, timed = time.perf_counter(), len(rows) - len(chunks[0])
    batch = reading.joined([first, *batches])
    return batch, (time.perf_counter() - began) / timed


def _left_out(rejections, total, of, wanted, errors):
    """A line for each reason, the most frequent first; errors: reasons for which nothing can be ranked."""
    details = {r.reason: r.detail for r in reversed(rejections)}
    for reason, count in Counter(r.reason for r in rejections).most_common():
        remedy = REMEDIES.get(reason, headers.REASONS[reason]).format(band=wanted.band, scale=wanted.pixel_scale)
        level = "error" if reason in errors else "warning" if count / total > MANY else "ok"
        yield Line(level, f"{reason}: {count:,} {of} are left out, such as: {details[reason]}", remedy)


def _seen(job, rows):
    """Bands, scales and sizes of the files of some rows, by what their headers say."""
    seen = {"band": Counter(), "arcsec a pixel": Counter(), "pixels": Counter()}
    for image, scales in reading.look(job.unit(rows)):
        if isinstance(image, stamps.StampError):
            seen["band"][image.detail if image.reason == "band" else f"not read ({image.reason})"] += 1
            continue
        filters = images.filters_of(image.header)
        seen["band"][", ".join(filters.values()) or f"none named, taken for {job.options.wanted.band}"] += 1
        seen["arcsec a pixel"]["unknown" if scales is None else f"{np.mean(scales):.3g}"] += 1
        seen["pixels"]["{} x {}".format(*image.window.shape)] += 1
    return [
        Line("ok", f"{what}: " + ", ".join(f"{value} ({count})" for value, count in counts.most_common(4)))
        for what, counts in seen.items() if counts
    ]  # fmt: skip


def _duration(seconds):
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds > 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 2):.0f} seconds"
