"""Where files lie, and how they are written: folders, nothing half written."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from lensdet.parameters import Parameters


def root() -> Path:
    """The repository: ``LENSDET_ROOT``, or the folder above this one that has our notebooks.

    A notebook runs in its own folder under JupyterLab and in the caller's under papermill; nothing in lensdet depends
    on which.

    Raises
    ------
    FileNotFoundError
        Outside the repository, without ``LENSDET_ROOT``.
    """
    if "LENSDET_ROOT" in os.environ:
        return Path(os.environ["LENSDET_ROOT"]).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "notebooks" / "02_losses.py").is_file() and (folder / "lensdet").is_dir():
            return folder
    raise FileNotFoundError("run lensdet inside its repository, or set LENSDET_ROOT to the repository's folder")


def root_or_here() -> Path:
    """The repository (`root`), or outside it the current folder: an installed lensdet needs no repository to work."""
    try:
        return root()
    except FileNotFoundError:
        return Path.cwd()


def results_dir() -> Path:
    """Where run folders lie: ``LENSDET_RESULTS``, or ``results/`` in `root_or_here`."""
    return _place("results")


def build_dir() -> Path:
    """Where what can be made again lies (banks of stamps, executed notebooks): ``LENSDET_BUILD``, or ``build/`` in
    `root_or_here`.
    """
    return _place("build")


def figures_dir() -> Path:
    """Where the notebooks draw, a folder a profile: ``LENSDET_FIGURES``, or ``figures/`` in `root_or_here`."""
    return _place("figures")


def _place(name):
    moved = os.environ.get(f"LENSDET_{name.upper()}")
    return root_or_here() / name if moved is None else Path(moved)


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=".", suffix=f".{path.name}", dir=path.parent)
    os.close(handle)
    beside = Path(beside)
    try:
        yield beside
        beside.chmod(0o644)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic(path) as beside:
        beside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_csv(path: str | os.PathLike, frame: pd.DataFrame, digits: int | None = None) -> None:
    """Write a data frame as CSV, atomically; with enough digits to read the same floats back, or with so many."""
    with atomic(path) as beside:
        frame.to_csv(beside, index=False, float_format=None if digits is None else f"%.{digits}g")


def write_parquet(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    """Write a data frame as Parquet, atomically; what is read back is what a CSV would give, in a third of the size.

    So a float32 is kept as the float64 of its shortest decimals.
    """
    single = frame.select_dtypes("float32").columns
    made = frame.astype(dict.fromkeys(single, str)).astype(dict.fromkeys(single, float))
    with atomic(path) as beside:
        made.to_parquet(beside, index=False, compression="zstd")


def kept_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table that takes long to make: read from ``path``, where what ``make()`` returns is written first if need be.

    Floats are the same either way.
    """
    if not path.exists():
        write_csv(path, make())
    return pd.read_csv(path)


def digest(content: Any) -> str:
    """Eight hexadecimal digits that name some JSON-ready content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def real_stamps(parameters: "Parameters") -> Path:
    """The folder of real stamps to score; it may not exist."""
    return parameters.real_stamps or root_or_here().parent / "shared" / "data" / "cutouts"
