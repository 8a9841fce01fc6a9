"""Where files lie, and how they are written: folders, sums, nothing half written."""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

if TYPE_CHECKING:
    from lensdet.parameters import Parameters

SUMS = "SHA256SUMS"
OUTPUTS = "application/vnd.lensdet.told+json"  # type of what `register_outputs` leaves in a notebook


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


def write_csv(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    """Write a data frame as CSV, atomically, with enough digits to read the same floats back."""
    with atomic(path) as beside:
        frame.to_csv(beside, index=False)


def kept_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table that takes long to make: read from ``path``, where what ``make()`` returns is written first if need be.

    Floats are the same either way.  As `verified`, it raises where the file is not what was written.
    """
    if not path.exists():
        table = make()
        with with_checksum(path):
            write_csv(path, table)
    return pd.read_csv(verified(path))


def digest(content: Any) -> str:
    """Eight hexadecimal digits that name some JSON-ready content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def sha(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def with_checksum(*paths: Path) -> Iterator[None]:
    """Put the sums of some files of one folder into its ``SHA256SUMS`` when the block that writes them ends well.

    ``sha256sum -c SHA256SUMS`` reads it, too.  They are not listed while they are written: whatever stops that, no file
    is left that differs from its sum.
    """
    beside = paths[0].with_name(SUMS)
    if not _sums(beside).keys().isdisjoint(path.name for path in paths):
        _change_sums(beside, {path.name: None for path in paths})
    yield
    _change_sums(beside, {path.name: sha(path) for path in paths})
    register_outputs(kept=[os.path.relpath(path, results_dir()) for path in paths])


def register_outputs(**files: list[str]) -> None:
    """Leave names of files in the output of the cell that wrote them, unseen: for `lensdet.machinery`.

    ``drawn`` are those in the profile's folder of figures/, ``kept`` those in results/.
    """
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        shell.display_pub.publish({OUTPUTS: files})


def verified(path: Path, part_of: Path | None = None) -> Path:
    """The path of a result, whose content is what the ``SHA256SUMS`` beside it says; what is not listed there passes.

    Parameters
    ----------
    path : Path
    part_of : Path, optional
        The folder that has to be computed anew with it, where it is not the file alone.

    Raises
    ------
    ValueError
        Where it is not.
    """
    digest = _sums(path.with_name(SUMS)).get(path.name)
    if digest not in (None, sha(path)):
        raise ValueError(
            f"{path}: changed or damaged, its SHA-256 is not that in {SUMS}; restore it (git restore), or remove "
            f"{part_of or path} to compute it anew"
        )
    return path


def _sums(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _change_sums(path, changed):
    lock = build_dir() / "sums.lock"  # not beside them: nothing else lies in results/
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock), atomic(path) as beside:
        sums = {**_sums(path), **changed}  # as they are now: others may have been at it
        beside.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()) if digest))


def real_stamps(parameters: "Parameters") -> Path:
    """The folder of real stamps to score; it may not exist."""
    return parameters.real_stamps or root_or_here().parent / "shared" / "data" / "cutouts"
