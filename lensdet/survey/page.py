"""The page on which an astronomer looks through ranked candidates: HTML and pictures that need no network.

No script, and a content policy that lets the page load its own pictures and nothing else.  What comes from catalogues
and file names is text, never markup or path.
"""

import base64
import hashlib
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from tqdm import tqdm

from lensdet import storage
from lensdet.data import stamps

SIZE = stamps.SHAPE[0]
PITCH = 104  # pixels from panel to panel: JPEG has blocks of 8, so that no block has parts of two panels
SOFTENING, LOWEST, LEAST_TOP = 3, -2, 10  # of the second stretch, in units of the sky's noise
CLIPPED = 99  # per cent of the pixels below its white
TINT = np.array([1.0, 0.6, 0.0])  # orange on grey: told apart by every kind of colour vision
QUALITY = 90  # of JPEG; at 80 the noise of the sky turns into blocks
EVERY = 100  # candidates from one jump link to the next
BLOCK = 20  # candidates that a browser lays out together: of 5000 one by one it has to look at each, every frame
MADE_BY = "lensdet.survey.page"  # in the head of index.html: what says so may be replaced
_PICTURE = re.compile(r"\d{5,}\.jpg")


def over_noise(pixels: NDArray) -> tuple[NDArray, float]:
    """Pixels (rows, columns) above the sky in units of its noise, and that noise: median and median absolute deviation.

    The noise is in the unit of the pixels; 0 where all are alike.
    """
    above = pixels - np.median(pixels)
    away = np.abs(above)
    noise = 1.4826 * np.median(away)
    if not noise and away.any():  # more than half of the pixels are filled, or clipped
        noise = 1.4826 * np.median(away[away > 0])
    return above / (noise or 1), noise


def faint(pixels: NDArray) -> NDArray:
    """Second stretch of a stamp: asinh, linear within some of the sky's noise, with the bright core clipped.

    From pixels (101, 101) in any linear unit to [0, 1].  White is the 99th percentile, or 10 times the noise where that
    is more (Lupton et al. 2004 for the stretch).
    """
    above, _ = over_noise(pixels)
    low, high = np.arcsinh(np.array([LOWEST, max(np.percentile(above, CLIPPED), LEAST_TOP)]) / SOFTENING)
    return np.clip((np.arcsinh(above / SOFTENING) - low) / (high - low), 0, 1)


def smooth(heat: ArrayLike) -> NDArray:
    """A heat map (u, v) as large as a stamp, its cells spread evenly over it, between them bicubic; in [0, 1]."""
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.clip(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)), 0, 1)


def strip(pixels: NDArray, heat: NDArray) -> NDArray[np.uint8]:
    """The picture of a candidate: stamp as the network sees it, stamp with its faint parts, heat over the stamp.

    Parameters
    ----------
    pixels : array (101, 101), in [0, 1]
        Normalised, not stretched.
    heat : array (u, v), in [0, 1]
        All 0 where the map is empty.

    Returns
    -------
    uint8 array (101, 309, 3)
        Three panels, 3 black pixels between them; the first row of a stamp is at the bottom, as in figures.
    """
    stretched, weak = np.sqrt(pixels), faint(pixels)
    warm = smooth(heat)[..., None]
    shown = weak[..., None] * (1 - 0.5 * warm) + 0.5 * warm * TINT  # the arc shows through where it is hottest
    picture = np.zeros((SIZE, 2 * PITCH + SIZE, 3))
    for i, panel in enumerate((stretched[..., None], weak[..., None], shown)):
        picture[:, i * PITCH : i * PITCH + SIZE] = panel[::-1]
    return np.rint(255 * picture).astype(np.uint8)


def links(reference: object) -> list[tuple[str, str]]:
    """Words of a reference as (text, URL) each, the URL "" for what is no http or https address."""
    found = []
    for word in str(reference).split():
        try:
            url = urlsplit(word)
            good = url.scheme in ("http", "https") and bool(url.hostname) and word.isprintable()
        except ValueError:
            good = False
        found.append((word.split("://", 1)[1], word) if good else (word, ""))
    return found


