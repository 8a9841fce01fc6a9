"""Finders on real galaxies with and without painted arcs: the same pixels for each, so that they compare in pairs.

    python benchmarks/real_hosts.py [FINDER ...] [--csv FILE] [--keep FILE] [--stamps FILE] [--folder FOLDER]

A FINDER is a name as `rank` takes it (broad, thesis/bce), a file .h5, or several with commas between: a committee,
whose probability is the mean of theirs.  FOLDER (../shared/data) has ``cutouts``, ``native`` and ``ps1_lenses``.

Hosts are the galaxies of ``cutouts`` and the Pan-STARRS1 systems with a bright centre, less `EXCLUDED`.  Each is shown
as it is and with `EACH` arcs, twice: *as rendered*, with the PSF of the sources in training (0.598 arcsec), and
*matched*, widened to the seeing of the host's survey and normalised again, so that alpha is the peak of the arc either
way.  Host and arc are added and normalised as a survey's stamp is.  What finders do with real galaxies is called
acceptance: their labels are unvetted, and a faint lens may be among them.

Beside them: positions with nothing in the middle, real candidates, and the other galaxies of the KiDS field.  No flag
of `rank` is applied: its measures flag all of the first, and no host.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import brentq

from lensdet import parameters, storage
from lensdet.data import bank, lensing, light, mocklens, stamps
from lensdet.data.random import stream
from lensdet.evaluation import ensembles, statistics, thresholds
from lensdet.survey import cutouts, headers, reading

FORMAT = 1  # part of the key of kept stamps
SEED, EACH, DRAWS = 0, 8, 2000
ALPHA = (0.02, 0.30)
BRIGHT, FAINT = 15, 2  # signal-to-noise of the centre in Pan-STARRS1: hosts above, empty stamps below
BLANK = {"kids_field_r": 90, "cfhtls_field_r": 10}  # positions
SCALES = {"kids_field_r": 0.3, "cfhtls_field_r": 0.186}  # arcsec a pixel; the first is inferred, it has no WCS
CLEAR = 3.0  # arcsec around a blank position in which nothing is 4 sigma above the sky
SETS = ("cutouts", "PS1")
VARIANTS = ("as rendered", "matched")
# FWHM in arcsec, by the beginning of the name: medians of Moffat fits to round sources that are not in the centre.
SEEING = {
    "G2": 0.70,  # the mean of KiDS in r: no star is in these five
    "des_": 0.89,  # 9 stars in the stamps
    "pf_": 0.735,  # 28 unsaturated stars in kids_field_r, 2.45 pixels
    "": 1.07,  # Pan-STARRS1: 32 point sources in the 210 systems; 0.93 to 1.25
}
# By eye, in r, in colours, and with an elliptical model of the galaxy subtracted in g, r and i: what may be an arc or
# lensed images, doubtful ones too, since an arc that is there is neither negative nor painted.
EXCLUDED = (
    ("ACSJ235130_60-261459_7", "knot"),
    ("DESJ2308-0212", "arc-like tail"),
    ("J0209_0015", "knot"),
    ("J091617_52-002405_4", "red haze, which may be an arc"),
    ("J124451_35_010643_0", "images, blue"),
    ("J125135_70-020805_1___", "arm or arc, blue"),
    ("J1323_3946", "knot"),
    ("J2231-0849", "crescent"),
    ("SDSSJ1010_3124", "crescent"),
    ("SDSSJ1116_0729", "two knots"),
    ("SDSSJ1550_2020", "knot"),
    ("SDSSJ2309-0039", "knot"),
    ("SL2SJ085446-012137", "arc, blue"),
    ("des_18", "faint arc"),
    ("pf_0695_1181_r20.3", "nothing in the centre: between two galaxies"),
    ("pf_1327_2117_r20.6", "knots along a curve"),
    ("pf_1344_1671_r18.1", "ring"),
    ("pf_1711_1941_r17.8", "nothing in the centre: between two galaxies"),
    ("pf_1844_0661_r20.7", "knots on both sides"),
    # of those with nothing bright in the centre
    ("J1059_4251", "arc"),
    ("HAHJ0957_6907", "galaxy within 2 arcsec"),
    ("J100047_015022", "galaxy within 2 arcsec"),
    ("J114934_222440", "galaxies within 2 arcsec"),
)
QUANTITIES = ("AUROC", "hosts accepted, p = 0.5", "arcs found, p = 0.5", "arcs found, 10 % of hosts accepted",
              "hosts accepted, 75 % of arcs found")  # fmt: skip


def stem(name: str) -> str:
    """A system's name, without what says that it is a file of the r band."""
    return name.split(".fits")[0].removesuffix("_r")


