"""What a grader sees of a candidate: its pixels, read again from the survey's files, in colour where other bands lie
beside, heat maps, and the columns of the list.

``survey.json``, which ranking leaves beside the list, says how the files are read.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.visualization import ZScaleInterval, make_lupton_rgb
from numpy.typing import NDArray
from PIL import Image

from lensdet import storage
from lensdet.data import mocklens, stamps
from lensdet.survey import arrays, candidate_list, controls, cutouts, headers, page, tiles
from lensdet.survey.cutting import Place, Reader
from lensdet.survey.headers import Options, Wanted

ABOUT = "survey.json"
BESIDE = ("g", "i")  # bands of a composite that lie beside r, as blue and red
ARC_LIGHT = {"g": 0.8, "r": 1.0, "i": 0.7}  # of a painted arc over the sky's noise, relative to r: arcs are blue
LUPTON = {"minimum": -0.5, "stretch": 8.0, "Q": 8.0}  # in units of the sky's noise
SCORES = re.compile(r"(rank|p_.*|logit_.*|match|reference|separation|flag)", re.DOTALL)  # what may sway a grader
ELSEWHERE = ("id", "ra", "dec", "tile", "hdu", "x", "y", "rejected", "detail")  # columns that are no information
RANGE = 60_000  # the most that float16 holds, nearly
TRIED = 5  # stamps, of which one has to be readable


class Picture(NamedTuple):
    """A candidate as the widget draws it."""

    pixels: NDArray[np.float16]  # (101, 101): above the sky, in units of its noise
    colour: NDArray[np.uint8] | None  # (101, 101, 3), the first row at the bottom
    about: dict[str, Any]  # ready for JSON


def describe(folder: str | os.PathLike, job: cutouts.Plan, whole: bool, finders: Iterable[str | Path]) -> None:
    """Write ``survey.json``: how the stamps of a list are read again, and by which finders, names or files, scored.

    ``whole``: a file is a stamp, or many of them; else stamps are cut from tiles.
    """
    there = [str(Path(name).resolve()) if Path(name).is_file() else str(name) for name in finders]
    about = {"whole": whole, "folder": str(Path.cwd()), "finders": there, **job.options._asdict()}
    storage.write_json(Path(folder) / ABOUT, about | {"wanted": job.options.wanted._asdict()})


class Pictures:
    """Pictures of the candidates of an output folder, by id; for one thread.

    Parameters
    ----------
    folder : path-like
        Of a ranked list.
    mixed_in : list of dict
        From `controls`; arcs are painted on their hosts whenever they are shown.
    survey : path-like, optional
        Where the survey's files lie now, if not where they were ranked.

    Raises
    ------
    FileNotFoundError
        Without a list, without ``survey.json``, or where `survey` has none of the files; says what to do.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        mixed_in: Iterable[Mapping[str, Any]] = (),
        survey: str | os.PathLike | None = None,
    ) -> None:
        self.folder, self.table = Path(folder), candidate_list.read_list(folder, numbers=False)
        self.rows = dict(zip(self.table["id"], range(len(self.table)), strict=True))
        self.painted = {of["id"]: of for of in mixed_in if of["kind"] == controls.PAINTED}
        if not (path := self.folder / ABOUT).exists():
            raise FileNotFoundError(
                f"{path} is not there, which says how pixels are read again: run `lensdet rank` with the same "
                "parameters again; what was scored is kept"
            )
        self.about = json.loads(path.read_text())
        fields = {name: self.about[name] for name in Options._fields if name != "wanted"}
        wanted = Wanted(**self.about["wanted"] | {"size": tuple(self.about["wanted"]["size"])})
        self.readers = {wanted.band: Reader(Options(wanted, **fields))}
        for band in BESIDE:
            stated = band if fields["band"] else None
            self.readers[band] = Reader(Options(wanted._replace(band=band), **fields | {"band": stated}))
        self.wanted = wanted
        self.moved = _moved(self._ranked_at(self.table["tile"]), survey) if survey and len(self.table) else None
        self.picture = lru_cache(64)(self._picture)
        self.heat = lru_cache(256)(self._heat)

    def row(self, name: str) -> dict[str, str]:
        """The row of the list of a candidate, or of the galaxy that an arc is painted on."""
        host = self.painted[name]["host"] if name in self.painted else name
        if host not in self.rows:
            raise ValueError(f"{host!r} is not in {self.folder / 'ranked.ecsv'} any more; rank the survey that had it "
                             "again, with the same output")  # fmt: skip
        return self.table.iloc[self.rows[host]].to_dict()

    def sky(self, name: str) -> tuple[float, float]:
        """Right ascension and declination in degrees, NaN where the list has none."""
        row = self.row(name)
        return float(row["ra"] or "nan"), float(row["dec"] or "nan")

    def check(self) -> None:
        """Raise FileNotFoundError where none of the first stamps can be read: the survey's files were moved."""
        said = []
        for name in self.table["id"][:TRIED]:
            try:
                with headers.quiet():
                    self._stamp(name)
                return
            except Exception as error:  # whatever a file that has changed makes of its reader
                said.append(error)
        if said:
            raise FileNotFoundError(
                f"none of the first {len(said)} stamps can be read: {said[0]}; if the survey's files lie "
                "elsewhere, give survey=FOLDER; without them grade where they are"
            )

    def cells(self, name: str, scores: bool = False) -> list[tuple[str, str]]:
        """Columns of the list that are shown, and their texts; scores, ranks and matches when they are wanted."""
        row = self.row(name)
        shown = [k for k in row if k not in ELSEWHERE and row[k] != "" and (scores or not SCORES.fullmatch(k))]
        return [("id", row["id"]), *((k.removeprefix("catalogue_"), _short(row[k])) for k in shown)]

    def stamp(self, name: str) -> NDArray[np.float32]:
        """Pixels (101, 101) of a candidate, with its painted arc if it has one, in the units of the file."""
        return self._stamp(name)[0]

    def _stamp(self, name):
        """Pixels, and the place that they were cut at."""
        row = self.row(name)
        found = self.readers[self.wanted.band](row["id"], self._place(row))
        if name not in self.painted:
            return found.pixels, found.place
        return controls.with_arc(found.pixels, self.painted[name], self.wanted), found.place

    def _place(self, row):
        (path,) = self._ranked_at([row["tile"]])
        if self.moved:
            path = os.path.join(self.moved[1], os.path.relpath(path, self.moved[0]))
        if not self.about["whole"]:
            return Place(path, int(row["hdu"]), float(row["x"]), float(row["y"]))
        return Place(path, int(row["hdu"]) if arrays.is_array(path) else -1, np.nan, np.nan)

    def close(self) -> None:
        """Close files that are kept open, in the thread that read them; what is read next may be in another."""
        for reader in self.readers.values():
            reader.close()

    def _ranked_at(self, names):
        """Where files were when they were ranked."""
        return [os.path.normpath(os.path.join(self.about["folder"], name)) for name in names]

    def _picture(self, name):
        """A `Picture`; raises StampError where the file cannot be read any more."""
        with headers.quiet():
            pixels, place = self._stamp(name)
            row = self.row(name)
            above, noise = page.over_noise(pixels.astype(float))
            unit = max(1.0, float(np.abs(above).max()) / RANGE)
            sample = (np.array(ZScaleInterval().get_limits(above)) / unit).tolist()
            shares = (np.percentile(above, [0, page.CLIPPED, 100]) / unit).tolist()
            about = {"low": shares[0], "white": shares[1], "high": shares[2], "zscale": sample, "noise": 1 / unit}
            about |= self._compass(self._place(row), place)
            about |= {name: float(row[name]) if row[name] else None for name in ("ra", "dec")}
            made = self._composite(name, row, above, noise)
        return Picture((above / unit).astype(np.float16), made, about)

    def _compass(self, asked, place):
        """Unit vectors to the north and east in pixels (x, y); nothing without a WCS, or in another frame."""
        wcs = self.readers[self.wanted.band].image(asked).wcs
        if wcs is None or not wcs.wcs.ctype[wcs.wcs.lng].startswith("RA"):
            return {}
        inverse = np.linalg.inv(tiles.jacobian(wcs, place.x, place.y))
        east, north = (inverse / np.hypot(*inverse)).T.tolist()
        return {"east": east, "north": north}

    def _composite(self, name, row, above, noise):
        """Red, green and blue by Lupton et al. (2004), each band over its noise; None where a band is not there."""
        place = self._place(row)
        beside = {band: other for band in BESIDE if (other := band_file(place.path, self.wanted.band, band))}
        if len(beside) < len(BESIDE) or self.wanted.band in beside or arrays.is_array(place.path):
            return None
        layers = {self.wanted.band: above}
        try:
            for band, path in beside.items():
                there = place._replace(path=path)
                if not self.about["whole"]:
                    sky = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
                    x, y = self.readers[band].image(there).wcs.world_to_pixel(sky)
                    there = there._replace(x=float(x), y=float(y))
                layers[band] = page.over_noise(self.readers[band](row["id"], there).pixels.astype(float))[0]
        except stamps.StampError:
            return None
        if name in self.painted:
            plain = self.readers[self.wanted.band](row["id"], place).pixels
            light = (self.stamp(name) - plain) / noise
            for band in beside:
                layers[band] = layers[band] + ARC_LIGHT[band] * light
        blue, red = (layers[band] for band in BESIDE)
        return make_lupton_rgb(red, layers[self.wanted.band], blue, **LUPTON)

    def _heat(self, name):
        """A JPEG of the stamp with its heat map over it, as on the page: its own panel, or computed (`gradcam`)."""
        row = self.row(name)
        panel = (2 * page.PITCH, 0, 2 * page.PITCH + page.SIZE, page.SIZE)
        there = self.folder / "page" / "stamps" / f"{int(row['rank']):05d}.jpg"
        if name not in self.painted and there.exists():
            picture = Image.open(there)
        else:
            pixels = stamps.normalise(self.stamp(name))
            picture = Image.fromarray(page.strip(pixels, self._heat_map(pixels)))
        made = io.BytesIO()
        picture.crop(panel).save(made, "JPEG", quality=page.QUALITY, subsampling=0)
        return made.getvalue()

    def _heat_map(self, pixels):
        from lensdet.network import finders, gradcam  # TensorFlow: ten seconds that only a heat map needs

        if not hasattr(self, "finder"):
            self.finder = finders.load(self.about["finders"][0])
        shown, layer = mocklens.stretched(pixels)[None, ..., None], candidate_list.LAYER
        return gradcam.heat_maps(self.finder.network, shown, layers=(layer,)).heat[layer][0]