def digits(probability: float) -> str:
    """A probability in at least three decimals, and two digits of its distance from 0 or 1, at most eight decimals."""
    if not math.isfinite(probability):
        return "–"
    nearest = min(probability, 1 - probability)
    return (
        f"{probability:.{min(8, max(3, 1 - math.floor(math.log10(nearest))))}f}" if nearest > 0 else f"{probability:g}"
    )


def write(
    folder: str | Path,
    rows: Iterable[dict[str, Any]],
    pictures: Iterable[tuple[NDArray, NDArray]],
    models: Sequence[str],
    heading: str,
    notes: Sequence[str] = (),
    summary: Sequence[tuple[str, str]] = (),
    progress: bool = True,
    scale: float = 0.2,
) -> Path:
    """Write the page, ``index.html`` (the path that is returned), and ``stamps/00001.jpg`` and so on, named by rank.

    An older page there is replaced when all pictures of the new one are drawn; other files stay.  Memory holds a batch
    of pictures.

    Parameters
    ----------
    folder
    rows : list of dict
        In the order of ``rank`` (int); ``id`` (str); ``ra`` and ``dec`` (degrees, NaN where not known); ``score`` and
        ``scores`` (probability, and dict of them by model); ``filled`` (int, pixels); perhaps ``flag`` (str, what about
        it is unlike the training set); ``match`` (str), ``separation`` (arcsec) and ``reference`` (str, words and URLs)
        of a published lens or candidate, or "", NaN, "".
    pictures : iterable of (float32 array (k, 101, 101), float32 array (k, u, u))
        Stamps, normalised and not stretched, and heat maps in [0, 1], in batches, in the order of the rows.
    models : sequence of str
        The first is the one that the heat maps are of.
    heading : str
    notes : sequence of str
        Paragraphs under the heading.
    summary : sequence of (str, str)
        Labels and texts of a small table.
    progress : bool
        Show a progress bar on stderr.
    scale : float
        arcsec a pixel, of the stamps.

    Raises
    ------
    ValueError
        Ranks that do not rise, a declination beyond 90 degrees, pictures that are not as above or not one a row.
    FileExistsError
        An ``index.html`` or something in ``stamps/`` is not of such a page.
    """
    folder, rows = Path(folder), list(rows)
    names = _names(rows)
    shown = _shown(rows, names, models)
    return renew(
        folder,
        lambda coming: _draw(coming, names, pictures, progress),
        lambda warm: _page(shown, warm, models, heading, notes, summary, scale),
    )


