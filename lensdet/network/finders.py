"""Weights that travel: a finder in one HDF5 file, with what its stamps have to be and what made it.

Convolution kernels are kept in float16, which halves the file; vectors (the statistics of batch normalisation, biases)
stay float32, as some of theirs are below what float16 holds.  Nothing in such a file is executed: it has numbers and
JSON, and the network is built here.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import h5py
import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensdet import runs, storage
from lensdet.data import frozen_sets, mocklens, stamps
from lensdet.evaluation import calibration, ensembles
from lensdet.network import resnet, training
from lensdet.network.engine import PREDICT_BATCH
from lensdet.parameters import ParameterError, Parameters
from lensdet.runs import Run

FORMATS = 1, 2  # of a finder of one network, of several
PREPROCESSING = {
    "size": list(stamps.SHAPE),
    "pixel_scale": 0.2,  # arcsec
    "band": "r",
    "normalisation": "each stamp by its own minimum and maximum to [0, 1] (Eq. 4.1)",
    "stretch": "square root",
}
FIXED = ("size", "normalisation", "stretch")  # of it: the same for all; scale and band may be others
EXPERIMENTS = ("bce", "fbeta")
# Of 110,000 simulated stamps that no finder knew, none lies farther beyond the range of its 1102 calibration stamps
# than 0.21 of its width below or 0.09 above; white noise lies 0.7 to 2.7 of it above that of cross-entropy.
MARGIN = 0.25


class Finder(NamedTuple):
    """A network that is ready to score stamps."""

    network: keras.Model  # stretched stamps (N, 101, 101, 1) in, logits (N, 1) out
    preprocessing: dict  # as `PREPROCESSING`
    temperature: float  # of the calibration set: logits over it are those of probabilities
    made: dict  # parameters, provenance, validation loss
    digest: str  # SHA-256 of all of it but `calibrated`
    calibrated: tuple[float, float] | None = None  # lowest and highest logit of the calibration set; older files: None
    others: tuple = ()  # of a committee, the networks after the first
    temperatures: tuple = ()  # of a committee, of each network
    quality: Mapping = MappingProxyType({})  # limits of `lensdet.survey.quality`, where they are its own

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """All of a committee; of a finder of one network this."""
        return self.network, *self.others

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest logit to be believed: `calibrated`, and `MARGIN` of its width beyond; else no limit."""
        if self.calibrated is None:
            return -np.inf, np.inf
        low, high = self.calibrated
        return low - MARGIN * (high - low), high + MARGIN * (high - low)

    def score(self, pixels: ArrayLike) -> NDArray[np.float32]:
        """Logits float32 (N,) of stamps (N, 101, 101) in any unit, normalised and stretched here.

        Raises
        ------
        ValueError
            As `stamps.normalise`, or for stamps of another size.
        """
        pixels = np.asarray(pixels)
        if list(pixels.shape[1:]) != self.preprocessing["size"]:
            raise ValueError(f"stamps {pixels.shape}: this finder takes (N, {self.preprocessing['size']})")
        return self.logits(np.sqrt(stamps.normalise(pixels))[..., None])

    def logits(self, images: ArrayLike) -> NDArray[np.float32]:
        """Logits float32 (N,) of stretched stamps (N, 101, 101, 1), such as mock lenses (Eq. 4.2) are made.

        Of a committee they are those of the mean of its networks' calibrated probabilities.
        """
        if not self.others:
            return _predict(self.network, images)
        return combined([_predict(network, images) for network in self.networks], self.temperatures)


def combined(logits: Sequence[ArrayLike], temperatures: Sequence[float]) -> NDArray[np.float32]:
    """Logits (N,) of the mean of several networks' probabilities, each calibrated by its temperature.

    Parameters
    ----------
    logits : sequence of arrays (N,)
        A network's each.
    temperatures : sequence of float
    """
    scaled = np.stack([np.asarray(x, np.float64) / t for x, t in zip(logits, temperatures, strict=True)], -1)
    return ensembles.mean(scaled).astype(np.float32)


def name_of(finder: str | Path) -> str:
    """What a finder is called, by its name or file: ``bce`` for ``thesis/bce`` and for ``some/where/bce.h5``."""
    return Path(finder).name.removesuffix(".h5")


