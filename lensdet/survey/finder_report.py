"""Whether to trust a finder of one's own: what it makes of galaxies that it was not trained on, with and without arcs.

Hosts of the test split are scored as they are, and with arcs of sources that were kept apart, normalised again.  All
intervals are of 95 %; where several mock lenses share a host, hosts are drawn again with all that was made of each.
What comes of it is for arcs as simulated: real ones are more varied.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from lensdet import storage
from lensdet.data import mocklens
from lensdet.data.bank import Bank
from lensdet.data.random import stream
from lensdet.evaluation import calibration, thresholds
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.network.finders import Finder
from lensdet.parameters import Parameters
from lensdet.survey import quality
from lensdet.survey.page import faint, template

EACH = 8  # mock lenses of a host
MOST = 2000  # hosts; of 10,000, with all that is painted on them, there would be 4 GB
DRAWS = 1000  # of hosts, for intervals
EINSTEIN_RADII = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # arcsec, edges of bins
ARC_SNR = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, np.inf)  # of an arc's brightest pixel, over the noise of a pixel
BEFORE = "area under the ROC curve before it learnt from your galaxies"
GAIN = "change of the area under the ROC curve"
GATE = 0.6  # area under the curve: above it, with an interval above 0.5, a number that is no arc tells them apart
SHOWN = 12  # pictures of a kind
COLUMNS = ["part", "what", "value", "low", "high", "n"]
PARTS = {  # of the page: heading, what the values are, what is counted
    "held out": ("Galaxies of yours that were kept apart, as they are and with arcs painted on them", "", "galaxies"),
    "acceptance": ("What it takes for a lens (p of 0.5 or more), by class; no arcs were painted", "accepted", "stamps"),
    "Einstein radius": ("Painted arcs that it finds (p of 0.5 or more), by Einstein radius", "found", "arcs"),
    "arc signal-to-noise": ("The same, by the arc's brightest pixel over the noise of a pixel", "found", "arcs"),
    "calibration": ("Calibration: where it says p, the share that has an arc; half of these stamps have", "with an arc",
                    "stamps"),
    "shortcuts": ("Shortcuts: how well a number that is no arc tells painted galaxies from plain ones; 0.5: not at all",
                  "area under ROC", "galaxies"),
    "flags": ("What lensdet rank would flag, and list last", "flagged", "stamps"),
}  # fmt: skip


class Measured(NamedTuple):
    """A finder's report: numbers, and the stamps that are shown."""

    table: pd.DataFrame  # `COLUMNS`
    accepted: tuple[NDArray, NDArray]  # stamps (k, 101, 101) as a network sees them, and their probability
    missed: tuple[NDArray, NDArray]


