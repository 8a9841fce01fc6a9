"""A survey to try the ranking on: simulated stamps as FITS files, and the list of which are lenses."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from joblib import Parallel, delayed

from lensdet import storage
from lensdet.chapters import style
from lensdet.data import bank, mocklens, stamps
from lensdet.data.random import stream
from lensdet.parameters import Parameters

SIZES = {"smoke": (24, 4)}  # negatives and lenses, by profile
SIZE = (600, 20)
SCALE = 0.2  # arcsec a pixel
PAGE = 100  # candidates on its page
NOTE = "All stamps are simulated, those of the lenses too: no object here is of the sky."


def _simulate(i, lens, parameters):
    rng = stream(parameters.data_seed, "demonstration", i)
    kind = "contaminant" if not lens and rng.random() < parameters.sky_contaminants else "lrg"
    pixels, _ = bank.simulated(kind, bank.FIRST_SHOWN + i, parameters)
    if not lens:
        return pixels, kind, np.nan, np.nan
    source, truth = bank.simulated("source", bank.FIRST_SHOWN + i, parameters)
    alpha = rng.uniform(*parameters.alpha)
    light = stamps.normalise(source) * np.ptp(pixels)  # in the units of the stamp
    return mocklens.added(pixels, light, np.float32(alpha)), kind, alpha, truth["einstein_radius"]


def parameters_of(parameters: Parameters) -> Parameters:
    """Parameters that rank it: list and page go to ``build/demonstration/<profile>``, unless ``output`` says otherwise.

    As with figures, what was ranked with other parameters than the profile's goes beside it.
    """
    output = parameters.output or storage.build_dir() / "demonstration" / style.folder(parameters).name
    own = {"survey": survey(parameters), "pixel_scale": SCALE, "output": output, "page_size": PAGE}
    return parameters.model_copy(update=own)


def about(parameters: Parameters) -> dict:
    """What its page and list have to say of it: arguments of `ranking.run`."""
    return {"called": f"simulated survey (profile {parameters.profile})", "notes": (NOTE,)}


def survey(parameters: Parameters) -> Path:
    """Make it where it is not there yet.

    Returns
    -------
    Path
        A folder of stamps ``0001.fits`` ...; ``truth.csv`` beside it has ``id``, ``lens``, ``kind``, ``alpha`` and
        ``einstein_radius`` (arcsec).
    """
    p = parameters
    n, lenses = SIZES.get(p.profile, SIZE)
    decides = json.dumps([p.survey_key(), p.sky_contaminants, n, lenses])
    folder = storage.build_dir() / "demonstration" / hashlib.sha256(decides.encode()).hexdigest()[:8]
    if folder.exists():
        return folder / "stamps"
    lens = np.zeros(n + lenses, bool)
    lens[stream(p.data_seed, "demonstration").choice(n + lenses, lenses, replace=False)] = True
    made = Parallel(n_jobs=p.workers)(delayed(_simulate)(i, lens[i], p) for i in range(len(lens)))
    names = [f"{i + 1:04d}.fits" for i in range(len(lens))]
    half = folder.with_name(f".{folder.name}")  # files are not synced one by one: the folder gets its name at the end
    shutil.rmtree(half, ignore_errors=True)
    (half / "stamps").mkdir(parents=True)
    for name, (pixels, *_) in zip(names, made, strict=True):
        fits.PrimaryHDU(pixels.astype(np.float32)).writeto(half / "stamps" / name)
    kinds, alphas, radii = zip(*[rest for _, *rest in made], strict=True)
    table = {"id": names, "lens": lens.astype(int), "kind": kinds, "alpha": alphas, "einstein_radius": radii}
    storage.write_csv(half / "truth.csv", pd.DataFrame(table))
    half.rename(folder)
    return folder / "stamps"


def recovered(ranked: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """How many of the simulated lenses stand among the first N of a ranked list of `survey`, and would by chance."""
    lens = pd.read_csv(folder.with_name("truth.csv"), dtype={"id": str}).set_index("id")["lens"]
    found = lens[ranked["id"]].to_numpy().cumsum()
    first = np.unique(np.minimum(found[-1] * np.array([1, 2, 5]), len(found)))
    return pd.DataFrame({"first": first, "lenses": found[first - 1], "by chance": first * found[-1] / len(found)})
