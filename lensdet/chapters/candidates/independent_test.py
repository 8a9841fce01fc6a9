"""An independent test set: negatives and mock lenses that no network was trained, selected or tested on, scored.

The tail of a ranked list needs many negatives: the bank's test split has too few, and its validation split chose the
networks.  Here every object has an id far above the bank's, so that its streams, and with them its pixels, are its own.
Stamps are made as the bank's are (Eq. 4.1, float16) and merged by Eq. 4.2, a block at a time, scored and forgotten:
only logits and a few truths are kept.  Unlike in training a mock lens is normalised once more after merging, as every
stamp of a survey is before a finder sees it; `domain_shift` measures what that changes.  What comes of it is the tail
of our simulator, not of the sky.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
from filelock import FileLock
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from lensdet import storage
from lensdet.data import bank, contaminants, mocklens, simulation, stamps
from lensdet.data.bank import FIRST_INDEPENDENT, FIRST_INDEPENDENT_HOST
from lensdet.data.random import stream
from lensdet.parameters import Parameters
from lensdet.storage import digest

if TYPE_CHECKING:
    from lensdet.network.finders import Finder  # with Keras

FORMAT = 1  # part of the key: raise it when a number of the set changes
BLOCK = 2000  # stamps simulated, scored and saved at once: 80 MB
BATCH = 50  # stamps that a worker makes at once
# By their code: those of the thesis' survey, then the others of the broad one.
KINDS = tuple(dict.fromkeys(["mock lens", "lrg", *simulation.KINDS, *contaminants.KINDS]))
ROW = np.dtype([("label", "i1"), ("kind", "i1"), ("stamp", "i4"), ("source", "i4"), ("alpha", "f4"),
                ("einstein_radius", "f4"), ("peak_snr", "f4"), ("area_fraction", "f4")])  # fmt: skip


class IndependentSet(NamedTuple):
    """A scored independent set of N stamps, negatives first."""

    rows: np.ndarray  # (N,) of dtype `ROW`; source -1, alpha 0 and NaN where there is none
    logits: dict[str, np.ndarray]  # float32 (N,) by finder
    made: dict  # what decides every number


def score(
    parameters: Parameters,
    finders: dict[str, "Finder"],
    digests: dict[str, str],
    negatives: int = 100_000,
    lenses: int = 10_000,
    progress: bool = True,
) -> Path:
    """Simulate and score an independent set; where that was done before, nothing is computed.

    An interrupted call goes on at the block where it was.  Numbers depend neither on interruptions nor on the number
    of workers, and a smaller set is the beginning of a larger one.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        Of the simulation; ``sky_contaminants`` of the negatives are contaminants, the others LRGs.
    finders : dict
        By name: objects whose ``logits`` takes stretched stamps (n, 101, 101, 1), as `finders.Finder` has it.
    digests : dict of str
        By the same names: what tells a finder from another.
    negatives, lenses : int
        How many.
    progress : bool
        Whether to show a bar with the time left.

    Returns
    -------
    Path
        ``results/<profile>/independent-<key>/scores.h5``, for `load`.

    Raises
    ------
    ValueError
        If finders and digests do not go together, a count is not positive, the bank of these parameters has ids as
        high as the independent ones, a finder's logits are not finite or not one a stamp.
    """
    made = _made(parameters, finders, digests, negatives, lenses)
    key = digest(made)
    path = storage.results_dir() / parameters.profile / f"independent-{key}" / "scores.h5"
    state = storage.build_dir() / "independent" / f"{parameters.profile}-{key}"
    state.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(state.with_suffix(".lock")):
        if path.exists():
            return path
        state.mkdir(exist_ok=True)
        _blocks(parameters, finders, negatives, lenses, state, progress)
        _write(path, made, [state / f"{k:04d}.h5" for k in range(-(-(negatives + lenses) // BLOCK))])
        gone = state.with_name(f".{state.name}")  # renamed first: half a state would be computed anew
        shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(state.rename(gone))
    return path


def load(path: str | Path) -> IndependentSet:
    """A scored independent set.

    Parameters
    ----------
    path : Path
        From `score`.

    Returns
    -------
    IndependentSet

    Raises
    ------
    FileNotFoundError
        Where there is none.
    ValueError
        If the file is none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no independent set; lensdet.chapters.candidates.independent_test.score makes one"
        )
    try:
        with h5py.File(path) as file:
            made = json.loads(file.attrs["made"])
            return IndependentSet(*_read(file, made["finders"]), made)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: not an independent set that {__name__} wrote ({error}); remove it") from None


def kinds(found: IndependentSet) -> NDArray[np.str_]:
    """What each stamp of an independent set is, by its name in `KINDS` (N,)."""
    return np.array(KINDS)[found.rows["kind"]]


def render(indices: Iterable[int], parameters: Parameters, negatives: int) -> tuple[NDArray[np.float32], NDArray]:
    """Stamps of an independent set: i below `negatives` is a negative, the others are mock lenses.

    Parameters
    ----------
    indices : iterable of int
    parameters : lensdet.parameters.Parameters
    negatives : int

    Returns
    -------
    images : float32 array (n, 101, 101)
        Merged, normalised, stretched: what a network sees of a survey.
    rows : structured array (n,) of dtype `ROW`
    """
    drawn = [_negative(i, parameters) if i < negatives else _lens(i - negatives, parameters) for i in indices]
    return np.stack([image for image, _ in drawn]), np.array([row for _, row in drawn], ROW)