def measure(
    finder: Finder,
    bank: Bank,
    split: str,
    parameters: Parameters,
    negatives: Sequence[str] = (),
    before: Finder | None = None,
) -> Measured:
    """The report of a finder on one's own stamps of a split of a bank, and on the simulated.

    Parameters
    ----------
    finder
    bank : lensdet.data.bank.Bank
        From `hosts.open_bank`.
    split : str
        One that no network was trained, selected or calibrated on.
    parameters : lensdet.parameters.Parameters
        As from `hosts.around`: ``alpha`` and ``data_seed`` of the mock lenses.
    negatives : sequence of str
        The class of each of one's own negatives of the split, or "": what is accepted of each has a row.
    before : lensdet.network.finders.Finder, optional
        One that the training went on from: what it makes of the same stamps, and the gain over it.
    """
    size = mocklens.sizes(bank, split)
    lrg, contaminant, source = (bank.catalogue(cls, split) for cls in ("lrg", "contaminant", "source"))
    n = min(size.own[0], MOST)
    drawn = _mocks(n, size, parameters)
    mocks = mocklens.images(bank, split, drawn, renormalise=True)
    classes = {
        "galaxies of your own, held out": np.arange(n),
        "lenses that people graded, held out": size.lrg + size.contaminant + np.arange(size.graded),
        "negatives of your own, held out": size.lrg + np.arange(size.own[1]),
        **{
            f"of these: {name}": size.lrg + np.flatnonzero(np.array(negatives) == name)
            for name in sorted({*negatives} - {""})
        },
        **_by_kind(contaminant, size),
        "simulated galaxies": np.arange(size.own[0], size.lrg),
    }
    classes = {name: of for name, of in classes.items() if len(of)}
    rows = np.zeros(sum(map(len, classes.values())), mocklens.ROW)
    rows["stamp"] = np.concatenate([*classes.values()])
    plain = mocklens.images(bank, split, rows, renormalise=True)
    ends = np.cumsum([len(of) for of in classes.values()])[:-1]
    scores = dict(zip(classes, np.split(finder.logits(plain), ends), strict=True))
    plain, negative, positive = plain[:n], scores["galaxies of your own, held out"], finder.logits(mocks)
    depth = ((lrg["maximum"] - lrg["minimum"]) / lrg["noise"]).to_numpy()
    arc = drawn["alpha"] * depth[drawn["stamp"]]
    radius, host = source["einstein_radius"].to_numpy()[drawn["source"]], drawn["stamp"]
    own = negative / finder.temperature, positive.reshape(n, EACH) / finder.temperature
    older = before and (before.logits(plain), before.logits(mocks).reshape(n, EACH))
    table = pd.concat(
        [
            held_out(*own, older),
            acceptance(scores),
            completeness("Einstein radius", radius, positive, host, EINSTEIN_RADII, " arcsec"),
            completeness("arc signal-to-noise", arc, positive, host, ARC_SNR),
            reliability(negative / finder.temperature, positive / finder.temperature),
            shortcuts(plain[..., 0], mocks[..., 0]),
            flagged(plain[..., 0], mocks[..., 0], negative, positive, finder),
        ],
        ignore_index=True,
    )
    high, worst = np.argsort(-negative, kind="stable")[:SHOWN], positive.reshape(n, EACH).argmin(1)
    low = np.arange(n) * EACH + worst  # of each galaxy the one that scores lowest
    low = low[np.argsort(positive[low], kind="stable")][:SHOWN]
    p = [expit(x.astype(float) / finder.temperature) for x in (negative[high], positive[low])]
    return Measured(table, (plain[high, ..., 0], p[0]), (mocks[low, ..., 0], p[1]))


def _mocks(n, size, parameters):
    """`EACH` mock lenses of each of the first n hosts, side by side."""
    rows = np.zeros(n * EACH, mocklens.ROW)
    rows["stamp"] = np.repeat(np.arange(n), EACH)
    rng = stream(parameters.data_seed, "finder report")
    rows["source"] = mocklens.pairs(rng, size.seeing[rows["stamp"]], size.source_seeing)
    rows["alpha"], rows["label"] = rng.uniform(*parameters.alpha, len(rows)), 1
    return rows


def _by_kind(catalogue, size):
    kinds = catalogue["kind"].to_numpy()[size.own[1] :]
    return {f"simulated: {kind}": size.lrg + size.own[1] + np.flatnonzero(kinds == kind) for kind in sorted({*kinds})}


def _row(part, what, value, low=np.nan, high=np.nan, n=0):
    return dict(zip(COLUMNS, (part, what, float(value), float(low), float(high), int(n)), strict=True))


def _share(part, what, found, host=None):
    """A share with its interval; where several stamps are of a host, no narrower than hosts drawn again give it."""
    low, high = clopper_pearson(np.sum(found), len(found))
    if host is not None:
        k, of = len(np.unique(host)), np.unique(host, return_inverse=True)[1]
        sums, counts = np.bincount(of, found, k), np.bincount(of, minlength=k)
        drawn = stream(0, "finder report/hosts", k).integers(0, k, (DRAWS, k))
        shares = sums[drawn].sum(1) / counts[drawn].sum(1)
        if 0 < np.sum(found) < len(found):
            low, high = min(low, np.quantile(shares, 0.025)), max(high, np.quantile(shares, 0.975))
        else:  # of none, or all, no draw says more than that many hosts
            low, high = clopper_pearson(k * np.mean(found), k)
    return _row(part, what, np.mean(found), low, high, len(found))


def auc(negative: NDArray, positive: NDArray) -> float:
    """Area under the ROC curve of scores of negatives and positives, any shape."""
    labels = np.repeat([0, 1], [negative.size, positive.size])
    return float(thresholds.auc(thresholds.curve(labels, np.r_[negative.ravel(), positive.ravel()])))


