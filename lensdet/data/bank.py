"""The bank of stamps: one HDF5 file with pixels and catalogue of each class and split, or of what is needed of one.

    /lrg/train/pixels        float16 (n, 101, 101), normalised by Eq. 4.1
    /lrg/train/catalogue     a row an object: id, measured noise, minimum, maximum, and what is known of it

and so on for ``lrg``, ``source``, ``contaminant`` in ``train``, ``validation``, ``calibration``, ``test``.  Sixteen
bits round a pixel by at most 2.4e-4 of the peak, a thirtieth of the sky noise.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from astropy.stats import mad_std
from filelock import FileLock
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from lensdet import storage
from lensdet.data import stamps
from lensdet.parameters import Parameters
from lensdet.storage import digest

CLASSES = ("lrg", "source", "contaminant")
SPLITS = ("train", "validation", "calibration", "test")
# First ids of sets that are in no split.  An object of one class and id is one and the same in all sets, so that they
# must not overlap.  Two do: LRGs and sources of `domain_shift` are the first of the large test set.  Both sets only
# test, and results that are kept have these ids.  benchmarks/candidates.py has those from 40 million on.
FIRST_INDEPENDENT = 10_000_000  # negatives and lensed sources of `independent_test`
FIRST_INDEPENDENT_HOST = 15_000_000  # LRGs of its mock lenses: the i-th is the same however many negatives there are
FIRST_LARGE = 20_000_000  # the large test set
FIRST_SHIFTED = 20_000_000  # `domain_shift`
FIRST_SHOWN = 30_000_000  # `demonstration`
BATCH = 64  # stamps that a worker makes at once
_OF_CLASS = {cls: folder for folder, cls in stamps.FOLDERS.items()}
READ = 8192  # files read at once: 330 MB


@dataclass(frozen=True)
class Bank:
    """An open bank: where it lies, the key of its data, and how many files could not be used."""

    path: Path
    data_key: str
    rejected: int = 0

    def pixels(self, cls: str, split: str, places: slice | ArrayLike = slice(None)) -> NDArray[np.float16]:
        """Normalised stamps, float16 (n, 101, 101): all, or those at some places, which must increase."""
        with h5py.File(self.path) as file:
            return file[cls][split]["pixels"][places]

    def catalogue(self, cls: str, split: str) -> pd.DataFrame:
        """Catalogue of a class and split, a pandas data frame with a row a stamp."""
        with h5py.File(self.path) as file:
            table = pd.DataFrame.from_records(file[cls][split]["catalogue"][:])
        for column in (c for c in table if isinstance(table[c].iloc[0], bytes)):
            table[column] = table[column].str.decode("utf-8", "replace")
        return table

    def has(self, cls: str, split: str) -> bool:
        """Whether there are stamps of a class in a split."""
        with h5py.File(self.path) as file:
            return f"{cls}/{split}" in file

    def count(self, cls: str, split: str) -> int:
        """Number of stamps."""
        with h5py.File(self.path) as file:
            return file[cls][split]["pixels"].shape[0]


def open_bank(parameters: Parameters, only: tuple[str, Mapping[str, ArrayLike]] | None = None) -> Bank:
    """The bank of these parameters: opened if it is there, else built (once, whoever asks first).

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        With ``data``, stamps are read from that folder; without, they are simulated.
    only : tuple of (str, dict), optional
        Nothing but some stamps of one split of a simulated survey, which are there much sooner: the split, and their
        places in it by class.  See `frozen_sets.frozen_bank`.  "large" is the large test set, which no bank
        of a whole survey has.

    Returns
    -------
    Bank

    Raises
    ------
    lensdet.data.stamps.StampError
        Of a folder: a class is empty, or (with ``on_bad="raise"``) a file cannot be used; names it.
    """
    source = _Folder(parameters) if parameters.data else _Survey(parameters)
    name = "bank.h5"
    if only:
        split, places = only[0], {cls: np.asarray(chosen).tolist() for cls, chosen in only[1].items()}
        only = split, places
        name = f"bank-{digest(only)}.h5"
    path = storage.build_dir() / "banks" / source.name / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rejected = path.with_name("rejected.csv")
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            for half in path.parent.glob(f".????????.{path.name}"):  # left by a build that was killed
                half.unlink()
            with storage.atomic(path) as beside, h5py.File(beside, "w") as file:
                source.fill(file, rejected, only)
                file.attrs["parameters"] = json.dumps(parameters.model_dump(mode="json"))
    if not parameters.data:
        return Bank(path, parameters.survey_key())
    bad = pd.read_csv(rejected, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
    if parameters.on_bad == "raise" and len(bad):  # the bank may have been built when they were left out
        raise stamps.StampError(*bad.iloc[0])
    with h5py.File(path) as file:
        return Bank(path, parameters.folder_key(file.attrs["pixels"]), len(bad))


def is_built(parameters: Parameters) -> bool:
    """Whether the bank of a simulated survey is there, with all of its stamps."""
    return (storage.build_dir() / "banks" / _Survey(parameters).name / "bank.h5").exists()


def data_key(parameters: Parameters) -> str:
    """The key of the data: of a simulated survey without building it, of a folder by opening its bank."""
    return open_bank(parameters).data_key if parameters.data else parameters.survey_key()


def split_sizes(n_train: int) -> dict[str, int]:
    """Stamps in each split: 80/10/10, and as many again as validation for calibration."""
    return {split: n_train if split == "train" else max(1, round(n_train / 8)) for split in SPLITS}


class _Survey:
    """Stamps that are `simulated`."""

    def __init__(self, parameters):
        self.parameters, self.name = parameters, f"survey-{parameters.bank_key()}"

    def fill(self, file: h5py.File, _rejected: Path, only: tuple[str, dict[str, list[int]]] | None) -> None:
        p, (wanted, places) = self.parameters, only or (None, None)
        for cls, n_train in zip(CLASSES, (p.n_lrg, p.n_source, p.n_contaminant), strict=True):
            first, splits = 0, {}
            for split, n in split_sizes(n_train).items():
                splits[split] = range(first, first + n)
                first += n
            if only:
                splits["large"] = range(FIRST_LARGE, FIRST_LARGE + p.large_size)
            for split, ids in splits.items():
                if only:
                    ids = [ids[place] for place in places[cls]] if split == wanted else []
                if not ids:
                    continue
                batches = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
                make = Parallel(n_jobs=p.workers, return_as="generator")(
                    delayed(_simulate)(cls, batch, p) for batch in batches
                )
                _write(file.create_group(f"{cls}/{split}"), make, len(ids), f"{cls}, {split}")


class _Folder:
    """Stamps from a folder in the thesis' layout.

    A bank is found again by names, sizes and times of the files; the key of the data is that of the pixels themselves.
    Without a folder ``calibration``, that set is drawn from the validation stamps, in other pairs.
    """

    def __init__(self, parameters):
        self.parameters, self.files = parameters, stamps.find_stamps(parameters.data)
        listing = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for files in self.files.values() for f in files]
        self.name = f"folder-{hashlib.sha256(repr(listing).encode()).hexdigest()[:8]}"

    def fill(self, file: h5py.File, rejected: Path, _only: object) -> None:
        p, pixels, rejections = self.parameters, hashlib.sha256(), []
        for (split, cls), files in sorted(self.files.items()):
            blocks, tables = [], []
            for i in range(0, len(files), READ):
                read = stamps.read_stamps(files[i : i + READ], p.on_bad, p.workers, description=f"{cls}, {split}")
                rejections += read.rejections
                if not read.paths:
                    continue
                blocks.append(sixteen_bits(read.pixels))
                table = pd.DataFrame({"id": i + np.arange(len(read.paths)), "file": [Path(f).name for f in read.paths]})
                if cls == "source":
                    table = pd.concat([table, pd.DataFrame(read.catalogue)], axis=1)
                tables.append(table.assign(**measured(read.pixels)))
                pixels.update(blocks[-1])
            if not sum(map(len, blocks)):
                stamps.write_rejections(rejected, rejections)
                raise stamps.StampError(
                    p.data / split / _OF_CLASS[cls], "empty class", f"no file can be used; see {rejected}"
                )
            pixels.update(f"{cls}/{split}/{sum(map(len, blocks))}".encode())  # moving a file to another class counts
            group = file.create_group(f"{cls}/{split}")
            group.create_dataset("pixels", data=np.concatenate(blocks))
            group.create_dataset("catalogue", data=records(pd.concat(tables)))
        stamps.write_rejections(rejected, rejections)
        if rejections:
            print(f"{len(rejections)} of {sum(map(len, self.files.values()))} files cannot be used; see {rejected}")
        for cls in CLASSES:
            if "calibration" not in file[cls]:
                file[cls]["calibration"] = file[cls]["validation"]
        file.attrs["pixels"] = pixels.hexdigest()


def simulated(
    cls: str, ident: int, parameters: Parameters, **left_out: bool
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """One object of any of `CLASSES`, as `lensing.render_source` and the survey's own module draw it.

    Parameters
    ----------
    cls : {"lrg", "source", "contaminant"}
    ident : int
    parameters : lensdet.parameters.Parameters
    **left_out : bool
        Of an LRG or contaminant, as `simulation.render` has it.

    Returns
    -------
    pixels : float32 array (101, 101)
        In flux (of the broad survey over the noise); `sixteen_bits` makes of them what a bank keeps.
    truth : dict
    """
    from lensdet.data import broad, lensing, simulation  # lenstronomy takes seconds to import: where it is needed

    if cls == "source":
        return lensing.render_source(ident, parameters)
    survey = {"thesis": simulation, "broad": broad}[parameters.simulation]
    return survey.render(cls, ident, parameters, **left_out)


def simulated_again(cls: str, ident: int, parameters: Parameters) -> tuple[NDArray, NDArray]:
    """The light of a simulated stamp's neighbours, without noise, and the stamp without them: (101, 101), in flux.

    Parameters are those of `simulated`, with a class other than "source".
    """
    full, bare = (simulated(cls, int(ident), parameters, neighbours=kept)[0] for kept in (True, False))
    return full - bare, bare


def _simulate(cls, ids, parameters):
    drawn = [simulated(cls, i, parameters) for i in ids]
    pixels = np.stack([pixels for pixels, _ in drawn])
    return pixels, pd.DataFrame({"id": ids, **pd.DataFrame([truth for _, truth in drawn])})


def sixteen_bits(pixels: ArrayLike) -> NDArray[np.float16]:
    """Stamps (..., 101, 101) in any unit as a bank keeps them: normalised (Eq. 4.1; raises as that does), float16."""
    # by NumPy: HDF5's own conversion (1.14.6) halves values that round up to a power of two
    return stamps.normalise(pixels).astype(np.float16)


def measured(pixels: NDArray) -> dict[str, NDArray]:
    """Noise (sigma from the median absolute deviation), minimum and maximum of each stamp, in its own units."""
    return {
        "noise": mad_std(pixels, axis=(1, 2)),
        "minimum": pixels.min((1, 2)),
        "maximum": pixels.max((1, 2)),
    }


def _write(group, batches, n, label):
    data = group.create_dataset("pixels", (n, *stamps.SHAPE), np.float16, chunks=(1, *stamps.SHAPE))
    tables, done = [], 0
    with tqdm(total=n, desc=label, unit="stamp", disable=n < 200, leave=False, mininterval=0.5) as bar:
        for pixels, table in batches:
            data[done : done + len(pixels)] = sixteen_bits(pixels)
            tables.append(table.assign(**measured(pixels)))
            done += len(pixels)
            bar.update(len(pixels))
    group.create_dataset("catalogue", data=records(pd.concat(tables)))


def records(table: pd.DataFrame) -> np.ndarray:
    """A catalogue as a structured array for HDF5, text as bytes."""
    strings = [c for c in table if pd.api.types.is_string_dtype(table[c])]
    table = table.assign(
        **{c: table[c].str.encode("utf-8", "surrogateescape") for c in strings}
    )  # HDF5 has bytes, not Python's strings
    return table.to_records(index=False, column_dtypes={c: f"S{table[c].str.len().max()}" for c in strings})