def _negative(i, parameters):
    contaminant = stream(parameters.data_seed, "fresh/negative", i).random() < parameters.sky_contaminants
    pixels, truth = bank.simulated("contaminant" if contaminant else "lrg", FIRST_INDEPENDENT + i, parameters)
    row = (0, KINDS.index(truth["kind"]), FIRST_INDEPENDENT + i, -1, 0.0, np.nan, truth["peak_snr"], np.nan)
    return np.sqrt(bank.sixteen_bits(pixels).astype(np.float32)), row


def _lens(i, parameters):
    pixels, host = bank.simulated("lrg", FIRST_INDEPENDENT_HOST + i, parameters)
    if parameters.simulation == "broad":  # with the PSF of its host, as near as `mocklens.pairs` comes to it
        parameters = parameters.model_copy(update={"seeing": (host["seeing"], host["seeing"])})
    light, source = bank.simulated("source", FIRST_INDEPENDENT + i, parameters)
    light = bank.sixteen_bits(light).astype(np.float32)
    alpha = np.float32(stream(parameters.data_seed, "fresh/alpha", i).uniform(*parameters.alpha))
    known = bank.measured(pixels[None])
    above = alpha * light >= 2 * known["noise"][0] / known["maximum"][0]  # as in `frozen_sets.truth`
    mock = stamps.normalise(mocklens.added(bank.sixteen_bits(pixels), light, alpha))  # again, as a survey's are
    truth = alpha, source["einstein_radius"], host["peak_snr"], above.mean()
    return np.sqrt(mock), (1, 0, FIRST_INDEPENDENT_HOST + i, FIRST_INDEPENDENT + i, *truth)


def _made(parameters, finders, digests, negatives, lenses):
    if not finders or finders.keys() != digests.keys():
        raise ValueError(f"finders {sorted(finders)} and digests {sorted(digests)} need the same names, one at least")
    if min(negatives, lenses) < 1:
        raise ValueError(f"an independent set needs negatives and lenses, not {negatives} and {lenses}")
    for cls in bank.CLASSES:
        last = sum(bank.split_sizes(getattr(parameters, f"n_{cls}")).values()) - 1
        if last >= FIRST_INDEPENDENT:
            raise ValueError(
                f"n_{cls}: the bank has ids up to {last}, those here begin at {FIRST_INDEPENDENT}; take a smaller one"
            )
    most = FIRST_INDEPENDENT_HOST - FIRST_INDEPENDENT
    if negatives > most:
        raise ValueError(f"{negatives} negatives: at most {most}, above are the hosts of mock lenses")
    simulated = parameters.simulated() | {"format": FORMAT, "sky_contaminants": parameters.sky_contaminants}
    return {"simulated": simulated, "negatives": int(negatives), "lenses": int(lenses), "finders": dict(digests)}


def _blocks(parameters, finders, negatives, lenses, state, progress):
    """Simulate, score and save each block that is not there yet."""
    n = negatives + lenses
    blocks = [range(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]
    left = [k for k in range(len(blocks)) if not (state / f"{k:04d}.h5").exists()]
    done = n - sum(len(blocks[k]) for k in left)
    pool = Parallel(n_jobs=parameters.workers, return_as="generator")

    def simulate(k):  # begins at once where there are several workers
        parts = [blocks[k][i : i + BATCH] for i in range(0, len(blocks[k]), BATCH)]
        return pool(delayed(render)(part, parameters, negatives) for part in parts)

    with pool, tqdm(total=n, initial=done, desc="independent set", unit="stamp", disable=not progress) as bar:
        coming = simulate(left[0]) if left else None
        for k, following in zip(left, [*left[1:], None], strict=False):
            images, rows = [], []
            for image, row in coming:
                images.append(image)
                rows.append(row)
                bar.update(len(row))
            coming = None if following is None else simulate(following)  # while this one is scored: two blocks at most
            images, rows = np.concatenate(images)[..., None], np.concatenate(rows)
            logits = {name: _logits(name, finder, images) for name, finder in finders.items()}
            with storage.atomic(state / f"{k:04d}.h5") as beside, h5py.File(beside, "w") as file:
                _fill(file, rows, logits)


def _logits(name, finder, images):
    logits = np.asarray(finder.logits(images))
    if logits.shape != (len(images),) or not np.isfinite(logits).all():
        raise ValueError(f"finder {name!r}: its logits of {len(images)} stamps must be as many finite numbers")
    return logits.astype(np.float32)


def _fill(file, rows, logits, made=None):
    for name in ROW.names:
        file.create_dataset(name, data=rows[name], compression="gzip", shuffle=True, track_times=False)
    group = file.create_group("logits")
    for i, values in enumerate(logits.values()):  # by number: a finder's name may be a path
        group.create_dataset(str(i), data=values, compression="gzip", shuffle=True, track_times=False)
    if made is not None:
        file.attrs["made"], file.attrs["kinds"] = json.dumps(made), json.dumps(KINDS)


def _read(file, finders):
    """Rows, and logits by finder, of an open file that `_fill` filled."""
    rows = np.zeros(len(file["label"]), ROW)
    for name in ROW.names:
        rows[name] = file[name][:]
    return rows, {name: file["logits"][str(i)][:] for i, name in enumerate(finders)}


def _write(path, made, blocks):
    """The blocks as one file."""
    parts = []
    for block in blocks:
        with h5py.File(block) as file:
            parts.append(_read(file, made["finders"]))
    rows = np.concatenate([rows for rows, _ in parts])
    logits = {name: np.concatenate([logits[name] for _, logits in parts]) for name in made["finders"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.atomic(path) as beside, h5py.File(beside, "w") as file:
        _fill(file, rows, logits, made)
