"""Whether to trust a finder of one's own: what it makes of galaxies that it was not trained on, with and without arcs.

Hosts of the test split are scored as they are, and with arcs of sources that were kept apart, normalised again.  All
intervals are of 95 %; where several mock lenses share a host, hosts are drawn again with all that was made of each.
What comes of it is for arcs as simulated: real ones are more varied.
"""

import base64
import hashlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from lensdet import storage
from lensdet.data import mocklens
from lensdet.data.bank import Bank
from lensdet.data.random import stream
from lensdet.evaluation import calibration, thresholds
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.network.finders import Finder
from lensdet.parameters import Parameters
from lensdet.survey import quality
from lensdet.survey.page import faint

EACH = 8  # mock lenses of a host
DRAWS = 1000  # of hosts, for intervals
EINSTEIN_RADII = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # arcsec, edges of bins
ARC_SNR = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, np.inf)  # of an arc's brightest pixel, over the noise of a pixel
GATE = 0.6  # area under the curve, above which a number that is no arc tells mock lenses from hosts
SHOWN = 12  # pictures of a kind
COLUMNS = ["part", "what", "value", "low", "high", "n"]
PARTS = {
    "held out": "Galaxies that no network was trained, selected or calibrated on, with and without arcs",
    "acceptance": "What it accepts at a probability of one half, by class; without arcs",
    "Einstein radius": "Painted arcs that it finds at a probability of one half, by Einstein radius (arcsec)",
    "arc signal-to-noise": "The same by the signal-to-noise of the arc's brightest pixel",
    "calibration": "Where it says p, how many are lenses (half of these stamps are)",
    "shortcuts": "How well a number that is no arc tells painted hosts from plain ones: 0.5 is not at all",
    "flags": "What `lensdet rank` would flag and list last",
}


class Measured(NamedTuple):
    """A finder's report: numbers, and the stamps that are shown."""

    table: pd.DataFrame  # `COLUMNS`
    accepted: tuple[NDArray, NDArray]  # stamps (k, 101, 101) as a network sees them, and their probability
    missed: tuple[NDArray, NDArray]


def measure(finder: Finder, bank: Bank, split: str, parameters: Parameters) -> Measured:
    """The report of a finder on one's own stamps of a split of a bank from `hosts.open_bank`, and the simulated."""
    size = mocklens.sizes(bank, split)
    lrg, contaminant = (bank.catalogue(cls, split) for cls in ("lrg", "contaminant"))
    source, n = bank.catalogue("source", split), size.own[0]
    rows = _rows(n, size, parameters)
    is_mock = rows["label"] == 1
    plain, mocks = (mocklens.images(bank, split, rows[k], renormalise=True) for k in (~is_mock, is_mock))
    negative, positive = finder.logits(plain), finder.logits(mocks)
    drawn, depth = rows[is_mock], (lrg["maximum"] - lrg["minimum"]) / lrg["noise"]
    arc = drawn["alpha"] * np.repeat(depth.to_numpy()[:n], EACH)
    scores = {"galaxies of your own, held out": negative}
    first = size.lrg
    for name, of in (("your own negatives", np.arange(size.own[1])), *_by_kind(contaminant, size.own[1])):
        if len(of):
            rows = np.zeros(len(of), mocklens.ROW)
            rows["stamp"] = first + of
            scores[name] = finder.logits(mocklens.images(bank, split, rows, renormalise=True))
    rows = np.zeros(size.lrg - n, mocklens.ROW)
    rows["stamp"] = np.arange(n, size.lrg)
    if len(rows):
        scores["simulated galaxies"] = finder.logits(mocklens.images(bank, split, rows, renormalise=True))
    radius = source["einstein_radius"].to_numpy()[drawn["source"]]
    scale = finder.preprocessing["pixel_scale"]
    table = pd.concat(
        [
            held_out(negative / finder.temperature, positive.reshape(n, EACH) / finder.temperature),
            acceptance(scores),
            completeness("Einstein radius", radius, positive, EINSTEIN_RADII),
            completeness("arc signal-to-noise", arc, positive, ARC_SNR),
            reliability(negative / finder.temperature, positive / finder.temperature),
            shortcuts(plain[..., 0], mocks[..., 0]),
            flagged(plain[..., 0], mocks[..., 0], finder, scale),
        ],
        ignore_index=True,
    )
    high, low = np.argsort(-negative, kind="stable")[:SHOWN], np.argsort(positive, kind="stable")[:SHOWN]
    p = [1 / (1 + np.exp(-x.astype(float) / finder.temperature)) for x in (negative[high], positive[low])]
    return Measured(table, (plain[high, ..., 0], p[0]), (mocks[low, ..., 0], p[1]))


