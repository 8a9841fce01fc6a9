"""From simulated to real pixels: how far do scores fall?

Three steps, each with the very same sources and alphas, so that one thing changes at a time:

1. mock lenses of simulated LRGs as networks are trained on them (Eq. 4.2: the source is added to a normalised stamp);
2. the same, normalised again by Eq. 4.1, as every stamp of a survey is: its darkest pixel is then 0 and its brightest
   1, where the source's faint wings had lifted the one and its light the other;
3. mock lenses of real galaxies, normalised likewise: other galaxies, surroundings and noise.

Beside them real candidates.  The real stamps are few and unvetted: this measures how foreign a survey's stamps are to a
network that learnt from simulated mock lenses, neither completeness nor purity.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from lensdet import storage
from lensdet.data import bank, mocklens, stamps
from lensdet.data.random import stream
from lensdet.evaluation import thresholds
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.parameters import Parameters
from lensdet.storage import digest
from lensdet.survey import cutouts, ranking, reading

if TYPE_CHECKING:
    from lensdet.network.finders import Finder  # with Keras

FORMAT = 1  # part of the key of kept logits
EACH = 8  # mock lenses of each real galaxy
DRAWS = 1000  # of galaxies, for intervals
SIMULATED, REAL = "simulated LRGs", "real galaxies"  # negatives
TRAINED, RENORMALISED, ON_REAL_GALAXIES = "mocks as trained on", "the same, normalised again", "mocks on real galaxies"
CANDIDATES, PICTURES = "real candidates", "candidates from colour pictures"
PICTURE = "sw_"  # beginning of their names: Space Warps stamps, recovered from PNGs
STEPS = {
    TRAINED: SIMULATED,
    RENORMALISED: SIMULATED,
    ON_REAL_GALAXIES: REAL,
}  # mock lenses, and the negatives beside them


def _simulate(i, parameters):
    pixels = (bank.simulated(cls, bank.FIRST_SHIFTED + i, parameters)[0] for cls in ("lrg", "source"))
    return tuple(map(stamps.normalise, pixels))


def read(folder: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Real stamps of 0.2 arcsec a pixel from ``galaxies/`` and ``lens_candidates/`` of a folder.

    Returns
    -------
    galaxies, candidates, pictures : float32 arrays (n, 101, 101)
        What `lensdet.survey.cutouts` refuses (such as saturated stamps) is left out; n = 0 where nothing is there.
    """
    found = {}
    for kind in ("galaxies", "lens_candidates"):
        found[kind] = {}
        for unit in cutouts.plan_folder(folder / kind, pixel_scale=0.2).units if (folder / kind).is_dir() else []:
            batch = reading.read(unit)
            found[kind] |= dict(zip(batch.ids, batch.pixels, strict=True))
    recovered = {name: name.startswith(PICTURE) for name in found["lens_candidates"]}
    parts = [list(found["galaxies"].values())]
    parts += [
        [x for name, x in found["lens_candidates"].items() if recovered[name] is which] for which in (False, True)
    ]
    return tuple(np.array(part, np.float32).reshape(-1, *stamps.SHAPE) for part in parts)


def make(parameters: Parameters, galaxies: NDArray, candidates: NDArray, pictures: NDArray) -> dict[str, NDArray]:
    """The stamps of each group, a dict of stretched float32 arrays (n, 101, 101, 1).

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    galaxies, candidates, pictures : float32 arrays (n, 101, 101)
        From `read`.

    Returns
    -------
    dict
        `EACH` mock lenses of each galaxy, side by side, and as many of simulated LRGs, which are negatives too.
    """
    n = len(galaxies) * EACH
    drawn = Parallel(n_jobs=parameters.workers)(delayed(_simulate)(i, parameters) for i in range(n))
    lrgs, sources = (np.array(part, np.float32).reshape(-1, *stamps.SHAPE) for part in zip(*drawn, strict=True))
    alpha = stream(parameters.data_seed, "real pixels/alpha").uniform(*parameters.alpha, n)
    real = stamps.normalise(galaxies)
    mocks = mocklens.added(lrgs, sources, alpha)
    images = {
        SIMULATED: lrgs,
        REAL: real,
        TRAINED: mocks,
        RENORMALISED: stamps.normalise(mocks),
        ON_REAL_GALAXIES: stamps.normalise(mocklens.added(np.repeat(real, EACH, axis=0), sources, alpha)),
        CANDIDATES: stamps.normalise(candidates),
        PICTURES: stamps.normalise(pictures),
    }
    return {name: mocklens.stretched(x).astype(np.float32)[..., None] for name, x in images.items()}