def seeing(name: str) -> float:
    """FWHM (arcsec) of a host's survey by its name; see `SEEING`."""
    return next(fwhm for beginning, fwhm in SEEING.items() if name.startswith(beginning))


@cache
def widening(fwhm: float) -> float:
    """Sigma in pixels of the Gaussian that widens the PSF of rendered sources to a FWHM (arcsec); 0 below theirs."""
    if fwhm <= lensing.SOURCE_SEEING:
        return 0.0
    finer = 8
    psf = light.moffat_psf(lensing.SOURCE_SEEING * finer, size=401)

    def too_wide(sigma):
        profile = gaussian_filter(psf, sigma * finer)[200, 200:]
        return 2 * np.interp(-profile[0] / 2, -profile, np.arange(201)) * light.SCALE / finer - fwhm

    return float(brentq(too_wide, 1e-3, fwhm / light.SCALE, xtol=1e-4))


def arcs(hosts: NDArray, names: Sequence[str], sources: NDArray, alpha: NDArray, matched: bool) -> NDArray:
    """Mock lenses (n `EACH`, 101, 101) of hosts (n, 101, 101), normalised, those of a host side by side."""
    if matched:
        sigmas = np.repeat([widening(seeing(name)) for name in names], EACH)
        sources = np.array([gaussian_filter(x, s, mode="constant") for x, s in zip(sources, sigmas, strict=True)])
    repeated = np.repeat(stamps.normalise(hosts), EACH, axis=0)
    return stamps.normalise(mocklens.added(repeated, stamps.normalise(sources), alpha))


def quantities(labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None) -> NDArray:
    """`QUANTITIES` of arcs (label 1) and hosts (0), along the last axis; of each of B resamples by weights (B, n).

    At a stated share the highest threshold that finds it, or the lowest that accepts no more.
    """
    points = thresholds.curve(labels, logits, weights)
    found, accepted = points.tp / points.tp[..., -1:], points.fp / points.fp[..., -1:]
    sure = np.sum(points.threshold >= 0) - 1
    at_tenth = np.sum(accepted <= 0.1 + 1e-9, axis=-1) - 1
    at_most = np.argmax(found >= 0.75 - 1e-9, axis=-1)

    def at(values, index):
        return np.take_along_axis(values, np.asarray(index)[..., None], axis=-1)[..., 0]

    return np.stack([thresholds.auc(points), accepted[..., sure], found[..., sure], at(found, at_tenth),
                     at(accepted, at_most)], axis=-1)  # fmt: skip


def above(logits: ArrayLike, hosts: ArrayLike) -> NDArray:
    """Share of hosts that have a higher logit than each stamp; of the same logit half."""
    logits, hosts = np.asarray(logits), np.sort(hosts)
    return 1 - (np.searchsorted(hosts, logits, "left") + np.searchsorted(hosts, logits, "right")) / 2 / len(hosts)


def read(folder: Path, pixel_scale: float | None = None) -> dict[str, NDArray]:
    """Stamps of a folder as `rank` reads them, by name; what it refuses is left out."""
    batches = [reading.read(unit) for unit in cutouts.plan_folder(folder, pixel_scale=pixel_scale).units]
    return {stem(n): x for batch in batches for n, x in zip(batch.ids, batch.pixels, strict=True)}


