"""Contact sheets of the broad survey: each class of contaminant in a row, galaxies and mock lenses, and real stamps.

It prints how long a stamp of each takes, and with a name of a file writes the sheet.  Grey is the square root of a
stamp between its darkest and brightest pixel; a pixel of the sheet is one of a stamp.

    python benchmarks/contact_sheets.py SHEET.png
    python benchmarks/contact_sheets.py SHEET.png --kinds spiral,ring --columns 12 --rows 4 --scale 0.263
"""

import argparse
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from PIL import Image, ImageDraw

from lensdet.data import broad, contaminants, lensing, stamps
from lensdet.parameters import Parameters, resolve
from lensdet.storage import atomic

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
GAP, LABEL = 3, 84


def of_kind(kind: str, number: int, parameters: Parameters) -> list[np.ndarray]:
    """Stamps of one kind of contaminant, those with the lowest ids; or of "lrg" and "mock lens" (alpha 0.02 to 0.3)."""
    if kind == "lrg":
        return [broad.render("lrg", i, parameters)[0] for i in range(number)]
    if kind == "mock lens":
        sources, alpha = sources_of(number, parameters), np.geomspace(0.02, 0.3, number)
        hosts = [stamps.normalise(host) for host in of_kind("lrg", number, parameters)]
        return [host + a * source for host, a, source in zip(hosts, alpha, sources, strict=True)]
    shares = dict(contaminants.KINDS)
    contaminants.KINDS.update({name: float(name == kind) for name in shares})
    try:
        return [broad.render("contaminant", i, parameters)[0] for i in range(number)]
    finally:
        contaminants.KINDS.update(shares)


def sources_of(number: int, parameters: Parameters) -> list[np.ndarray]:
    """Lensed sources, normalised; their PSFs are not those of the hosts."""
    return [stamps.normalise(lensing.render_source(i, parameters)[0]) for i in range(number)]


def real(pattern: str, number: int) -> list[np.ndarray]:
    """The middle of real stamps, as many as there are, evenly from all; none where the folder is absent."""
    files = sorted(REAL.glob(pattern))
    found = []
    for path in files[:: max(len(files) // number, 1)][:number]:
        with fits.open(path) as hdus:
            pixels = next(hdu.data for hdu in hdus if hdu.data is not None).astype(float)
        row, column = ((n - 101) // 2 for n in pixels.shape)
        pixels = pixels[row : row + 101, column : column + 101]
        found.append(np.where(np.isfinite(pixels), pixels, np.nanmedian(pixels)))
    return found


def sheet(rows: list[tuple[str, list[np.ndarray]]], columns: int) -> Image.Image:
    """Rows of stamps with a name beside the first, broken after so many columns."""
    lines = [(name if i == 0 else "", s[i : i + columns]) for name, s in rows for i in range(0, len(s), columns)]
    step = 101 + GAP
    image = Image.new("L", (LABEL + columns * step, len(lines) * step))
    for row, (name, line) in enumerate(lines):
        ImageDraw.Draw(image).text((4, row * step + 45), name, fill=255)
        for column, pixels in enumerate(line):
            grey = np.uint8(255 * np.sqrt(stamps.normalise(pixels)))
            image.paste(Image.fromarray(grey[::-1]), (LABEL + column * step, row * step))
    return image


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("png", type=Path, nargs="?")
    parser.add_argument("--profile", default="quick", help="smoke: two stamps of each, to see that it runs")
    parser.add_argument(
        "--kinds", default=",".join(["lrg", "mock lens", *contaminants.KINDS]), help="names, with commas"
    )
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--rows", type=int, default=1, help="of each kind")
    parser.add_argument("--scale", type=float, default=0.2, help="arcsec a pixel")
    args = parser.parse_args()
    p = resolve({"simulation": "broad", "simulated_scale": args.scale})
    n, rows = 2 if args.profile == "smoke" else args.columns * args.rows, []
    for kind in args.kinds.split(","):
        start = time.perf_counter()
        rows.append((kind, of_kind(kind, n, p)))
        print(f"{kind:12} {1000 * (time.perf_counter() - start) / n:6.0f} ms a stamp")
    folders = {"KiDS": "cutouts/galaxies/pf*", "DES": "cutouts/galaxies/des*", "PS1": "ps1_lenses/*_r.*"}
    rows += [(f"real {name}", real(pattern, n)) for name, pattern in folders.items()]
    if args.png:
        with atomic(args.png) as part:
            sheet(rows, args.columns).save(part, "PNG")
