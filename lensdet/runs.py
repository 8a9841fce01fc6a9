"""A run: one folder with what a training left, its logits, rows, history, parameters and provenance."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from lensdet.storage import atomic, results_dir, root

if TYPE_CHECKING:
    from lensdet.parameters import Parameters

VERSIONS_OF = (
    "lensdet",
    "tensorflow",
    "keras",
    "jax",
    "jaxlib",
    "torch",
    "numpy",
    "numba",
    "scipy",
    "astropy",
    "lenstronomy",
    "h5py",
)


def device() -> str:
    """What the network runs on: the names of the GPUs that the backend sees, or the CPU and its number of cores."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        gpus = [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    else:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return ", ".join(gpus) if gpus else f"CPU, {os.cpu_count()} cores"


def versions(names: Iterable[str] = VERSIONS_OF) -> dict[str, str]:
    """Versions of packages, of all that matter to a result where none are named, by name, of those that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def provenance() -> dict[str, Any]:
    """What made a result: versions, backend, device, system, oneDNN's switch, and the commit where there is one."""
    import keras

    return {
        "versions": versions(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "device": device(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),  # "1" on, "0" off, None as TensorFlow has it
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the repository, with ``+`` where tracked files differ from it; None outside it, or outside git."""
    try:
        git = ["git", "-C", str(root())]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no repository is one of the former
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


@dataclass(frozen=True, order=True)
class Run:
    """One folder of results: what a training left.

    Nothing is read before it is asked for.
    """

    folder: Path

    @property
    def number(self) -> int:
        """Which run of its experiment it is, from 1: it is paired with that of every other experiment."""
        return int(self.folder.name[4:])

    @property
    def is_complete(self) -> bool:
        """Whether it has ended: its logits are written last."""
        return (self.folder / "logits.h5").exists()

    @property
    def history(self) -> pd.DataFrame:
        """What was measured after each chunk: a row a chunk."""
        return pd.read_csv(self.folder / "history.csv")

    @property
    def provenance(self) -> dict[str, Any]:
        """What made it: versions, device, commit, seconds, the chunk of each selector's checkpoint."""
        return json.loads((self.folder / "provenance.json").read_text())

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides its result, as it was written when it began."""
        return json.loads((self.folder / "parameters.json").read_text())

    def logits(self, selector: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels and logits of a frozen set by a selector's checkpoint: two float32 arrays (N,).

        Raises
        ------
        FileNotFoundError
            Where the run is not complete, or was not scored on the large test set.
        """
        if not self.is_complete:
            raise FileNotFoundError(f"{self.folder}: no complete run; train it with notebooks/02_losses.py")
        if name == "large":
            with self._large() as file:
                found = file[f"logits/{selector}/large"][:]
            return self.rows(name)["label"], found
        with h5py.File(self.folder / "logits.h5") as file:
            return file[f"rows/{name}"]["label"], file[f"logits/{selector}/{name}"][:]

    def rows(self, name: str) -> np.ndarray:
        """Rows of a set that it was scored on, of dtype `mocklens.ROW` (N,)."""
        if name == "large":  # which all runs share
            with self._large() as file:
                path = results_dir() / f"large-{file.attrs['set']}" / "rows.h5"
            if not path.exists():
                raise FileNotFoundError(
                    f"{path}: rows of the large test set; run notebooks/02_losses.py, which writes them"
                )
            with h5py.File(path) as file:
                return file["rows"][:]
        with h5py.File(self.folder / "logits.h5") as file:
            return file[f"rows/{name}"][:]

    def fingerprint(self, selector: str) -> str:
        """Eight hexadecimal digits of what a checkpoint says of the calibration set: another training has others."""
        return f"{zlib.crc32(self.logits(selector, 'calibration')[1].tobytes()):08x}"

    def scored_on_large(self, key: str) -> bool:
        """Whether it was scored on the large test set of this key."""
        if not (self.folder / "large.h5").exists():
            return False
        with self._large() as file:
            return file.attrs["set"] == key

    def check(self, parameters: "Parameters", loss: str, number: int, data_key: str) -> None:
        """Make sure that it is the run that its folder is named for.

        Parameters
        ----------
        parameters, loss, data_key
            As of `run_folder`.
        number : int
            The run's, as in `Run.number`.

        Raises
        ------
        ValueError
            Where its ``parameters.json`` differs, naming what.
        """
        found = self.parameters
        wanted = parameters.experiment(loss, data_key) | {"run": number}
        differs = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        if differs:
            raise ValueError(
                f"{self.folder} holds another run: {', '.join(differs)} differ; remove the folder to train it anew"
            )

    def _large(self):
        """The open file of its logits of the large test set."""
        path = self.folder / "large.h5"
        if not path.exists():
            raise FileNotFoundError(f"{path}: not scored on the large set; remove {self.folder} to train it anew")
        return h5py.File(path)


def run_folder(parameters: "Parameters", loss: str, run: int, data_key: str) -> Path:
    """``results/<profile>/<experiment>-<hash>/run_03``: the place of a run, decided by all that decides its result.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    loss : str
        An experiment, as in `Parameters.experiments`; or ``IDE_3`` or ``IDE_6``.
    run : int
        From 1.
    data_key : str
        Of the data, as from `bank.data_key`.
    """
    return results_dir() / parameters.profile / parameters.experiment_name(loss, data_key) / f"run_{run:02d}"


def complete_runs(parameters: "Parameters", loss: str, data_key: str) -> list[Run]:
    """The complete runs among 1 ... ``runs`` of an experiment, each checked to be what it is named for.

    Parameters are those of `run_folder`.
    """
    return _complete(parameters, loss, range(1, parameters.runs + 1), data_key)


def all_runs(parameters: "Parameters", loss: str, data_key: str) -> list[Run]:
    """All complete runs of an experiment that are there, beyond ``runs`` too; checked as `complete_runs`.

    Parameters are those of `run_folder`.
    """
    there = run_folder(parameters, loss, 1, data_key).parent.glob("run_*")
    return _complete(parameters, loss, sorted(int(f.name[4:]) for f in there if f.name[4:].isdigit()), data_key)


def _complete(parameters, loss, numbers, data_key):
    found = [Run(run_folder(parameters, loss, number, data_key)) for number in numbers]
    found = [run for run in found if run.is_complete]
    for run in found:
        run.check(parameters, loss, run.number, data_key)
    return found


def median_run(runs: list[Run], selector: str = "loss") -> Run:
    """The run of median best validation loss (the lower one of two in the middle)."""
    best = sorted((run.history[selector].min(), run) for run in runs)
    return best[(len(best) - 1) // 2][1]


def hardware(runs: Iterable[Run]) -> str:
    """What some runs were trained on, in words: devices from their provenance."""
    return "; ".join(sorted({run.provenance["device"] for run in runs}))


def is_kept(path: Path) -> bool:
    """Whether a file of results is small and says what came of a run: no weights, no state, no lock, nothing half."""
    return (
        path.suffix in (".json", ".csv", ".parquet", ".h5")
        and not path.name.endswith(".weights.h5")
        and path.name[0] != "."
    )


def pack(path: str | os.PathLike, folders: Iterable[Path]) -> None:
    """Put what is small in some folders of results (no weights, no state) into a ZIP file, by their place in results/.

    Unpack with ``python -m zipfile -e FILE results/``.
    """
    with atomic(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(f for folder in folders for f in folder.iterdir() if is_kept(f)):
            file.write(member, member.relative_to(results_dir()))


def write_logits(
    path: str | os.PathLike, logits: Mapping[str, Mapping[str, np.ndarray]], rows: Mapping[str, np.ndarray]
) -> None:
    """Write logits by selector and set, and the rows of each set, as one HDF5 file, atomically.

    Parameters
    ----------
    logits : dict of dict of float32 array (N,)
        ``logits[selector][set]``.  Logits and not probabilities: those tie where they saturate.
    rows : dict of structured array (N,)
        ``rows[set]``, of dtype `mocklens.ROW`.
    """
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        for name, array in rows.items():
            file.create_dataset(f"rows/{name}", data=array, compression="gzip")
        for selector, sets in logits.items():
            for name, array in sets.items():
                file.create_dataset(f"logits/{selector}/{name}", data=array.astype(np.float32))


def write_large(path: str | os.PathLike, logits: Mapping[str, np.ndarray], key: str) -> None:
    """Write logits of the large test set by selector, and the set's key, as one HDF5 file, atomically.

    Selectors that share a checkpoint, and so an array, share it here too.

    Parameters
    ----------
    logits : dict of float array (N,)
        ``logits[selector]``; kept as float32.
    key : str
        From `frozen_sets.large_key`.
    """
    written = {}
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["set"] = key
        for selector, array in logits.items():
            if id(array) not in written:
                packed = {"compression": "gzip", "shuffle": True, "track_times": False}
                data = array.astype(np.float32)
                written[id(array)] = file.create_dataset(f"logits/{selector}/large", data=data, **packed)
            else:
                file[f"logits/{selector}/large"] = written[id(array)]


def write_rows(path: str | os.PathLike, rows: np.ndarray) -> None:
    """Write rows, a structured array of dtype `mocklens.ROW` (N,), as an HDF5 file, atomically."""
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        file.create_dataset("rows", data=rows, compression="gzip", shuffle=True, track_times=False)