def cut(image: NDArray, places: Iterable[tuple[str, float, float]], scale: float) -> dict[str, NDArray]:
    """Stamps by name around pixels (x, y) of an image, resampled as `rank` reads stamps of that scale (arcsec)."""
    half = int(np.ceil(stamps.SHAPE[0] * light.SCALE / scale / 2)) + 2
    with tempfile.TemporaryDirectory() as beside:
        for name, x, y in places:
            row, column = round(y), round(x)
            window = image[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            if window.shape == (2 * half + 1,) * 2:
                fits.writeto(Path(beside) / f"{name}.fits", np.float32(window))
        return read(Path(beside), scale)


def blank_places(image: NDArray, n: int, scale: float, key: int) -> list[tuple[str, int, int]]:
    """Positions (name, x, y) with nothing within `CLEAR`, drawn in an image."""
    smooth = gaussian_filter(image.astype(float), 1)
    sky = np.median(smooth)
    bright = smooth > sky + 4 * 1.4826 * np.median(np.abs(smooth - sky))
    radius = int(np.ceil(CLEAR / scale))
    rows, columns = np.indices((2 * radius + 1,) * 2) - radius
    near = maximum_filter(bright, footprint=np.hypot(rows, columns) <= radius)
    edge = int(stamps.SHAPE[0] * light.SCALE / scale / 2) + 4
    near[:edge] = near[-edge:] = near[:, :edge] = near[:, -edge:] = True
    free = np.argwhere(~near)
    chosen = stream(SEED, "real hosts/blank", key).choice(len(free), min(n, len(free)), replace=False)
    return [(f"{x:04d}_{y:04d}", x, y) for y, x in free[chosen].tolist()]


def candidates(folder: Path) -> dict[str, dict[str, NDArray]]:
    """Real candidates by survey; those from colour pictures with the noise that their clipped sky lacks."""
    found, manifest = read(folder / "lens_candidates", 0.2), pd.read_csv(folder / "manifest.csv")
    sigma = {stem(Path(f).name): s for f, s in zip(manifest["file"], manifest["sky_sigma"], strict=True)}
    groups = {"sw": "candidates, Space Warps", "ndwfs": "candidates, NDWFS", "cfhtls": "candidates, CFHTLS"}
    sorted_by = {group: {} for group in groups.values()}
    for k, (name, pixels) in enumerate(sorted(found.items())):
        kind = name.split("_")[0]
        noise = stream(SEED, "real hosts/noise", k).normal(0, sigma[name], pixels.shape) if kind == "sw" else 0
        sorted_by[groups[kind]][name] = np.float32(pixels + noise)
    return sorted_by


def groups(folder: Path, few: bool = False) -> dict[str, dict[str, NDArray]]:
    """Stamps by group and name: the two `SETS` of hosts (excluded ones too, which have ids), then the others."""
    known = pd.read_csv(folder / "ps1_lenses" / "catalogue.csv").set_index("name")["centre_snr"]
    systems = read(folder / "ps1_lenses")
    galaxies, out = read(folder / "cutouts" / "galaxies", 0.2), {name for name, _ in EXCLUDED}
    found = {"cutouts": galaxies, "PS1": {n: x for n, x in systems.items() if known[n] > BRIGHT}}
    found["empty, PS1"] = {n: x for n, x in systems.items() if known[n] < FAINT and n not in out}
    for k, (field, n) in enumerate(BLANK.items()):
        image = fits.getdata(folder / "native" / f"{field}.fits", 1 if field.startswith("kids") else 0)
        cuts = cut(image, blank_places(image, n, SCALES[field], k), SCALES[field])
        found[f"blank sky, {field.split('_')[0]}"] = cuts
        if field.startswith("kids"):
            objects = np.loadtxt(folder / "native" / f"{field}_galaxies.txt")
            names = [f"{int(x):04d}_{int(y):04d}" for x, y in objects[:, :2]]
            hosts = {"_".join(name.split("_")[1:3]) for name in galaxies if name.startswith("pf_")}
            places = [(name, *xy) for name, xy in zip(names, objects[:, :2], strict=True) if name not in hosts]
            others = cut(image, places, SCALES[field])
    found |= {"other galaxies, KiDS field": others, **candidates(folder / "cutouts")}
    return {name: dict(sorted(g.items())[: 4 if few else None]) for name, g in found.items()}


def make(folder: Path, few: bool = False) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """All stamps: a row each of ``group`` ("host", an arc of `VARIANTS`, or another), ``set`` and ``name``; and pixels.

    Pixels are normalised, (n, 101, 101).  The i-th arc of all hosts, excluded ones counted, has source and alpha of
    that id, so that another host left out changes no other stamp.
    """
    p, out = parameters.resolve({"profile": "lite"}), {name for name, _ in EXCLUDED}
    found, rows, pixels, first = groups(folder, few), [], [], 0
    for group, members in found.items():
        names = [n for n in members if n not in out or group not in SETS]
        if not names:
            continue
        ids = [first + EACH * i + j for i, n in enumerate(members) if n in names for j in range(EACH)]
        hosts = np.array([members[n] for n in names])
        pixels.append(stamps.normalise(hosts))
        rows += [("host" if group in SETS else group, group, n) for n in names]
        if group not in SETS:
            continue
        first += EACH * len(members)
        drawn = Parallel(-1)(delayed(lensing.render_source)(bank.FIRST_SHIFTED + i, p) for i in ids)
        sources = np.array([image for image, _ in drawn])
        alpha = np.array([stream(SEED, "real hosts/alpha", i).uniform(*ALPHA) for i in ids])
        for variant in VARIANTS:
            pixels.append(arcs(hosts, names, sources, alpha, variant == "matched"))
            rows += [(variant, group, n) for n in names for _ in range(EACH)]
    return pd.DataFrame(rows, columns=["group", "set", "name"]), np.concatenate(pixels).astype(np.float32)


def made_or_kept(folder: Path, few: bool, path: Path | None) -> tuple[pd.DataFrame, NDArray]:
    """`make`, or what it left in a file with the same settings; ValueError where that has others."""
    key = storage.digest({"format": FORMAT, "excluded": [n for n, _ in EXCLUDED], "few": few, "seeing": SEEING})
    if path and path.is_file():
        with np.load(path) as file:
            if str(file["key"]) != key:
                raise ValueError(f"{path}: stamps of other settings; remove it, or give another --stamps")
            return pd.DataFrame(json.loads(str(file["rows"]))), file["pixels"]
    rows, pixels = make(folder, few)
    if path:
        with storage.atomic(path) as beside, open(beside, "wb") as file:
            np.savez(file, key=key, rows=json.dumps(rows.to_dict("list")), pixels=pixels)
    return rows, pixels


def score(asked: Sequence[str], pixels: NDArray) -> dict[str, NDArray[np.float64]]:
    """Calibrated logits of normalised stamps by each finder or committee that is asked for."""
    from lensdet.network import finders  # TensorFlow, which the rest does not need

    images, kept, expected = mocklens.stretched(pixels)[..., None], {}, headers.Wanted()
    for name in dict.fromkeys(one for some in asked for one in some.split(",")):
        finder = finders.load(name)
        takes = finder.preprocessing["pixel_scale"], finder.preprocessing["band"]
        if takes != (expected.pixel_scale, expected.band):
            raise ValueError(f"{name}: takes {takes[0]} arcsec a pixel in {takes[1]}; these stamps are 0.2 in r")
        kept[name] = finder.logits(images).astype(float) / finder.temperature
    return {some: ensembles.mean(np.stack([kept[one] for one in some.split(",")], -1)) for some in asked}


def of_hosts(rows: pd.DataFrame, logits: dict[str, NDArray], draws: int = DRAWS) -> pd.DataFrame:
    """`QUANTITIES` of each finder by set and variant, and each pair's difference.

    Returns
    -------
    pandas.DataFrame
        ``finder`` ("b - a" for a difference), ``arcs`` (the variant), ``set``, ``quantity``, ``value``, ``low``,
        ``high``, ``hosts`` and ``stamps``.  Intervals of 95 %: hosts are drawn again within each set, with all their
        arcs, the same for all finders; acceptance at p = 0.5 has that of Clopper and Pearson.
    """
    found = []
    for variant, chosen in itertools.product(VARIANTS, (*SETS, "both")):
        inside = rows["group"].isin(["host", variant]) & ((rows["set"] == chosen) | (chosen == "both"))
        some = rows[inside]
        labels = (some["group"] == variant).to_numpy(int)
        hosts = pd.factorize(some["name"])[0]
        n = hosts.max() + 1
        weights = statistics.resample(hosts, np.full(len(some), -1), some["set"].to_numpy(str), draws, SEED)
        one = {name: quantities(labels, x[inside]) for name, x in logits.items()}
        again = {name: quantities(labels, x[inside], weights) for name, x in logits.items()}
        for name, values in one.items():
            low, high = np.quantile(again[name], [0.025, 0.975], axis=0)
            low[1], high[1] = statistics.clopper_pearson(values[1] * n, n)
            found += [
                (name, variant, chosen, *q, n, len(some)) for q in zip(QUANTITIES, values, low, high, strict=True)
            ]
        for a, b in itertools.combinations(one, 2):
            low, high = np.quantile(again[b] - again[a], [0.025, 0.975], axis=0)
            found += [(f"{b} - {a}", variant, chosen, *q, n, len(some))
                      for q in zip(QUANTITIES, one[b] - one[a], low, high, strict=True)]  # fmt: skip
    return pd.DataFrame(found, columns=["finder", "arcs", "set", "quantity", "value", "low", "high", "hosts", "stamps"])


def of_others(rows: pd.DataFrame, logits: dict[str, NDArray], draws: int = DRAWS) -> pd.DataFrame:
    """What finders say of other stamps, by group: columns as `of_hosts`, without ``arcs`` and ``hosts``.

    Shares have intervals of Clopper and Pearson, for thresholds as they are; the rank among hosts (the median share
    that is higher) one over stamps and hosts drawn again.
    """
    found, hosts = [], (rows["group"] == "host").to_numpy()
    for (group, some), (name, x) in itertools.product(rows.groupby("set", sort=False), logits.items()):
        if group in SETS:
            continue
        own, of_all, rng = x[some.index], x[hosts], stream(SEED, "real hosts/intervals")
        n = len(own)
        limits = {"accepted, p = 0.5": 0.0, "above the median arc": np.median(x[rows["group"] == VARIANTS[1]]),
                  "above 90 % of hosts": np.quantile(of_all, 0.9)}  # fmt: skip
        for quantity, limit in limits.items():
            k = int(np.sum(own >= limit))
            found.append((name, group, quantity, k / n, *statistics.clopper_pearson(k, n), n))
        drawn = [np.median(above(rng.choice(own, n), rng.choice(of_all, len(of_all)))) for _ in range(draws)]
        middle = np.median(above(own, of_all))
        found.append((name, group, "hosts that are higher", middle, *np.quantile(drawn, [0.025, 0.975]), n))
    return pd.DataFrame(found, columns=["finder", "set", "quantity", "value", "low", "high", "stamps"])


def markdown(table: pd.DataFrame) -> str:
    """A table of `of_hosts` or `of_others` for reading: a column a quantity."""
    said = [f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in table[["value", "low", "high"]].to_numpy()]
    keys = [c for c in ("finder", "arcs", "set", "hosts", "stamps") if c in table]
    wide = table.assign(said=said).set_index([*keys, "quantity"])["said"].unstack("quantity", sort=False)
    return wide.reset_index().to_markdown(index=False, disable_numparse=True)


def main():
    """Make or read the stamps, score them, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "finders", nargs="*", default=["thesis/bce", "thesis/fbeta"], help="default: those of the thesis"
    )
    parser.add_argument("--folder", type=Path, default=storage.root_or_here().parent / "shared" / "data")
    parser.add_argument("--csv", type=Path, help="the tables, a row a number")
    parser.add_argument("--keep", type=Path, help="calibrated logits of all stamps as CSV")
    parser.add_argument("--stamps", type=Path, help="file .npz outside the repository that keeps the stamps: faster")
    parser.add_argument("--profile", default="", help="smoke: as little as shows that it runs")
    options = parser.parse_args()
    if not (options.folder / "ps1_lenses").is_dir():
        print(f"{options.folder}: no such stamps here, nothing measured; give their --folder")
        return
    smoke = options.profile == "smoke"
    rows, pixels = made_or_kept(options.folder, smoke, options.stamps)
    logits = score(list(dict.fromkeys(options.finders)), pixels)
    # files by their name alone: tables of results have no paths
    logits = {",".join(Path(one).name.removesuffix(".h5") if one.endswith(".h5") else one for one in some.split(",")): x
              for some, x in logits.items()}  # fmt: skip
    if options.keep:
        with storage.atomic(options.keep) as beside:
            rows.assign(**logits).to_csv(beside, index=False)
    tables = [table(rows, logits, 20 if smoke else DRAWS) for table in (of_hosts, of_others)]
    if options.csv:
        with storage.atomic(options.csv) as beside:
            pd.concat(tables).to_csv(beside, index=False)
    print("\n\n".join(map(markdown, tables)))


if __name__ == "__main__":
    main()