def score(
    parameters: Parameters, finders: dict[str, "Finder"], digests: dict[str, str]
) -> dict[str, dict[str, NDArray]]:
    """Logits of each group by each finder, kept so that they can be shown without the stamps.

    Computed anew where other stamps are there than those of the kept logits.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        Of the simulation, and ``real_stamps``: the folder to `read`.
    finders, digests : dict
        As in `independent_test.score`.

    Returns
    -------
    dict of dict of float32 arrays
        By finder, then by group of `make`; empty where there are no galaxies, nor, in the default folder, kept logits.

    Raises
    ------
    ValueError
        Where kept logits are not what was written.
    """
    settings = {"format": FORMAT, "first": bank.FIRST_SHIFTED, "each": EACH, "finders": dict(digests)}
    made = parameters.simulated() | settings
    groups = read(storage.real_stamps(parameters))
    stamps_there = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in groups)).hexdigest()
    own = {} if parameters.real_stamps is None else {"stamps": stamps_there}  # logits of others stay where they are
    kept = storage.results_dir() / parameters.profile / f"real-{digest(made | own)}" / "logits.h5"
    if kept.exists():
        with h5py.File(kept) as file:
            absent = parameters.real_stamps is None and not len(groups[0])
            if absent or file.attrs["stamps"] == stamps_there:
                order, names = list(json.loads(file.attrs["made"])["finders"]), json.loads(file.attrs["names"])
                return {f: {g: file[f"{order.index(f)}/{k}"][:] for k, g in enumerate(names)} for f in finders}
    if not len(groups[0]):
        return {}
    images = make(parameters, *groups)
    found = {name: {g: np.asarray(f.logits(x), np.float32) for g, x in images.items()} for name, f in finders.items()}
    with storage.atomic(kept) as beside, h5py.File(beside, "w") as file:
        for i, by_group in enumerate(found.values()):  # by number: names may be paths
            for k, values in enumerate(by_group.values()):
                file.create_dataset(f"{i}/{k}", data=values, compression="gzip", track_times=False)
        file.attrs["names"], file.attrs["stamps"] = json.dumps(list(images)), stamps_there
        file.attrs["made"] = json.dumps(made)
    return found


def calibrated(
    by_finder: dict[str, dict[str, NDArray]], finders: dict[str, "Finder"]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Logits of `score` over each finder's temperature, and their mean (`ranking.calibrated`): by finder, then group.

    Empty where nothing was scored.
    """
    groups = next(iter(by_finder.values()), ())
    found = {g: ranking.calibrated({name: x[g] for name, x in by_finder.items()}, finders) for g in groups}
    return {name: {g: x[name] for g, x in found.items()} for name in next(iter(found.values()), ())}


class _Quantities(NamedTuple):
    recall: float
    accepted: float
    auc: float
    median: float


STEP_COLUMNS = ["step", "quantity", "value", "difference", "low", "high", "galaxies", "mock_lenses", "finder"]
QUANTITIES = _Quantities("mock lenses found at p = 0.5", "negatives accepted at p = 0.5", "area under the ROC curve",
                      "median logit of mock lenses")  # fmt: skip


def _quantities(negative, positive):
    labels = np.repeat([0, 1], [len(negative), len(positive)])
    auc = thresholds.auc(thresholds.curve(labels, np.r_[negative, positive]))
    return _Quantities(np.mean(positive >= 0), np.mean(negative >= 0), auc, np.median(positive))


def steps(logits: dict[str, NDArray]) -> pd.DataFrame:
    """A finder's logits at each step, and what the step changed.

    Parameters
    ----------
    logits : dict of float arrays
        Of one finder, by group, in the order of `make`.

    Returns
    -------
    pandas.DataFrame
        A row a step of `STEPS` and quantity of `QUANTITIES`: ``step``, ``quantity``, ``value``, ``difference`` from the
        step before with ``low`` and ``high`` (95 %: galaxies, or simulated LRGs in their places, are drawn again with
        all that was made of each), ``galaxies`` and ``mock_lenses``.
    """
    n = len(logits[REAL])

    def all_steps(chosen):
        mocks = (chosen[:, None] * EACH + np.arange(EACH)).ravel()
        negatives = {SIMULATED: mocks, REAL: chosen}
        return np.array([_quantities(logits[no][negatives[no]], logits[yes][mocks]) for yes, no in STEPS.items()])

    rng = stream(0, "real pixels/intervals")
    values = all_steps(np.arange(n))  # (steps, quantities)
    drawn = [np.diff(all_steps(rng.integers(0, n, n)), axis=0) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    none = np.full((1, len(QUANTITIES)), np.nan)
    found = {"value": values, "difference": np.r_[none, np.diff(values, axis=0)], "low": np.r_[none, low],
             "high": np.r_[none, high]}  # fmt: skip
    place = {"step": np.repeat(list(STEPS), len(QUANTITIES)), "quantity": list(QUANTITIES) * len(STEPS)}
    return pd.DataFrame({**place, **{k: v.ravel() for k, v in found.items()}, "galaxies": n, "mock_lenses": n * EACH})


def all_steps(logits: dict[str, dict[str, NDArray]]) -> pd.DataFrame:
    """`steps` of all finders of `calibrated`, with the column ``finder``; no rows where there are none."""
    found = [steps(x).assign(finder=name) for name, x in logits.items()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=STEP_COLUMNS)


def accepted(logits: dict[str, NDArray]) -> pd.DataFrame:
    """How many of each group a finder accepts at p = 0.5, a data frame with 95 % Clopper-Pearson intervals.

    Mock lenses of one galaxy are not independent: their intervals are too narrow, those of `steps` are not.
    """
    rows = []
    for name, values in logits.items():
        k, n = int((values >= 0).sum()), len(values)
        low, high = clopper_pearson(k, n)
        rows.append({"stamps": name, "n": n, "accepted": k, "share": k / n if n else np.nan, "low": low, "high": high})
    return pd.DataFrame(rows)
