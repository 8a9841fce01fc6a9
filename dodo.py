"""Draws every figure and table that is out of date: ``tox -e figures``, which is ``doit``.

    tox -e figures                               all that is out of date, two notebooks at a time
    tox -e figures -- list                       what is out of date (R) and what is not (U); `-- info 02` says why
    tox -e figures -- 02 05                      these notebooks
    tox -e figures -- profile=quick              all in one profile; missing runs are trained first
    tox -e figures -- profile=quick fresh=yes    train anew; older results are moved aside, not removed

Without a profile each notebook is drawn in the largest that has all its runs.  Interrupted, the same command goes on.
"""

import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
from doit import get_var
from doit.action import CmdAction
from doit.reporter import ConsoleReporter
from doit.tools import config_changed
from filelock import FileLock

from lensdet import runs, storage
from lensdet.chapters.comparison import budgets, index
from lensdet.experiments import INPUT_DEPENDENT
from lensdet.papermill import paper
from lensdet.parameters import resolve
from lensdet.profiles import BEST, PROFILES

ROOT, BUILD, FIGURES = storage.root(), storage.build_dir(), storage.figures_dir()
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
# A change of any of these may change any figure.
CODE = [path for path in (ROOT / "lensdet").rglob("*.py") if not {"papermill", "cli.py", "__main__.py"} & {*path.parts}]
DRAWN_BY = ("jinja2", "matplotlib", "pandas", "pillow", "scikit-learn", "seaborn", "tabulate")
VERSIONS = config_changed(runs.versions([*runs.VERSIONS_OF, *DRAWN_BY]))
TRAININGS = {"plain": "", "segmented": "-p segmentation text -p experiments bce", "ensembles": "--ensembles"}
PROFILE, FRESH = get_var("profile"), get_var("fresh") == "yes"
KEPT = re.compile(r'"(\S+ is (?:kept as it was|not drawn): .*?)\\n"')  # figures of what is not there
if PROFILE not in (None, *PROFILES) or (FRESH and not PROFILE):
    sys.exit(f"profile is one of {', '.join(PROFILES)}; fresh=yes needs one, such as profile=quick fresh=yes")


def executed(task) -> str:
    """The text of a notebook's executed copy; "" where there is none."""
    path = Path(task.targets[0] if task.targets else "none")
    return path.read_text() if path.suffix == ".ipynb" and path.exists() else ""


def _interrupted(kind, *rest):
    print("interrupted; the same command goes on") if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)


class Lines(ConsoleReporter):
    """A line when a task begins, and one with its seconds when it ends."""

    def _line(self, task, words):
        self.outstream.write(f"{task.doc or task.name}: {words}\n")
        self.outstream.flush()

    def execute_task(self, task):
        task.began = time.monotonic()
        if task.actions:
            self._line(task, "runs")

    def add_success(self, task):
        if task.actions:
            self._line(task, f"{time.monotonic() - task.began:.0f} s")
        for words in KEPT.findall(executed(task)):
            self._line(task, words)

    def skip_uptodate(self, task):
        self._line(task, "up to date")

    def add_failure(self, task, fail):
        said = "".join(action.err or "" for action in task.actions).strip().splitlines()
        self._line(task, f"FAILED. {(said or fail.get_msg().strip().splitlines())[-1]}")
        if executed(task):
            self._line(task, f"the cell that failed is in {task.targets[0]}")

    def complete_run(self):
        self.outstream.write("".join(f"{words}\n" for words in self.runtime_errors))


sys.excepthook = _interrupted  # a line in the place of a traceback
BUILD.mkdir(parents=True, exist_ok=True)
DOIT_CONFIG = {"default_tasks": [*NOTEBOOKS, "comparison", "index"], "num_process": 2, "par_type": "thread",
               "continue": True, "verbosity": 0, "reporter": Lines, "backend": "json",
               "dep_file": str(BUILD / "doit.json")}  # fmt: skip


def needed(number: str, profile: str) -> dict[str, list[Path]]:
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


def profile_of(number: str) -> str:
    """The profile that is asked for, or the largest that has all runs of a notebook; of 07 that of the finders."""
    if PROFILE:
        return PROFILE
    for finder in sorted((ROOT / "weights").glob("*.h5")) if number == "07" else []:
        with h5py.File(finder) as file:
            return json.loads(file.attrs["about"])["made"]["run"].partition("/")[0]
    of = "02" if number in ("01", "07") else number  # 01 shows the survey of those runs
    every = {profile: itertools.chain(*needed(of, profile).values()) for profile in BEST}
    return next(
        (profile for profile, folders in every.items() if all(runs.Run(f).is_complete for f in folders)), BEST[-1]
    )


