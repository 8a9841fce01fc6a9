"""Run folders, provenance, sums, atomic writes."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from filelock import FileLock

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
SUMS = "SHA256SUMS"
TOLD = "application/vnd.lensdet.told+json"  # type of what `tell` leaves in a notebook


def root():
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
def atomic(path):
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


def write_json(path, content):
    """Write ``content`` as indented JSON, atomically."""
    with atomic(path) as beside:
        beside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_csv(path, frame):
    """Write a data frame as CSV, atomically, with enough digits to read the same floats back."""
    with atomic(path) as beside:
        frame.to_csv(beside, index=False)


def kept_table(path, make):
    """A table that takes long to make: read from ``path``, where what ``make()`` returns is written first if need be.

    Floats are the same either way.  As `checked`, it raises where the file is not what was written.
    """
    if not path.exists():
        table = make()
        with sealing(path):
            write_csv(path, table)
    return pd.read_csv(checked(path))


def sha(path):
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def sealing(*paths):
    """Put the sums of some files of one folder into its ``SHA256SUMS`` when the block that writes them ends well.

    ``sha256sum -c SHA256SUMS`` reads it, too.  They are not listed while they are written: whatever stops that, no file
    is left that differs from its sum.
    """
    beside = paths[0].with_name(SUMS)
    if not _sums(beside).keys().isdisjoint(path.name for path in paths):
        _change_sums(beside, {path.name: None for path in paths})
    yield
    _change_sums(beside, {path.name: sha(path) for path in paths})
    tell(kept=[os.path.relpath(path, results_dir()) for path in paths])


def tell(**files):
    """Leave names of files in the output of the cell that wrote them, unseen: for `lensdet.stale` and `lensdet.paper`.

    ``drawn`` are those in the profile's folder of figures/, ``kept`` those in results/.
    """
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        shell.display_pub.publish({TOLD: files})


def checked(path, part_of=None):
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


def device():
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


def versions(names=VERSIONS_OF):
    """Versions of packages, of all that matter to a result where none are named, by name, of those that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def provenance():
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


def real_stamps(parameters):
    """The folder of real stamps to score; it may not exist."""
    return parameters.real_stamps or root_or_here().parent / "shared" / "data" / "cutouts"


def commit() -> str | None:
    """The commit of the repository, with ``+`` where tracked files differ from it; None outside it, or outside git."""
    try:
        git = ["git", "-C", str(root())]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no repository is one of the former
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def run_folder(parameters, loss, run, data_key):
    """``results/<profile>/<experiment>-<hash>/run_03``: the place of a run, decided by all that decides its result."""
    return results_dir() / parameters.profile / parameters.experiment_name(loss, data_key) / f"run_{run:02d}"


def is_complete(folder):
    """Whether a run has ended: its logits are written last."""
    return (folder / "logits.h5").exists()


def complete_runs(parameters, loss, data_key):
    """Folders of the complete runs among 1 ... ``runs`` of an experiment, each checked to be what it is named for."""
    folders = [run_folder(parameters, loss, run, data_key) for run in range(1, parameters.runs + 1)]
    complete = [folder for folder in folders if is_complete(folder)]
    for folder in complete:
        check_run(folder, parameters, loss, int(folder.name[4:]), data_key)
    return complete


def all_runs(parameters, loss, data_key):
    """Folders of all complete runs of an experiment that are there, beyond ``runs`` too; checked as `complete_runs`."""
    found = [f for f in run_folder(parameters, loss, 1, data_key).parent.glob("run_*") if f.name[4:].isdigit()]
    found = sorted((folder for folder in found if is_complete(folder)), key=lambda folder: int(folder.name[4:]))
    for folder in found:
        check_run(folder, parameters, loss, int(folder.name[4:]), data_key)
    return found


def scored_on_large(folder, key):
    """Whether a run was scored on the large test set of this key."""
    if not (folder / "large.h5").exists():
        return False
    with _large(folder) as file:
        return file.attrs["set"] == key


def is_kept(path):
    """Whether a file of results is small and says what came of a run: no weights, no state, no lock, nothing half."""
    return path.suffix in (".json", ".csv", ".h5") and not path.name.endswith(".weights.h5") and path.name[0] != "."


