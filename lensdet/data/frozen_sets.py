"""The frozen sets: validation, calibration, test, information, and the large test set; what is known of each stamp."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet import runs, storage
from lensdet.data.bank import Bank, is_built, open_bank, split_sizes
from lensdet.data.mocklens import Sizes, draw_rows, sizes
from lensdet.data.random import stream
from lensdet.parameters import Parameters
from lensdet.storage import digest

# The frozen sets: the split each is drawn from.
FROZEN = {"validation": "validation", "calibration": "calibration", "test": "test", "information": "test"}
LARGE = "large"  # the large test set, of stamps in no split; of the embedded survey alone
OF_LARGE = ["label", "host", "stamp_id", "kind", "source_id", "alpha", "einstein_radius", "area_fraction"]  # kept of it
BLOCK = 2048  # stamps of the large test set on the device at once


def frozen_rows(parameters: Parameters, name: str, size: Sizes, redraw: tuple[int, ...] = ()) -> np.ndarray:
    """Rows of a frozen set: positives, then negatives; without warps.  Nothing is drawn twice before all were once.

    Parameters
    ----------
    name : {"validation", "calibration", "test", "information", "large"}
        The information set has mock lenses only.
    size : Sizes
        As from `sizes`, of the split in `FROZEN`; of the large test set ``large_size`` of each class.
    redraw : tuple of int
        Further words for the key, for a validation set drawn anew at every chunk (the ``code`` protocol's).
    """
    rng = stream(parameters.data_seed, f"frozen/{name}", *redraw)

    def pick(n, k):
        rounds = [rng.permutation(n) for _ in range(-(-k // n))]
        return np.concatenate([*rounds, np.zeros(0, np.int64)])[:k].astype(np.int32)

    if name == "information":
        return draw_rows(rng, parameters.information_size, 0, size, parameters, pick)
    n = parameters.large_size if name == LARGE else parameters.frozen_size
    return draw_rows(rng, n, n, size, parameters, pick)


def frozen_bank(parameters: Parameters, name: str) -> tuple[Bank, np.ndarray]:
    """A `bank.Bank` that has the stamps of a frozen set, and its rows for that bank, (N,) of dtype `mocklens.ROW`.

    The rows are those of `frozen_rows` without a redraw.  Of a simulated survey no others are simulated, where the
    whole bank is not there yet: the test set needs some 550 of 10,000 sources.  Pixels are the same either way, and so
    is what `truth` says.
    """
    split = LARGE if name == LARGE else FROZEN[name]
    if split == LARGE:
        size = Sizes(*[parameters.large_size] * 3)
    elif parameters.data is not None or parameters.simulation == "broad" or is_built(parameters):
        opened = open_bank(parameters)
        return opened, frozen_rows(parameters, name, sizes(opened, split))
    else:
        counts = parameters.n_lrg, parameters.n_contaminant, parameters.n_source
        size = Sizes(*(split_sizes(n)[split] for n in counts))
    rows = frozen_rows(parameters, name, size)
    stamps, rows["stamp"] = np.unique(rows["stamp"], return_inverse=True)
    sources, rows["source"] = np.unique(rows["source"], return_inverse=True)
    lrg = stamps < size[0]
    places = {"lrg": stamps[lrg], "contaminant": stamps[~lrg] - size[0], "source": sources}
    if not len(places["contaminant"]):  # mock lenses alone; a bank has all classes
        places["contaminant"] = np.arange(1)
    return open_bank(parameters, (split, places)), rows


def large_rows(parameters: Parameters) -> np.ndarray:
    """Rows of the large test set: of all that may be drawn, where those of `frozen_bank` are of what it simulates."""
    return frozen_rows(parameters, LARGE, Sizes(*[parameters.large_size] * 3))


def blocks(
    bank: Bank, split: str, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, NDArray[np.float16], NDArray[np.float16]]]:
    """Rows of a split and their stamps, a block at a time: rows for these stamps, LRGs with contaminants, sources.

    Of 30,000 stamps at once there would be 600 MB on the host, and as many on the device.

    Parameters
    ----------
    bank : lensdet.data.bank.Bank
    split : str
        Of the bank; "large" for the large test set.
    rows : structured array (N,) of dtype `mocklens.ROW`
        Of that split, such as from `frozen_bank`.

    Yields
    ------
    rows : structured array (n,)
        At most `BLOCK` of them, in order.
    hosts, sources : float16 arrays (k, 101, 101) and (l, 101, 101)
    """
    n_lrg = bank.count("lrg", split)
    for i in range(0, len(rows), BLOCK):
        part = rows[i : i + BLOCK].copy()
        stamps, part["stamp"] = np.unique(part["stamp"], return_inverse=True)
        used, part["source"] = np.unique(part["source"], return_inverse=True)
        lrg = stamps < n_lrg
        hosts = bank.pixels("lrg", split, stamps[lrg]), bank.pixels("contaminant", split, stamps[~lrg] - n_lrg)
        yield part, np.concatenate(hosts), bank.pixels("source", split, used)


def truth(bank: Bank, split: str, rows: np.ndarray) -> pd.DataFrame:
    """What is known of each row, a pandas data frame: class, ids, label, alpha, and the stamps' catalogue columns.

    ``area_fraction`` is the fraction of the stamp where the source is above twice the noise of its lens image, which is
    measured from the median absolute deviation (section 5.3; the published runs took 1.66 times as much).

    Parameters are those of `blocks`.
    """
    lrg, contaminant, source = (bank.catalogue(cls, split) for cls in ("lrg", "contaminant", "source"))
    hosts = pd.concat([lrg.assign(host="lrg"), contaminant.assign(host="contaminant")], ignore_index=True)
    table = hosts.iloc[rows["stamp"]].reset_index(drop=True).rename(columns={"id": "stamp_id", "file": "stamp_file"})
    table.insert(0, "host", table.pop("host"))
    table.insert(0, "label", rows["label"].astype(int))
    table["alpha"] = rows["alpha"]
    positive = rows["label"] == 1
    light = (
        source.iloc[rows["source"]].reset_index(drop=True).rename(columns={"id": "source_id", "file": "source_file"})
    )
    light = light.drop(columns=["noise", "minimum", "maximum"])
    table = pd.concat([table, light.where(np.broadcast_to(positive[:, None], light.shape))], axis=1)
    pixels = bank.pixels("source", split)
    limit = 2 * table["noise"] / table["maximum"]
    fraction = [(a * pixels[s] >= k).mean() for a, s, k in zip(rows["alpha"], rows["source"], limit, strict=True)]
    table["area_fraction"] = np.where(positive, fraction, np.nan)
    return table


def truth_folder(parameters: Parameters, data_key: str) -> Path:
    """Where the truth tables of the frozen sets lie: ``results/<profile>/truth-<key>``."""
    return storage.results_dir() / parameters.profile / f"truth-{data_key}"


def has_truth(parameters: Parameters, data_key: str) -> bool:
    """Whether the truth table of every frozen set is there."""
    return all((truth_folder(parameters, data_key) / f"{name}.parquet").exists() for name in FROZEN)


def large_key(parameters: Parameters) -> str:
    """Eight hexadecimal digits that name the large test set, of any profile that simulates so."""
    return digest(parameters.large())


def large_folder(parameters: Parameters) -> Path:
    """Where truth and rows of the large test set lie: ``results/large-<key>``."""
    return storage.results_dir() / f"large-{large_key(parameters)}"


def has_large(parameters: Parameters) -> bool:
    """Whether there is a large test set: of the thesis' survey, where one is asked for."""
    return bool(parameters.large_size) and parameters.data is None and parameters.simulation == "thesis"


def large_set(parameters: Parameters) -> tuple[Bank, np.ndarray]:
    """The large test set as `frozen_bank` has it; its rows and what is known of them are left in `large_folder`."""
    bank, rows = frozen_bank(parameters, LARGE)
    folder = large_folder(parameters)
    paths = folder / "rows.h5", folder / "truth.parquet"
    if not all(path.exists() for path in paths):
        runs.write_rows(paths[0], large_rows(parameters))
        storage.write_parquet(paths[1], truth(bank, LARGE, rows)[OF_LARGE].round(5))
    return bank, rows


def write_truth(parameters: Parameters, bank: Bank) -> None:
    """Write `truth` of every frozen set to `truth_folder`, ``<set>.parquet``, where it is not there yet."""
    for name, split in FROZEN.items():
        path = truth_folder(parameters, bank.data_key) / f"{name}.parquet"
        if not path.exists():
            table = truth(bank, split, frozen_rows(parameters, name, sizes(bank, split)))
            storage.write_parquet(path, table)