def figures_there(profile: str) -> Callable[..., bool | None]:
    """Whether all figures that a notebook drew are still there, for doit; unknown before it has run."""
    folder, began = FIGURES / profile, time.time()

    def check(task, values):
        task.value_savers.append(lambda: {"drawn": [str(f) for f in folder.glob("*") if f.stat().st_mtime >= began]})
        return all(Path(path).exists() for path in values["drawn"]) if "drawn" in values else None

    return check


def task_notebook() -> Iterator[dict]:
    """A notebook, run by papermill; its executed copy goes to build/<profile>/."""
    terminal = sys.stderr.isatty()
    for number, path in NOTEBOOKS.items():
        profile = profile_of(number)
        copy = BUILD / profile / f"{path.stem}.ipynb"
        copy.parent.mkdir(exist_ok=True)
        read = [folder / "logits.h5" for folders in needed(number, profile).values() for folder in folders]
        read += (ROOT / "weights").glob("*.h5") if number == "07" else []
        read += storage.real_stamps(resolve({})).rglob("*.fits") if "real_stamps" in path.read_text() else []
        words = [str(path), str(copy), "-p", "profile", profile, *([] if terminal else ["--no-progress-bar"])]
        yield {"basename": number, "doc": f"{path.stem}, profile {profile}", "targets": [str(copy)],
               "actions": [CmdAction([sys.executable, "-m", "papermill", *words], shell=False)],
               "file_dep": [*map(str, [path, *CODE, *read])], "uptodate": [VERSIONS, figures_there(profile)],
               "verbosity": 2 * terminal}  # fmt: skip


def task_train() -> Iterator[dict]:
    """Trainings of runs that are missing, two side by side, before the notebooks that need them."""
    before = ["aside"] if FRESH else []
    for profile in dict.fromkeys(map(profile_of, NOTEBOOKS)):
        found = [needed(number, profile) for number in NOTEBOOKS if profile_of(number) == profile]
        for how, more in TRAININGS.items():
            folders = dict.fromkeys(folder for each in found for folder in each.get(how, []))
            missing = [str(folder / "logits.h5") for folder in folders if FRESH or not runs.Run(folder).is_complete]
            words = f"-m lensdet train -p profile {profile} {more} --jobs 2".split()
            if missing:
                yield {"name": f"{profile}-{how}", "doc": f"{len(missing)} trainings, profile {profile}, {how}",
                       "actions": [CmdAction([sys.executable, *words], shell=False)], "targets": missing,
                       "uptodate": [not FRESH], "task_dep": before, "verbosity": 2}  # fmt: skip
                before = [f"train:{profile}-{how}"]  # one after the other: each takes all cores


def task_aside() -> dict:
    """results of the profile, moved to results/<profile>-aside-1 or the next number"""

    def put_aside():
        folder = storage.results_dir() / PROFILE
        for lock in folder.rglob(".lock"):
            FileLock(lock).acquire(timeout=0)  # fails where a training is at work
        aside = (folder.with_name(f"{PROFILE}-aside-{n}") for n in itertools.count(1))
        if folder.exists():
            folder.rename(next(path for path in aside if not path.exists()))

    return {"actions": [put_aside]}


def task_comparison() -> dict:
    """figures/comparison.md and that of each profile: the thesis' claims and the runs that there are"""
    read = [] if FRESH else itertools.chain(*map(budgets.logits, BEST))
    return {"actions": [budgets.save_all], "targets": [str(FIGURES / "comparison.md")], "task_dep": ["train"],
            "file_dep": [*map(str, [*CODE, *read])], "uptodate": [VERSIONS, not FRESH]}  # fmt: skip


def task_paper() -> dict:
    """build/paper/index.html: the executed notebooks as a site"""
    copies = [BUILD / profile_of(number) / f"{path.stem}.ipynb" for number, path in NOTEBOOKS.items()]
    return {"actions": [lambda: str(paper.write(copies, BUILD / "paper"))], "task_dep": [*NOTEBOOKS, "comparison"]}


def task_index() -> dict:
    """figures/index.md: each figure and table of the thesis"""
    return {"actions": [index.save], "task_dep": [*NOTEBOOKS, "comparison"]}