def _moved(paths, survey):
    """The folder that files were in, and the one that they are in now: the survey's, or one of the old name in it."""
    old = os.path.commonpath({os.path.dirname(path) for path in paths})
    parts = Path(old).parts[1:]
    for k in range(len(parts) + 1):
        new = Path(survey).resolve().joinpath(*parts[len(parts) - k :])
        if any((new / os.path.relpath(path, old)).is_file() for path in paths[:TRIED]):
            return old, str(new)
    raise FileNotFoundError(
        f"survey {survey}: {os.path.relpath(paths[0], old)} is not in it; give the folder that has what lay in {old}"
    )


def band_file(path: str, band: str, other: str) -> str | None:
    """The file of another band beside one: the same name but for the band, a letter between others that are none.

    ``r`` to ``g`` in ``a_r.fits.gz`` and ``KiDS_1.0_r_sci.fits``, ``R`` to ``G`` in ``HSC-R-1.fits``; None without one.
    """
    folder, name = os.path.split(path)
    for found in reversed(list(re.finditer(rf"(?<![A-Za-z]){re.escape(band)}(?![A-Za-z])", name, re.IGNORECASE))):
        letter = other.upper() if found[0].isupper() else other
        there = os.path.join(folder, name[: found.start()] + letter + name[found.end() :])
        if os.path.isfile(there):
            return there
    return None


def _short(text):
    """A number in five digits, any other text as it is."""
    try:
        return f"{float(text):.5g}" if re.search(r"\.\d{4}|e-", text) else text
    except ValueError:
        return text