def _rows(n, size, parameters):
    """Each of one's own hosts as it is, then `EACH` mock lenses of each, side by side."""
    rows = np.zeros(n * (1 + EACH), mocklens.ROW)
    rows["stamp"] = np.r_[np.arange(n), np.repeat(np.arange(n), EACH)]
    mocks = rows[n:]
    rng = stream(parameters.data_seed, "finder report")
    mocks["source"] = mocklens.pairs(rng, size.seeing[mocks["stamp"]], size.source_seeing)
    mocks["alpha"], mocks["label"] = rng.uniform(*parameters.alpha, len(mocks)), 1
    return rows


def _by_kind(catalogue, own):
    kinds = catalogue["kind"].to_numpy()
    return [(f"simulated: {kind}", own + np.flatnonzero(kinds[own:] == kind)) for kind in sorted(set(kinds[own:]))]


def _row(part, what, value, low=np.nan, high=np.nan, n=0):
    return dict(zip(COLUMNS, (part, what, float(value), float(low), float(high), int(n)), strict=True))


def _share(part, what, found):
    low, high = clopper_pearson(np.sum(found), len(found))
    return _row(part, what, np.mean(found), low, high, len(found))


def auc(negative: NDArray, positive: NDArray) -> float:
    """Area under the ROC curve of scores of negatives and positives, any shape."""
    labels = np.repeat([0, 1], [negative.size, positive.size])
    return float(thresholds.auc(thresholds.curve(labels, np.r_[negative.ravel(), positive.ravel()])))


def held_out(negative: NDArray, positive: NDArray) -> pd.DataFrame:
    """Area under the curve, and shares at p = 0.5 and where no host is accepted.

    Parameters
    ----------
    negative : array (n,)
        Calibrated logits of hosts.
    positive : array (n, k)
        Of the mock lenses of each.
    """
    n = len(negative)

    def values(some):
        hosts, mocks = negative[some], positive[some]
        return auc(hosts, mocks), np.mean(mocks >= 0), np.mean(mocks > hosts.max())

    rng = stream(0, "finder report/intervals")
    low, high = np.quantile([values(rng.integers(0, n, n)) for _ in range(DRAWS)], [0.025, 0.975], axis=0)
    names = (
        "area under the ROC curve",
        "arcs found at p = 0.5",
        f"arcs found where none of {n} hosts is accepted",
    )
    rows = [_row("held out", *found, n) for found in zip(names, values(np.arange(n)), low, high, strict=True)]
    rows.insert(2, _share("held out", "hosts accepted at p = 0.5", negative >= 0))
    none = clopper_pearson(0, n)
    rows.append(_row("held out", "hosts accepted there", 0, *none, n))
    return pd.DataFrame(rows)


def acceptance(scores: dict[str, NDArray]) -> pd.DataFrame:
    """Shares at or above p = 0.5 by class; ``scores`` are logits by name."""
    return pd.DataFrame([_share("acceptance", name, values >= 0) for name, values in scores.items()])


def completeness(part: str, of: NDArray, logits: NDArray, edges: tuple[float, ...]) -> pd.DataFrame:
    """Share of mock lenses found at p = 0.5 in bins of what they are; bins without any are left out."""
    rows = []
    for low, high in pairwise(edges):
        inside = (of >= low) & (of < high)
        if inside.any():
            name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            rows.append(_share(part, name, logits[inside] >= 0))
    return pd.DataFrame(rows, columns=COLUMNS)


def reliability(negative: NDArray, positive: NDArray) -> pd.DataFrame:
    """Share of lenses in bins of the stated probability, each host as often as it has mock lenses."""
    each = len(positive) // len(negative)
    labels = np.repeat([0, 1], [len(positive), len(positive)])
    logits = np.r_[np.repeat(negative, each), positive]
    found = calibration.reliability(labels, logits, 5)
    rows = [_row("calibration", f"p = {p:.2f}", share, n=n)
            for p, share, n in zip(found.mean_prediction, found.fraction, found.count, strict=True)]  # fmt: skip
    error = calibration.expected_calibration_error(labels, logits, 5)
    return pd.DataFrame([*rows, _row("calibration", "mean error of p", error, n=len(labels))])


