"""What each numbered notebook needs and draws: its runs, the profile that it is drawn in, its files in figures/."""

import itertools
import json
from pathlib import Path

import h5py

from lensdet import runs, storage
from lensdet.chapters import thesis
from lensdet.experiments import INPUT_DEPENDENT
from lensdet.parameters import resolve
from lensdet.profiles import BEST


def paths() -> dict[str, Path]:
    """The notebooks by number, such as "02"."""
    return {path.name[:2]: path for path in sorted((storage.root() / "notebooks").glob("[0-9][0-9]_*.py"))}


def run_folders(number: str, profile: str) -> dict[str, list[Path]]:
    """Folders of the runs that a notebook needs in a profile, by how they are trained: plain, ensembles, segmented.

    Of 06 those that the thesis has: its best settings are known when it has run.
    """
    if number not in ("02", "03", "04", "05", "06"):
        return {}
    p = resolve({"profile": profile})
    networks = {"plain": [(p, name) for name in (p.experiments if number != "06" else ["bce"])]}
    if number == "05":
        networks["ensembles"] = [(p, name) for name in p.ensembles if name in INPUT_DEPENDENT]
    if number == "06":
        networks["segmented"] = [(p.model_copy(update={"segmentation": p.protocol}), "bce")]
    key, numbers = p.survey_key(), range(1, p.runs + 1)
    return {how: [runs.run_folder(*one, i, key) for one in each for i in numbers] for how, each in networks.items()}


def best_profile(number: str) -> str:
    """The largest profile that has all runs of a notebook; of 01 that of 02, of 07 that of the thesis' finders."""
    for finder in sorted((storage.root() / "weights" / "thesis").glob("*.h5")) if number == "07" else []:
        with h5py.File(finder) as file:
            return json.loads(file.attrs["about"])["made"]["run"].partition("/")[0]
    of = "02" if number in ("01", "07") else number
    needed = {profile: itertools.chain(*run_folders(of, profile).values()) for profile in BEST}
    return next((p for p, folders in needed.items() if all(runs.Run(f).is_complete for f in folders)), BEST[-1])


def drawn(number: str, profile: str) -> list[str]:
    """Names of the files of a notebook in ``figures/<profile>``: its numbered figures and tables, and ``NN_*``."""
    kinds = ("fig", thesis.FIGURES), ("table", thesis.TABLES)
    own = {f"{kind}_{key.replace('.', '_')}" for kind, entries in kinds for key, entry in entries.items()
           if entry.notebook == number}  # fmt: skip
    there = (storage.figures_dir() / profile).glob("[!.]*")
    return sorted(path.name for path in there if path.stem in own or path.name.startswith(f"{number}_"))
