"""Flags of `lensdet.survey.quality` on real pixels and on noise: who is flagged, who passes, where measures lie.

    python benchmarks/quality.py [FOLDER] [--finders thesis/bce,thesis/fbeta] [--profile lite]

FOLDER has ``cutouts/galaxies``, ``cutouts/lens_candidates`` (101 x 101 pixels of 0.2 arcsec),
``native/cfhtls_field_r.fits`` and ``ps1_lenses`` with its ``catalogue.csv``; what is not there is left out, and without
a folder noise and simulated stamps alone are measured.  A stamp is without a source where no pixel within 1.9 arcsec of
the centre is 6 sigma above the sky: that is by no measure of the flags.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.stats import mad_std
from astropy.wcs import WCS, FITSFixedWarning
from scipy.ndimage import gaussian_filter, zoom

from lensdet import parameters
from lensdet.chapters.candidates import domain_shift
from lensdet.data import bank, mocklens, stamps
from lensdet.data.random import stream
from lensdet.survey import cutouts, quality, ranking, reading

FIRST = 50_000_000  # ids of nobody else
EACH = 8  # mock lenses of a real galaxy
RADIUS = np.hypot(*(np.indices(stamps.SHAPE) - 50)) * 0.2  # arcsec
SIZES = {"smoke": (8, 8), "lite": (128, 800)}  # stamps of a kind of noise; simulated ones
RNG = stream(0, "quality")


def cut(tiles, positions):
    """Stamps at some positions, by id, of FITS files: a dict of arrays."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "positions.csv"
        pd.DataFrame(positions, columns=["id", "ra", "dec"]).to_csv(catalogue, index=False)
        units = cutouts.plan_tiles(catalogue, tiles).units
        batches = [reading.read(unit) for unit in units]
    return {name: pixels for batch in batches for name, pixels in zip(batch.ids, batch.pixels, strict=True)}


def sky(path, x, y):
    """RA and Dec of pixels of a FITS file."""
    found = WCS(fits.getheader(path)).pixel_to_world(x, y).icrs
    return zip(np.atleast_1d(found.ra.deg), np.atleast_1d(found.dec.deg), strict=True)


def pan_starrs(folder):
    """Stamps around the middle of each file in r, and the signal-to-noise of the centre that the catalogue has."""
    found, known = {}, pd.read_csv(folder / "catalogue.csv").set_index("name")["centre_snr"]
    for name in known.index:
        path = folder / f"{name}_r.fits.gz"
        middle = [(fits.getval(path, f"NAXIS{k}") - 1) / 2 for k in (1, 2)]
        found |= cut([path], [(name, *place) for place in sky(path, *middle)])
    return np.array(list(found.values())), known[list(found)].to_numpy()


def degraded(pixels, snr):
    """Stamps with noise added, so that the peak of the centre is ``snr`` times that noise."""
    peak = pixels[:, RADIUS <= 1].max(1) - np.median(pixels, (1, 2))
    return pixels + RNG.standard_normal(pixels.shape) * (peak / snr)[:, None, None]


def painted(hosts, sources, alpha):
    """`EACH` mock lenses of each host, in the host's order."""
    n = len(hosts) * EACH
    places = np.arange(n) % len(sources)
    return mocklens.added(np.repeat(stamps.normalise(hosts), EACH, axis=0), sources[places], alpha[places])