def renew(folder: Path, draw: Callable[[Path], Any], html: Callable[[Any], Iterable[str]]) -> Path:
    """Write ``index.html`` and ``stamps/`` in the place of older ones, when both are there; returns the page.

    ``draw`` draws the pictures, named ``00001.jpg`` and so on, into the folder that it is given; ``html`` takes what
    that returned, and gives the page in pieces, with `MADE_BY` in its head.  FileExistsError as `write`.
    """
    make_sure(folder)
    coming = folder / ".stamps.part"
    shutil.rmtree(coming, ignore_errors=True)  # of a run that was killed
    coming.mkdir(parents=True)
    try:
        drawn = draw(coming)
        with storage.atomic(folder / "index.html") as beside:
            with open(beside, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(html(drawn))
            remove(folder)  # no moment with the pictures of another page
            coming.rename(folder / "stamps")
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return folder / "index.html"


def remove(folder: str | Path) -> None:
    """Take away the page that `write` left there, if any: what is no longer true must not be read."""
    make_sure(Path(folder))
    (Path(folder) / "index.html").unlink(missing_ok=True)
    shutil.rmtree(Path(folder) / "stamps", ignore_errors=True)


def _names(rows):
    """Names of the pictures, by rank."""
    ranks = [int(row["rank"]) for row in rows]
    if any(a >= b for a, b in zip([0, *ranks], ranks, strict=False)):
        raise ValueError("ranks of candidates have to rise from row to row, from 1 or more: sort the rows by rank")
    return [f"{rank:05d}.jpg" for rank in ranks]


def _shown(rows, names, models):
    """What the template shows of each row: texts, and whole per cents for the bars."""
    ra, dec = (np.array([row[name] for row in rows], float) for name in ("ra", "dec"))
    placed = np.isfinite(ra) & np.isfinite(dec)
    if (beyond := placed & (np.abs(dec) > 90)).any():
        row = rows[int(np.argmax(beyond))]
        raise ValueError(f"candidate {row['id']}: dec {row['dec']} is beyond 90 degrees; is it in degrees?")
    sky = SkyCoord(ra[placed] * units.deg, dec[placed] * units.deg)
    places = dict(zip(np.flatnonzero(placed), sky.to_string("hmsdms", sep=":", precision=2), strict=True))
    found = []
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        scores = [("score", row["score"])]
        if len(models) > 1:
            scores += [(model, row["scores"][model]) for model in models]
        found.append(
            {
                "rank": int(row["rank"]),
                "picture": name,
                "id": row["id"],
                "degrees": f"{ra[i]:.6f} {dec[i]:+.6f}" if placed[i] else "",
                "sexagesimal": places.get(i, ""),
                "scores": [(k, digits(p), round(100 * p) if 0 <= p <= 1 else 0) for k, p in scores],
                "filled": int(row["filled"]),
                "flag": row.get("flag", ""),
                "match": row["match"],
                "separation": f"{row['separation']:.1f}″" if np.isfinite(row["separation"]) else "",
                "links": links(row["reference"]),
            }
        )
    return found


def make_sure(folder: Path) -> None:
    """That nothing is in the way but what a page may replace; FileExistsError, as `write`, where there is."""
    index, pictures = folder / "index.html", folder / "stamps"
    foreign = [index] if index.exists() and MADE_BY not in index.read_text("utf-8", "replace")[:4096] else []
    foreign += [path for path in pictures.glob("*") if not _PICTURE.fullmatch(path.name)]
    if foreign or pictures.is_symlink():
        path = [*foreign, pictures][0]
        raise FileExistsError(f"{path} is of no page of candidates; move it away, or choose another folder")


def _draw(folder, names, pictures, progress):
    """Write the picture of each candidate; returns whether it has heat, a list of bool."""
    warm = []
    with tqdm(total=len(names), desc="pictures", unit="stamp", file=sys.stderr, disable=not progress) as bar:
        for batch in pictures:
            warm += _draw_batch(folder, names[len(warm) :], *batch)
            del batch  # before the next one is made
            bar.update(len(warm) - bar.n)
    if len(warm) != len(names):
        raise ValueError(f"{len(warm)} pictures for {len(names)} candidates")
    return warm


def _draw_batch(folder, names, pixels, heat):
    if pixels.shape[1:] != stamps.SHAPE or heat.ndim != 3 or len(pixels) != len(heat):
        raise ValueError(f"pictures {pixels.shape} and heat {heat.shape} are not (k, 101, 101) and (k, u, u)")
    if len(pixels) > len(names):
        raise ValueError(f"more pictures than candidates: {len(pixels)} for the last {len(names)}")
    for array, what in ((pixels, "pixels (lensdet.data.stamps.normalise makes them so)"), (heat, "heat")):
        if array.size and not (array.min() >= 0 and array.max() <= 1):  # NaN is in no range
            raise ValueError(f"pictures from {names[0]} on are not all in [0, 1]: {what}")
    for name, stamp, cells in zip(names, pixels, heat, strict=False):
        picture = Image.fromarray(strip(stamp, cells))
        picture.save(folder / name, quality=QUALITY, subsampling=0, optimize=True, comment=MADE_BY)
    return [bool(cells.any()) for cells in heat]


def template(name: str) -> jinja2.Template:
    """A template of this folder, in which all that is filled in is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return environment.get_template(name)


def _page(shown, warm, models, heading, notes, summary, scale):
    """The HTML, in pieces."""
    yield from template("page.html.j2").generate(
        made_by=MADE_BY,
        heading=heading,
        notes=list(notes),
        summary=list(summary),
        models=list(models),
        candidates=list(zip(shown, warm, strict=True)),
        flagged=next((row["rank"] for row in shown if row["flag"]), None),
        every=EVERY,
        block=BLOCK,
        scale=scale,
        width=SIZE * scale,
        stretch={"softening": SOFTENING, "top": CLIPPED},
    )