def shortcuts(plain: NDArray, mocks: NDArray) -> pd.DataFrame:
    """How well numbers that are no arcs tell mock lenses (k, 101, 101) from hosts (n, 101, 101), above 0.5."""
    corner = np.ones(plain.shape[1:], bool)
    corner[12:-12], corner[:, 12:-12] = False, False
    measures = {
        "brightest but one in a thousand": lambda x: np.quantile(x, 0.999, axis=(1, 2)),
        "pixels at the maximum": lambda x: (x >= 1).sum((1, 2)),
        "darkest pixel": lambda x: x.min((1, 2)),
        "sky in the corners": lambda x: np.median(x[:, corner], 1),
        "noise in the corners": lambda x: x[:, corner].std(1),
    }
    rows = []
    for name, of in measures.items():
        value = auc(of(plain).astype(float), of(mocks).astype(float))
        rows.append(_row("shortcuts", name, max(value, 1 - value), n=len(plain)))
    return pd.DataFrame(rows)


def flagged(plain: NDArray, mocks: NDArray, finder: Finder, scale: float) -> pd.DataFrame:
    """Share of hosts and of mock lenses that `quality.flags` would flag."""
    rows = []
    for name, images in (("hosts", plain), ("hosts with arcs", mocks)):
        flags = quality.flags(quality.measure(images**2, scale), {"finder": finder.logits(images[..., None])},
                              {"finder": finder})  # fmt: skip
        rows.append(_share("flags", name, flags != ""))
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """The report in sentences."""

    def value(part, what):
        row = table[(table["part"] == part) & table["what"].str.startswith(what)].iloc[0]
        return row["value"], row["low"], row["high"], int(row["n"])

    auc_, low, high, n = value("held out", "area")
    found, accepted = value("held out", "arcs found at"), value("held out", "hosts accepted at")
    lines = [
        f"On {n} of your galaxies that it has not seen, {found[0]:.0%} of painted arcs are found where "
        f"{accepted[0]:.0%} of the galaxies are accepted ({accepted[1]:.0%} to {accepted[2]:.0%}); area under the "
        f"curve {auc_:.3f} ({low:.3f} to {high:.3f}).",
    ]
    if n < 100:
        lines.append(f"{n} galaxies say little: acceptance below {3 / n:.0%} cannot be told from none.")
    gates = table[(table["part"] == "shortcuts") & (table["value"] > GATE)]
    if len(gates):
        lines.append(
            f"Not to be trusted as it stands: painted galaxies are told from plain ones by {', '.join(gates['what'])}; "
            "a network may have learnt that instead of arcs."
        )
    lines.append(
        "Lenses are about one in a thousand galaxies: of what is accepted, nearly all are none.  The order of a ranked "
        "list is what to use."
    )
    return lines


def write(folder: Path, found: Measured, heading: str, notes: list[str], finder: Path) -> Path:
    """Write ``report.csv`` and the page ``index.html`` with its pictures; returns the page."""
    storage.write_csv(folder / "report.csv", found.table, 5)
    strips = {"accepted.jpg": _strip(found.accepted[0]), "missed.jpg": _strip(found.missed[0])}
    for name, strip in strips.items():
        with storage.atomic(folder / name) as beside:
            Image.fromarray(strip).save(beside, "JPEG", quality=90)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    parts = [(PARTS[name], [_shown(row) for row in rows.to_dict("records")])
             for name, rows in found.table.groupby("part", sort=False)]  # fmt: skip
    page = environment.get_template("finder_report.html.j2").render(
        heading=heading, notes=notes, verdict=verdict(found.table), parts=parts, finder=str(finder),
        accepted=[f"{p:.3f}" for p in found.accepted[1]], missed=[f"{p:.3f}" for p in found.missed[1]],
    )  # fmt: skip
    with storage.atomic(folder / "index.html") as beside:
        beside.write_text(page, "utf-8", errors="backslashreplace")
    return folder / "index.html"


def _shown(row):
    between = f"{row['low']:.3f} to {row['high']:.3f}" if np.isfinite(row["low"]) else ""
    return row["what"], f"{row['value']:.3f}", between, f"{row['n']:,}", round(100 * min(max(row["value"], 0), 1))


def _strip(images):
    """Pictures side by side, two rows: as a network sees them, and their faint parts; the first row at the bottom."""
    if not len(images):
        return np.zeros((1, 1), np.uint8)
    rows = [np.concatenate([part[::-1] for part in some], 1) for some in (images, [faint(x**2) for x in images])]
    return np.rint(255 * np.concatenate(rows)).astype(np.uint8)
