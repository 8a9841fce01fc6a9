"""What a notebook's figures were made from, and whether they still would be: nothing that is up to date runs again.

A record, ``build/<profile>/02_losses.json``, is written when a notebook has ended well.  It holds the SHA-256 of the
notebook, of each module of lensdet that figures depend on, of each result of its profile and of each file
that it drew, with the parameters and versions.  A notebook without a record is stale, so that a new clone draws all.
Weights of runs are not looked at: they are not part of the committed results, and what they say is in the logits;
finders in ``weights/`` are, by a notebook that loads them.

A notebook may read any result of its profile: which ones, nothing declares.  What a *later* notebook has added since
(heat maps, networks of ensembles) it cannot have read, and that alone does not make it stale.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lensdet import runs, storage
from lensdet.parameters import resolve
from lensdet.runs import Run
from lensdet.storage import sha

PACKAGE = Path(__file__).parents[1]
# As much part of a figure or table as what computed it.
DRAWN_BY = ("jinja2", "matplotlib", "pandas", "pillow", "scikit-learn", "seaborn", "tabulate")


def _drawing_code() -> list[Path]:
    """Modules that a figure may depend on: all but what runs notebooks."""
    outside = {"machinery", "papermill", "__main__.py"}
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in outside]


def result_files(profile: str) -> dict[str, str]:
    """SHA-256 of each result of a profile by its place in ``results/<profile>``; runs that are under way are left out.

    Without weights: they are not part of the committed results, and what they say is in the logits.
    """
    folder, found = storage.results_dir() / profile, {}
    for path in sorted(folder.rglob("*")):
        under_way = path.parent.name.startswith("run_") and not Run(path.parent).is_complete
        if path.is_file() and runs.is_kept(path) and not under_way:
            found[path.relative_to(folder).as_posix()] = sha(path)
    return found


def made_from(notebook: Path, profile: str) -> dict[str, dict[str, Any]]:
    """All that decides what a notebook draws, by kind and name: notebook, code, parameters, versions, finders, stamps,
    results.

    Parameters
    ----------
    notebook : Path
    profile : str

    Returns
    -------
    dict of dict
        JSON-ready.
    """
    source, parameters = notebook.read_text(), resolve({"profile": profile})
    running = {"python": platform.python_version(), "backend": os.environ.get("KERAS_BACKEND", "tensorflow")}
    folder = storage.real_stamps(parameters)
    stamps = [path for path in sorted(folder.rglob("*")) if path.is_file()] if "real_stamps" in source else []
    finders = sorted((storage.root() / "weights").glob("*.h5")) if "load_finders" in source else []
    return {
        "notebook": {notebook.name: sha(notebook)},
        "code": {path.relative_to(PACKAGE).as_posix(): sha(path) for path in _drawing_code()},
        "parameters": parameters.model_dump(mode="json"),
        "versions": {**runs.versions(), **runs.versions(DRAWN_BY), **running},
        "finders": {path.name: sha(path) for path in finders},
        "real stamps": {path.relative_to(folder).as_posix(): sha(path) for path in stamps},
        "results": result_files(profile),
    }


def key(made: dict[str, dict[str, Any]]) -> str:
    """One SHA-256 of all in `made_from`."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def executed(notebook: Path, profile: str) -> Path:
    """Where the executed copy of a notebook goes."""
    return storage.build_dir() / profile / f"{notebook.stem}.ipynb"


def record_of(notebook: Path, profile: str) -> dict[str, Any] | None:
    """The record of a notebook's last good run; None where there is none that can be read."""
    record = _read(notebook, profile)
    return record if {"made from", "drawn", "added", "key"} <= record.keys() else None


