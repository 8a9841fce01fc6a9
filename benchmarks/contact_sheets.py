"""Contact sheets of the broad survey: each class of contaminant in a row, galaxies and mock lenses, and real stamps.

Prints how long a stamp takes, and writes the sheet where a file is named.  Grey is the square root of a stamp between
its darkest and brightest pixel; a pixel of the sheet is one of a stamp.

    python benchmarks/contact_sheets.py SHEET.png --kinds spiral ring --columns 12 --rows 4 --scale 0.263
"""

import argparse
import time
from pathlib import Path
from unittest import mock

import numpy as np
from astropy.io import fits
from PIL import Image, ImageDraw

from lensdet.data import broad, contaminants, lensing, stamps
from lensdet.parameters import Parameters, resolve
from lensdet.storage import atomic

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
STEP, LABEL = 104, 84  # pixels


def of_kind(kind: str, number: int, p: Parameters) -> list[np.ndarray]:
    """Stamps of a kind of contaminant, those with the lowest ids; or of "lrg" and "mock lens" (alpha 0.02 to 0.3)."""
    if kind == "mock lens":  # the source has a PSF of its own
        hosts = map(stamps.normalise, of_kind("lrg", number, p))
        sources = (stamps.normalise(lensing.render_source(i, p)[0]) for i in range(number))
        return [host + a * s for host, a, s in zip(hosts, np.geomspace(0.02, 0.3, number), sources, strict=True)]
    if kind == "lrg":
        return [broad.render("lrg", i, p)[0] for i in range(number)]
    with mock.patch.dict(contaminants.KINDS, {kind: (1.0, contaminants.KINDS[kind][1])}, clear=True):
        return [broad.render("contaminant", i, p)[0] for i in range(number)]


def real(pattern: str, number: int) -> list[np.ndarray]:
    """The middle of real stamps, as many as there are, evenly from all; none where the folder is absent."""
    files, found = sorted(REAL.glob(pattern)), []
    for path in files[:: max(len(files) // number, 1)][:number]:
        pixels = fits.getdata(path).astype(float)
        pixels = pixels[tuple(slice((n - 101) // 2, (n + 101) // 2) for n in pixels.shape)]
        found.append(np.where(np.isfinite(pixels), pixels, np.nanmedian(pixels)))
    return found


def sheet(rows: list[tuple[str, list[np.ndarray]]], columns: int) -> Image.Image:
    """Rows of stamps with a name beside the first, broken after so many columns."""
    lines = [("" if i else name, s[i : i + columns]) for name, s in rows for i in range(0, len(s), columns)]
    image = Image.new("L", (LABEL + columns * STEP, len(lines) * STEP))
    for row, (name, line) in enumerate(lines):
        ImageDraw.Draw(image).text((4, row * STEP + 45), name, fill=255)
        for column, pixels in enumerate(line):
            grey = Image.fromarray(np.uint8(255 * np.sqrt(stamps.normalise(pixels)))[::-1])
            image.paste(grey, (LABEL + column * STEP, row * STEP))
    return image


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = ["lrg", "mock lens", *contaminants.KINDS]
    parser.add_argument("png", type=Path, nargs="?")
    parser.add_argument("--profile", default="quick", help="smoke: two stamps of each, to see that it runs")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, metavar="KIND", help=", ".join(kinds))
    for name, value, meaning in (("columns", 12, "stamps"), ("rows", 1, "of a kind"), ("scale", 0.2, "arcsec a pixel")):
        parser.add_argument(f"--{name}", type=type(value), default=value, help=meaning)
    args = parser.parse_args()
    p = resolve({"simulation": "broad", "simulated_scale": args.scale})
    n, rows = (2 if args.profile == "smoke" else args.columns * args.rows), []
    for kind in args.kinds:
        start = time.perf_counter()
        rows.append((kind, of_kind(kind, n, p)))
        print(f"{kind:12} {1000 * (time.perf_counter() - start) / n:6.0f} ms a stamp")
    folders = {"KiDS": "cutouts/galaxies/pf*", "DES": "cutouts/galaxies/des*", "PS1": "ps1_lenses/*_r.*"}
    rows += [(f"real {name}", real(pattern, n)) for name, pattern in folders.items()]
    if args.png:
        with atomic(args.png) as part:
            sheet(rows, args.columns).save(part, "PNG")