def pack(path, folders):
    """Put what is small in some folders of results (no weights, no state) into a ZIP file, by their place in results/.

    Unpack with ``python -m zipfile -e FILE results/``.
    """
    with atomic(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(f for folder in folders for f in folder.iterdir() if is_kept(f) or f.name == SUMS):
            file.write(member, member.relative_to(results_dir()))


def median_run(folders, selector="loss"):
    """The folder of the run of median best validation loss (the lower one of two in the middle)."""
    best = sorted((load_history(folder)[selector].min(), folder) for folder in folders)
    return best[(len(best) - 1) // 2][1]


def write_logits(path, logits, rows):
    """Write logits by selector and set, and the rows of each set, as one HDF5 file, atomically.

    Parameters
    ----------
    logits : dict of dict of float32 array (N,)
        ``logits[selector][set]``.  Logits and not probabilities: those tie where they saturate.
    rows : dict of structured array (N,)
        ``rows[set]``, of dtype `lensdet.mocklens.ROW`.
    """
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        for name, array in rows.items():
            file.create_dataset(f"rows/{name}", data=array, compression="gzip")
        for selector, sets in logits.items():
            for name, array in sets.items():
                file.create_dataset(f"logits/{selector}/{name}", data=array.astype(np.float32))


def write_large(path, logits, key):
    """Write logits of the large test set by selector, and the set's key, as one HDF5 file, atomically.

    Selectors that share a checkpoint, and so an array, share it here too.
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


def write_rows(path, rows):
    """Write rows, a structured array of dtype `lensdet.mocklens.ROW` (N,), as an HDF5 file, atomically."""
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        file.create_dataset("rows", data=rows, compression="gzip", shuffle=True, track_times=False)


def load_logits(folder, selector, name):
    """Labels and logits of a set by a selector's checkpoint: two float32 arrays (N,).

    Raises
    ------
    FileNotFoundError
        Where the run is not complete, or was not scored on the large test set.
    """
    if not is_complete(folder):
        raise FileNotFoundError(f"{folder}: no complete run; train it with notebooks/02_losses.py")
    if name == "large":
        with _large(folder) as file:
            found = file[f"logits/{selector}/large"][:]
        return load_rows(folder, name)["label"], found
    with h5py.File(checked(folder / "logits.h5", folder)) as file:
        return file[f"rows/{name}"]["label"], file[f"logits/{selector}/{name}"][:]


def _large(folder):
    """The open file of a run's logits of the large test set."""
    path = folder / "large.h5"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not scored on the large set; remove {folder} to train it anew")
    return h5py.File(checked(path, folder))


def load_rows(folder, name):
    """Rows of a set that a run was scored on, of dtype `lensdet.mocklens.ROW` (N,)."""
    if name == "large":  # which all runs share
        with _large(folder) as file:
            path = results_dir() / f"large-{file.attrs['set']}" / "rows.h5"
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: rows of the large test set; run notebooks/02_losses.py, which writes them"
            )
        with h5py.File(checked(path)) as file:
            return file["rows"][:]
    with h5py.File(checked(folder / "logits.h5", folder)) as file:
        return file[f"rows/{name}"][:]


def fingerprint(folder, selector):
    """Eight hexadecimal digits of what a checkpoint says of the calibration set: another training has others."""
    return f"{zlib.crc32(load_logits(folder, selector, 'calibration')[1].tobytes()):08x}"


def load_provenance(folder):
    """What made a run: versions, device, commit, seconds, the chunk of each selector's checkpoint."""
    return json.loads(checked(folder / "provenance.json", folder).read_text())


def hardware(folders):
    """What some runs were trained on, in words: devices from their provenance."""
    return "; ".join(sorted({load_provenance(folder)["device"] for folder in folders}))


def load_history(folder):
    """History of a run, a pandas data frame with a row a chunk."""
    return pd.read_csv(checked(folder / "history.csv", folder))


def check_run(folder, parameters, loss, run, data_key):
    """Make sure that a folder holds the run it is named for.

    Raises
    ------
    ValueError
        Where its ``parameters.json`` differs, naming what, or is not what was written.
    """
    found = json.loads(checked(folder / "parameters.json", folder).read_text())
    wanted = parameters.experiment(loss, data_key) | {"run": run}
    differs = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if differs:
        raise ValueError(f"{folder} holds another run: {', '.join(differs)} differ; remove the folder to train it anew")