def groups(folder, p, noise, simulated):
    """Yield the name of each group of stamps, and its pixels (n, 101, 101)."""
    white = RNG.standard_normal((noise, *stamps.SHAPE))
    yield "white noise", white
    for sigma in (1, 2):
        yield f"noise smoothed by {sigma} pixels", gaussian_filter(white, (0, sigma, sigma))
    yield "noise resampled", np.array([zoom(x[:68, :68], 1.5, order=3)[:101, :101] for x in white])
    drawn = {cls: np.array([bank.simulated(cls, FIRST + i, p)[0] for i in range(simulated)]) for cls in bank.CLASSES}
    yield from (("simulated LRGs", drawn["lrg"]), ("simulated contaminants", drawn["contaminant"]))
    sources, alpha = stamps.normalise(drawn["source"]), RNG.uniform(*p.alpha, simulated)
    yield "mock lenses", mocklens.added(stamps.normalise(drawn["lrg"]), sources, alpha)
    if folder and (folder / "cutouts").is_dir():
        galaxies, candidates, pictures = domain_shift.read(folder / "cutouts")
        yield from (("real galaxies", galaxies), ("real candidates", candidates))
        yield "candidates from colour pictures", pictures
        for snr in (3, 5, 7, 12, 20):
            yield f"real galaxies, peak S/N {snr}", degraded(galaxies, snr)
        yield "arcs on real galaxies", painted(galaxies, sources, alpha)
    if folder and (field := folder / "native" / "cfhtls_field_r.fits").is_file():
        places = sky(field, *RNG.uniform(55, 384, (2, 400)))
        found = cut([field], [(f"p{i}", *place) for i, place in enumerate(places)])
        yield "CFHTLS, random positions", np.array(list(found.values()))
    if folder and (folder / "ps1_lenses").is_dir():
        pixels, snr = pan_starrs(folder / "ps1_lenses")
        yield from (("Pan-STARRS1, S/N < 5", pixels[snr < 5]), ("Pan-STARRS1, S/N > 15", pixels[snr > 15]))
        yield "arcs on Pan-STARRS1, S/N > 15", painted(pixels[snr > 15], sources, alpha)


def row(pixels, finders):
    """What is said of a group: counts, and the measures by rows of text."""
    pixels = pixels.astype(np.float32)
    start = time.process_time()
    measures = quality.measure(pixels)
    seconds = time.process_time() - start
    logits = {name: finder.score(pixels) for name, finder in finders.items()}
    flags = quality.flags(measures, logits, finders)
    high = pixels[:, RADIUS <= 1.9].max(1) - np.median(pixels, (1, 2))
    without = high < 6 * mad_std(pixels, axis=(1, 2))
    sure = ranking.calibrated(logits, finders)[ranking.ENSEMBLE] > 0
    said = {"n": len(pixels), "unflagged": int((flags == "").sum()), "without a source": int(without.sum()),
            "of them unflagged": int((without & (flags == "")).sum()), "p > 0.5": int(sure.sum()),
            "of these unflagged": int((sure & (flags == "")).sum())}  # fmt: skip
    counts = pd.Series(flags[flags != ""]).value_counts()
    said["flags"] = ", ".join(f"{k} {reason}" for reason, k in counts.items())
    return said, measures.agg(["min", "median", "max"]).T, 1e3 * seconds / len(pixels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--finders", default="broad", help="whose limits and logits, as for `lensdet rank`")
    parser.add_argument("--profile", default="lite", choices=SIZES, help="smoke: as little as shows that it runs")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FITSFixedWarning)
    finders = ranking.load_finders(options.finders.split(","))
    p = parameters.resolve({"profile": options.profile, "workers": 1})
    said, spans, times = {}, {}, []
    for name, pixels in groups(options.folder, p, *SIZES[options.profile]):
        if len(pixels):
            said[name], spans[name], seconds = row(pixels, finders)
            times.append(seconds)
    print(pd.DataFrame(said).T.to_markdown(), "\n")
    measures = {name: [f"{a:.3g} {b:.3g} {c:.3g}" for a, b, c in span.to_numpy()] for name, span in spans.items()}
    print("Lowest, median and highest of each measure:\n")
    print(pd.DataFrame(measures, index=next(iter(spans.values())).index).T.to_markdown(), "\n")
    print(f"measuring: {np.median(times):.2f} ms a stamp")


if __name__ == "__main__":
    main()