def folder() -> Path:
    """Where finders lie: ``weights/`` in the repository; outside it, in the installed package, which brings copies."""
    try:
        return storage.root() / "weights"
    except FileNotFoundError:
        return Path(__file__).resolve().parents[1] / "finders"


def export(
    folders: Sequence[Path],
    path: Path,
    takes: Mapping[str, object] | None = None,
    quality: Mapping[str, float] | None = None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Write the checkpoint of lowest validation loss as a finder, atomically; of several runs, as a committee.

    Parameters
    ----------
    folders : sequence of Path
        Of complete runs, with their weights; all were scored on the same calibration set.
    path : Path
        Of the file, ``.h5``.
    takes : mapping, optional
        What its stamps have to be, other than `PREPROCESSING`.
    quality : mapping, optional
        Limits of `lensdet.survey.quality` for its stamps.
    more : mapping, optional
        JSON-ready; what else there is to say of what it was made from.

    Raises
    ------
    FileNotFoundError
        As `training.load_network`.
    ValueError
        For a network that is no finder, or that was trained on segmented stamps, which this file could not say.
    """
    members = [Run(folder) for folder in folders]
    first = members[0]
    if any("members" in run.parameters or run.parameters.get("segmentation") for run in members):
        raise ValueError(f"{first.folder}: only finders on whole stamps can be exported")
    labels = first.logits("loss", "calibration")[0]
    logits = [run.logits("loss", "calibration")[1] for run in members]
    temperatures, several = [calibration.temperature(labels, x) for x in logits], len(members) > 1
    arrays = [keras.ops.convert_to_numpy(v) for folder in folders for v in training.load_network(folder).variables]
    arrays = [array.astype(np.float16) if array.ndim > 1 else array.astype(np.float32) for array in arrays]
    scores = combined(logits, temperatures) if several else logits[0]
    about = {
        "format": FORMATS[several],
        "architecture": {"name": "resnet18", "width": first.parameters["width"]},
        "preprocessing": dict(PREPROCESSING if takes is None else takes),
        "temperature": calibration.temperature(labels, scores),
        "made": {**_made(first), **(more or {})},
    }
    if several:
        about["architecture"]["members"] = len(members)
        about["temperatures"] = temperatures
    if quality:
        about["quality"] = dict(quality)
    with storage.atomic(path) as beside, h5py.File(beside, "w") as file:
        for i, array in enumerate(arrays):  # in the order of the network's variables
            file.create_dataset(f"{i:03d}", data=array, track_times=False)
        file.attrs["about"] = json.dumps(about, sort_keys=True)
        file.attrs["sha256"] = _digest(about, arrays)
        _keep_range(file, float(scores.min()), float(scores.max()))


def _made(run):
    history = run.history
    return {
        "parameters": run.parameters,
        "provenance": run.provenance,
        "run": "/".join(run.folder.parts[-3:]),
        "validation_loss": float(history["loss"].min()),
        "chunk": int(history["loss"].idxmin()),
        "chunks": len(history),
    }


def load(name: str | Path) -> Finder:
    """A finder by its file, or by its name in `folder`.

    Parameters
    ----------
    name : str or Path
        Such as "thesis/bce", which is ``weights/thesis/bce.h5`` in the repository; or a file, whose name ends in
        ``.h5``.

    Returns
    -------
    Finder

    Raises
    ------
    FileNotFoundError
        With the names that there are.
    ValueError
        For a file that is not ours, of another format, damaged, or of a finder of other stamps than can be made here.
    """
    path = Path(name).expanduser()
    if path.suffix != ".h5":
        path = folder() / f"{name}.h5"
    if not path.is_file():
        known = (file.relative_to(folder()).with_suffix("") for file in folder().rglob("*.h5"))
        there = ", ".join(sorted(file.as_posix() for file in known)) or "none yet"
        raise FileNotFoundError(f"{path}: no such finder; in {folder()}: {there}")
    try:
        with h5py.File(path) as file:
            about = json.loads(file.attrs["about"])
            arrays = [file[key][()] for key in sorted(file)]
            stated = file.attrs["sha256"]
            calibrated, checked = file.attrs.get("calibrated"), file.attrs.get("calibrated sha256")
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a finder that lensdet.network.finders wrote ({error})") from None
    if about.get("format") not in FORMATS:
        raise ValueError(
            f"{path}: format {about.get('format')}, and this lensdet reads {' and '.join(map(str, FORMATS))}"
        )
    if _digest(about, arrays) != stated or (calibrated is not None and checked != _range_digest(stated, *calibrated)):
        raise ValueError(f"{path}: damaged, its content is not that of its SHA-256; fetch it again")
    differs = {
        key: about["preprocessing"].get(key) for key in FIXED if about["preprocessing"].get(key) != PREPROCESSING[key]
    }
    if differs:
        raise ValueError(f"{path}: takes stamps that this lensdet does not make: {differs}")
    members = about["architecture"].get("members", 1)
    networks, n = [], len(arrays) // members
    for i in range(members):
        model = resnet.resnet18(about["architecture"]["width"])
        for variable, array in zip(model.variables, arrays[i * n : (i + 1) * n], strict=True):
            variable.assign(array.astype(np.float32))
        networks.append(resnet.logit_model(model))
    calibrated = calibrated if calibrated is None else tuple(calibrated.tolist())
    own = networks[0], about["preprocessing"], about["temperature"], about["made"], stated, calibrated
    return Finder(*own, tuple(networks[1:]), tuple(about.get("temperatures", ())), about.get("quality", {}))


def compare(finder: Finder, run: Path, images: NDArray[np.float32]) -> dict[str, float]:
    """How far the finder's logits are from those of the run's own float32 weights.

    Parameters
    ----------
    finder : Finder
    run : Path
        The folder of that run, with its weights.
    images : float32 array (N, 101, 101, 1)
        Stretched stamps.

    Returns
    -------
    dict
        Largest and median difference in size, images on the other side of p = 0.5, and their number.
    """
    own = _predict(resnet.logit_model(training.load_network(run)), images)
    ours = _predict(finder.network, images)
    apart = np.abs(ours - own)
    turned = int(((ours >= 0) != (own >= 0)).sum())
    return {"largest": float(apart.max()), "median": float(np.median(apart)), "turned": turned, "images": len(images)}


def _predict(network, images):
    found, n = [np.zeros(0, np.float32)], len(images)
    for i in range(0, n, PREDICT_BATCH):
        # always the same shape: one compilation, and the same sums whatever the number of stamps
        part = images[np.minimum(np.arange(i, i + PREDICT_BATCH), n - 1)]
        found.append(network.predict_on_batch(part)[:, 0])
    return np.concatenate(found)[:n]


def _digest(about, arrays):
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _keep_range(file, low, high):
    """Write the range of calibration logits, with a digest of its own.

    That of the weights stays as it was without: what is kept of a finder, such as scores, is known by it.
    """
    file.attrs["calibrated"] = low, high
    file.attrs["calibrated sha256"] = _range_digest(file.attrs["sha256"], low, high)


def _range_digest(stated, low, high):
    return hashlib.sha256(f"{stated} {float(low)!r} {float(high)!r}".encode()).hexdigest()


def export_median(parameters: Parameters, where: Path | None = None) -> Iterator[str]:
    """Write the run of median validation loss of each experiment as a finder, ``<experiment>.h5``.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        Its profile, data and experiments.
    where : Path, optional
        The folder; ``weights/`` by default, never that of an installed package.

    Yields
    ------
    str
        After each: its file, its run, and how far float16 moves the logits of the test set.

    Raises
    ------
    lensdet.parameters.ParameterError
        Where an experiment has no complete run.
    """
    p, where = parameters, where or storage.root_or_here() / "weights"
    opened, rows = frozen_sets.frozen_bank(p, "test")
    images = mocklens.images(opened, "test", rows, p.renormalise)
    for experiment in p.experiments:
        complete = runs.complete_runs(p, experiment, opened.data_key)
        if not complete:
            raise ParameterError(f"no complete run of {experiment} in {storage.results_dir() / p.profile}; train it by "
                                 f"lensdet train -p profile {p.profile} -p experiments {experiment}")  # fmt: skip
        run, path = runs.median_run(complete).folder, where / f"{experiment.replace(':', '_')}.h5"
        export([run], path)
        far = compare(load(path), run, images)
        yield (f"{path}: {path.stat().st_size / 1e6:.1f} MB, {run.parent.name}/{run.name} of {len(complete)} runs; "
               f"float16 moves logits by {far['median']:.1e} (median) to {far['largest']:.1e}, and {far['turned']} of "
               f"{far['images']} test images to the other side of p = 0.5")  # fmt: skip