def _drawn_aucs(negative, positive):
    """Of hosts (n,) and the mock lenses of each (n, k): hosts are drawn again with all that is painted on them."""
    n, rng = len(negative), stream(0, "finder report/intervals")
    return np.array([auc(negative[some], positive[some]) for some in (rng.integers(0, n, n) for _ in range(DRAWS))])


def _interval(value, drawn, least=0.0):
    """Centred: a host drawn twice has more pairs with mock lenses of its own, which are nearly always higher."""
    return np.clip(np.quantile(drawn, [0.025, 0.975]) + value - drawn.mean(), least, 1)


def _auc_and_interval(negative, positive):
    value = auc(negative, positive)
    return value, *_interval(value, _drawn_aucs(negative, positive))


def held_out(negative: NDArray, positive: NDArray, before: tuple[NDArray, NDArray] | None = None) -> pd.DataFrame:
    """Area under the curve, and shares at p = 0.5 and where no host is accepted.

    Of calibrated logits: ``negative`` (n,) of hosts, ``positive`` (n, k) of the mock lenses of each.  With those of the
    finder that training went on from, ``before``, also its area and the change; of both the same hosts are drawn again.
    """
    n, each = positive.shape
    found = _share("held out", "arcs found at p = 0.5", positive.ravel() >= 0, np.repeat(np.arange(n), each))
    area, drawn = auc(negative, positive), _drawn_aucs(negative, positive)
    areas = [_row("held out", "area under the ROC curve", area, *_interval(area, drawn), n)]
    if before is not None:
        older, again = auc(*before), _drawn_aucs(*before)
        areas.append(_row("held out", BEFORE, older, *_interval(older, again), n))
        areas.append(_row("held out", GAIN, area - older, *_interval(area - older, drawn - again, -1.0), n))
    rows = [
        *areas,
        found | {"n": n},
        _share("held out", "galaxies accepted at p = 0.5", negative >= 0),
        # no interval: of hosts that are drawn again none is higher than these, of others some are
        _row("held out", f"arcs found above the highest of the {n} galaxies", np.mean(positive > negative.max()), n=n),
        _row("held out", "galaxies accepted above that", 0, *clopper_pearson(0, n), n),
    ]
    return pd.DataFrame(rows)


def acceptance(scores: dict[str, NDArray]) -> pd.DataFrame:
    """Shares at or above p = 0.5 by class; ``scores`` are logits by name."""
    return pd.DataFrame([_share("acceptance", name, values >= 0) for name, values in scores.items()])


def completeness(
    part: str, of: NDArray, logits: NDArray, host: NDArray, edges: tuple[float, ...], unit: str = ""
) -> pd.DataFrame:
    """Share of N mock lenses found at p = 0.5 in bins of what they are; bins without any are left out.

    ``host`` (N,) is the galaxy that each is painted on; the lower of two ``edges`` is in its bin.
    """
    rows = []
    for low, high in pairwise(edges):
        inside = (of >= low) & (of < high)
        if inside.any():
            name = f"{low:g} to {high:g}{unit}" if np.isfinite(high) else f"{low:g}{unit} or more"
            rows.append(_share(part, name, logits[inside] >= 0, host[inside]))
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
    """How well numbers that are no arcs tell mock lenses (n k, 101, 101) from hosts (n, 101, 101).

    All are as a network sees them; mock lenses of a host lie side by side.
    """
    corner = np.ones(plain.shape[1:], bool)
    corner[12:-12], corner[:, 12:-12] = False, False
    measures = {
        "tenth brightest pixel": lambda x: np.quantile(x, 0.999, axis=(1, 2)),
        "pixels at the maximum": lambda x: (x >= 1).sum((1, 2)),
        "darkest pixel": lambda x: x.min((1, 2)),
        "sky in the corners": lambda x: np.median(x[:, corner], 1),
        "noise in the corners": lambda x: x[:, corner].std(1),
    }
    rows = []
    for name, of in measures.items():
        negative, positive = (of(images).astype(float) for images in (plain, mocks))
        sign = 1 if auc(negative, positive) >= 0.5 else -1  # whichever way they differ
        found = _auc_and_interval(sign * negative, sign * positive.reshape(len(plain), -1))
        rows.append(_row("shortcuts", name, *found, len(plain)))
    return pd.DataFrame(rows)