def _read(notebook, profile):
    try:
        record = json.loads(executed(notebook, profile).with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def begin(notebook: Path, profile: str, made: dict[str, dict[str, Any]]) -> None:
    """Put a note in the record's place before the notebook runs: whatever stops it, it will be stale.

    The note tells which results were there: what is added until it has ended well makes no other notebook stale.

    Parameters
    ----------
    notebook : Path
    profile : str
    made : dict of dict
        From `made_from`.
    """
    note = {"before": sorted(made["results"]), "added": sorted(added_by(notebook, profile, made["results"]))}
    note["drawn before"] = sorted(drawn_before(notebook, profile))
    storage.write_json(executed(notebook, profile).with_suffix(".json"), note)


def drawn_before(notebook: Path, profile: str) -> set[str]:
    """Names of the files that a notebook drew in its last good run: a set."""
    record = _read(notebook, profile)
    return set(record.get("drawn", record.get("drawn before", ())))


def added_by(notebook: Path, profile: str, there: dict[str, str]) -> set[str]:
    """Which of the results that are there a notebook has added, in any of its runs, as far as is known: a set.

    Parameters
    ----------
    notebook : Path
    profile : str
    there : dict of str
        From `result_files`.
    """
    record = _read(notebook, profile)
    since = there.keys() - set(record["before"]) if "before" in record else set()
    return (set(record.get("added", ())) & there.keys()) | since


def told(path: Path) -> tuple[set[str], set[str]]:
    """What an executed notebook has told (`storage.register_outputs`): two sets, of files drawn and results kept."""
    cells = json.loads(path.read_text())["cells"]
    found = [
        o["data"][storage.OUTPUTS] for c in cells for o in c.get("outputs", []) if storage.OUTPUTS in o.get("data", {})
    ]
    return tuple({name for files in found for name in files.get(kind, [])} for kind in ("drawn", "kept"))


def finish(
    notebook: Path, profile: str, made: dict[str, dict[str, Any]], drawn: set[str], kept: set[str], seconds: float = 0.0
) -> None:
    """Write the record: what a run was made from, what it drew, and what it added to the results.

    Parameters
    ----------
    notebook : Path
    profile : str
    made : dict of dict
        `made_from`, as it was before the run: what others changed under way has not been seen.
    drawn, kept : set of str
        From `told`: names in ``figures/<profile>``, and in results/.
    seconds : float
        That it took.
    """
    now, prefix = result_files(profile), f"{profile}/"
    kept = {name.removeprefix(prefix) for name in kept if name.startswith(prefix)} & now.keys()
    added = (added_by(notebook, profile, made["results"]) | kept) & now.keys()
    made = {**made, "results": {**made["results"], **{name: now[name] for name in kept}}}
    record = {"key": key(made), "seconds": round(seconds, 1), "made from": made, "added": sorted(added)}
    folder = storage.figures_dir() / profile
    record["drawn"] = {name: sha(folder / name) for name in sorted(drawn) if (folder / name).is_file()}
    storage.write_json(executed(notebook, profile).with_suffix(".json"), record)


def reasons(notebook: Path, profile: str, later: Iterable[Path] = ()) -> list[str]:
    """Why a notebook has to run: a list of words, empty where all it made is there and would be made again.

    Parameters
    ----------
    notebook : Path
    profile : str
    later : iterable of Path
        Notebooks that come after it.
    """
    record = record_of(notebook, profile)
    if record is None:
        return ["interrupted or failed" if "before" in _read(notebook, profile) else "not run yet"]
    now, then = made_from(notebook, profile), record["made from"]
    by_others = {name for other in later for name in added_by(other, profile, now["results"])} - then["results"].keys()
    now["results"] = {name: digest for name, digest in now["results"].items() if name not in by_others}
    words = []
    for kind, content in now.items():
        if kind == "notebook" and content != then["notebook"]:
            words.append("the notebook changed")
        elif changed := _differences(then.get(kind, {}), content):
            words.append(f"{kind}: {changed}")
    folder = storage.figures_dir() / profile
    files = {name: sha(folder / name) for name in record["drawn"] if (folder / name).is_file()}
    if changed := _differences(record["drawn"], files):
        words.append(f"figures: {changed}")
    if not executed(notebook, profile).is_file():
        words.append("its executed copy is gone")
    return words


def _differences(then, now, most=3):
    """What changed, came or went between two dictionaries, in words; at most so many names of each."""
    found = {
        "changed": [name for name in now if name in then and then[name] != now[name]],
        "new": [name for name in now if name not in then],
        "gone": [name for name in then if name not in now],
    }
    return "; ".join(
        f"{', '.join(names[:most])}{f' and {len(names) - most} more' if len(names) > most else ''} {word}"
        for word, names in found.items()
        if names
    )