def flagged(plain: NDArray, mocks: NDArray, negative: NDArray, positive: NDArray, finder: Finder) -> pd.DataFrame:
    """Share of hosts (n, 101, 101) and of mock lenses (k, 101, 101), with their logits, that `quality` would flag."""
    rows, scale = [], finder.preprocessing["pixel_scale"]
    for name, images, logits in (("galaxies", plain, negative), ("galaxies with arcs", mocks, positive)):
        flags = quality.flags(quality.measure(images**2, scale), {"finder": logits}, {"finder": finder})
        host = np.repeat(np.arange(len(plain)), len(images) // len(plain))
        rows.append(_share("flags", name, flags != "", host))
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """The report in sentences."""

    def value(part, what):
        row = table[(table["part"] == part) & table["what"].str.startswith(what)].iloc[0]
        return row["value"], row["low"], row["high"], int(row["n"])

    auc_, low, high, n = value("held out", "area")
    found, accepted = value("held out", "arcs found at"), value("held out", "galaxies accepted at")
    lines = [
        f"On {n} of your galaxies that it has not seen, {found[0]:.0%} of painted arcs are found where "
        f"{accepted[0]:.0%} of the galaxies are accepted ({accepted[1]:.0%} to {accepted[2]:.0%}); area under the "
        f"curve {auc_:.3f} ({low:.3f} to {high:.3f}).",
    ]
    if low <= 0.5:
        lines.append(
            "Not to be trusted: it tells galaxies with arcs from those without no better than chance.  Look at the "
            "galaxies, their scale and PSF, or train longer, with -p chunks 64."
        )
    if (table["what"] == GAIN).any():
        more, least, most, _ = value("held out", GAIN)
        so = ", which may be none" if least <= 0 <= most else ": rank with the finder before" if most < 0 else ""
        lines.append(f"Before it learnt from your galaxies the area was {auc_ - more:.3f}: a change of {more:+.3f} "
                     f"({least:+.3f} to {most:+.3f}){so}.")  # fmt: skip
    if n < 100:
        lines.append(
            f"{n} galaxies say little: acceptance below {clopper_pearson(0, n)[1]:.0%} cannot be told from none."
        )
    gates = table[(table["part"] == "shortcuts") & (table["value"] > GATE) & (table["low"] > 0.5)]
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


def write(folder: Path, found: Measured, heading: str, notes: list[str], command: str) -> Path:
    """Write ``report.csv`` and the page ``index.html`` with its pictures; returns the page.

    ``notes`` say what the finder was made from, a paragraph each; ``command`` ranks a survey by it.
    """
    storage.write_csv(folder / "report.csv", found.table, 5)
    shown = {}
    for name in ("accepted", "missed"):
        shown[name] = []
        for i, (image, p) in enumerate(zip(*getattr(found, name), strict=True), 1):
            picture = f"stamps/{name}_{i:02d}.jpg"
            with storage.atomic(folder / picture) as beside:
                Image.fromarray(_picture(image)).save(beside, "JPEG", quality=90)
            shown[name].append((picture, f"{p:.3f}"))
    parts = [(*PARTS[name], [_shown(row) for row in rows.to_dict("records")])
             for name, rows in found.table.groupby("part", sort=False)]  # fmt: skip
    page = template("finder_report.html.j2").render(
        heading=heading, notes=notes, verdict=verdict(found.table), parts=parts, command=command, **shown
    )
    with storage.atomic(folder / "index.html") as beside:
        beside.write_text(page, "utf-8", errors="backslashreplace")
    return folder / "index.html"


def _shown(row):
    between = f"{row['low']:.3f} to {row['high']:.3f}" if np.isfinite(row["low"]) else ""
    percent = 0 if row["what"] == GAIN else round(100 * min(max(row["value"], 0), 1))
    return row["what"], f"{row['value']:.3f}", between, f"{row['n']:,}", percent


def _picture(image):
    """A stamp as a network sees it, and beside it its faint parts; the first row at the bottom."""
    return np.rint(255 * np.concatenate([image[::-1], faint(image**2)[::-1]], 1)).astype(np.uint8)
