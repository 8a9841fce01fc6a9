"""Draws every figure and table that is out of date: ``tox -e figures``, which is ``doit``.

    tox -e figures                               all that is out of date, two notebooks at a time
    tox -e figures -- list                       what is out of date (R) and what is not (U); `-- info 02` says why
    tox -e figures -- 02 05                      these notebooks
    tox -e figures -- profile=quick              all in one profile; missing runs are trained first
    tox -e figures -- profile=quick fresh=yes    train anew; older results are moved aside, not removed
    LENSDET_PDF=yes tox -e figures               each figure as PDF, too

Without a profile each notebook is drawn in the largest that has all its runs.  Interrupted, the same command goes on
(without fresh=yes).
"""

import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from doit import get_var
from doit.action import CmdAction
from doit.reporter import ConsoleReporter
from doit.tools import config_changed
from filelock import FileLock

from lensdet import runs, storage
from lensdet.chapters import notebooks
from lensdet.chapters.comparison import budgets, index
from lensdet.papermill import paper
from lensdet.parameters import resolve
from lensdet.profiles import BEST, PROFILES

ROOT, BUILD, FIGURES = storage.root(), storage.build_dir(), storage.figures_dir()
NOTEBOOKS = notebooks.paths()
CHOSEN = [number for number in NOTEBOOKS if number in sys.argv] or [*NOTEBOOKS]
# A change of any of these may change any figure; so may another version, or backend.
CODE = [path for path in (ROOT / "lensdet").rglob("*") if path.suffix in (".py", ".j2")
        and path.relative_to(ROOT / "lensdet").parts[0] not in ("papermill", "cli.py", "__main__.py")]  # fmt: skip
DRAWN_BY = ("jinja2", "matplotlib", "pandas", "pillow", "scikit-learn", "seaborn", "tabulate")
SET = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "LENSDET_PDF")}
VERSIONS = config_changed(SET | runs.versions([*runs.VERSIONS_OF, *DRAWN_BY]))
TRAININGS = {"plain": "", "segmented": "-p segmentation text -p experiments bce", "ensembles": "--ensembles"}
KEPT = re.compile(r'"(\S+ is (?:kept as it was|not drawn): .*?)\\n"')  # figures of what is not there
PROFILE, FRESH = get_var("profile"), get_var("fresh") == "yes"
if PROFILE not in (None, *PROFILES) or (FRESH and not PROFILE):
    sys.exit(f"profile is one of {', '.join(PROFILES)}; fresh=yes needs one, such as profile=quick fresh=yes")
PROFILE_OF = {number: PROFILE or notebooks.best_profile(number) for number in NOTEBOOKS}


def _terminated(*_):
    """What was started ends with doit, as it does at Ctrl-C."""
    for child in psutil.Process().children():
        child.send_signal(signal.SIGINT)
    raise KeyboardInterrupt


def _interrupted(kind, *rest):
    if kind is not KeyboardInterrupt:
        return sys.__excepthook__(kind, *rest)
    print(f"interrupted; the same command{', without fresh=yes,' if FRESH else ''} goes on")


class Progress(ConsoleReporter):
    """A line when a task begins, and one with its seconds when it ends."""

    def _line(self, task, words):
        self.outstream.write(f"{task.doc or task.name}: {words}\n")
        self.outstream.flush()

    def execute_task(self, task):
        task.began = time.time()
        if task.actions:
            self._line(task, "runs")

    def add_success(self, task):
        if task.actions:
            self._line(task, f"{time.time() - task.began:.0f} s")
        for words in KEPT.findall(executed(task)):
            self._line(task, words)

    def skip_uptodate(self, task):
        self._line(task, "up to date")

    def add_failure(self, task, fail):
        said = "".join(action.err or "" for action in task.actions).strip().splitlines()
        began = "FAILED" if hasattr(task, "began") else "not run"
        self._line(task, f"{began}: {(said or fail.get_msg().strip().splitlines())[-1]}")
        if '"output_type": "error"' in executed(task):
            self._line(task, f"the cell that failed is in {task.targets[0]}")

    def complete_run(self):
        self.outstream.write("".join(f"{words}\n" for words in self.runtime_errors))


def executed(task) -> str:
    """The text of a notebook's copy that this run has left; "" where there is none."""
    path = Path(task.targets[0] if task.targets else "none")
    new = path.suffix == ".ipynb" and path.exists() and path.stat().st_mtime >= getattr(task, "began", float("inf"))
    return path.read_text() if new else ""


class FiguresThere:
    """Whether all that a notebook drew is still there, and nothing it reads changed while it ran."""

    def __init__(self, number, profile):
        self.number, self.profile = number, profile

    def __repr__(self):
        return f"{self.__doc__} See {FIGURES / self.profile}."

    def __call__(self, task, values):
        began = time.time()
        task.value_savers.append(lambda: {
            "drawn": notebooks.drawn(self.number, self.profile),
            "changed": any(Path(path).stat().st_mtime >= began for path in task.file_dep),
        })  # fmt: skip
        if "changed" not in values:
            return None  # it has not run
        return not values["changed"] and all((FIGURES / self.profile / name).exists() for name in values["drawn"])


BUILD.mkdir(parents=True, exist_ok=True)
DOIT_CONFIG = {"default_tasks": [*NOTEBOOKS, "comparison", "index"], "num_process": 2, "par_type": "thread",
               "continue": True, "verbosity": 0, "reporter": Progress, "backend": "json",
               "dep_file": str(BUILD / "doit.json")}  # fmt: skip
sys.excepthook = _interrupted  # a line in the place of a traceback
if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _terminated)


def task_notebook() -> Iterator[dict]:
    """A notebook, run by papermill; its executed copy goes to build/<profile>/."""
    terminal = sys.stderr.isatty()
    for number, path in NOTEBOOKS.items():
        profile = PROFILE_OF[number]
        copy = BUILD / profile / f"{path.stem}.ipynb"
        copy.parent.mkdir(exist_ok=True)
        read = [
            folder / "logits.h5" for folders in notebooks.run_folders(number, profile).values() for folder in folders
        ]
        if number == "07":
            read += [*(ROOT / "weights" / "thesis").glob("*.h5"), *storage.results_dir().glob("real_hosts.csv")]
        read += storage.real_stamps(resolve({})).rglob("*.fits") if "real_stamps" in path.read_text() else []
        words = [str(path), str(copy), "-p", "profile", profile, *([] if terminal else ["--no-progress-bar"])]
        yield {"basename": number, "doc": f"{path.stem}, profile {profile}", "targets": [str(copy)],
               "actions": [CmdAction([sys.executable, "-m", "papermill", *words], shell=False)],
               "file_dep": [*map(str, [path, *CODE, *read])], "uptodate": [VERSIONS, FiguresThere(number, profile)],
               "verbosity": 2 * terminal}  # fmt: skip


def task_train() -> Iterator[dict]:
    """Trainings of runs that are missing, two side by side, before the notebooks that need them."""
    before = ["aside"] if FRESH else []
    for profile in dict.fromkeys(PROFILE_OF[number] for number in CHOSEN):
        found = [notebooks.run_folders(number, profile) for number in CHOSEN if PROFILE_OF[number] == profile]
        for kind, more in TRAININGS.items():
            folders = dict.fromkeys(folder for by_kind in found for folder in by_kind.get(kind, []))
            missing = [str(folder / "logits.h5") for folder in folders if FRESH or not runs.Run(folder).is_complete]
            words = f"-m lensdet train -p profile {profile} {more} --jobs 2".split()
            if missing:
                yield {"name": f"{profile}-{kind}", "doc": f"trainings, profile {profile}, {kind}: {len(missing)}",
                       "actions": [CmdAction([sys.executable, *words], shell=False)], "targets": missing,
                       "uptodate": [not FRESH], "task_dep": before, "verbosity": 2}  # fmt: skip
                before = [f"train:{profile}-{kind}"]  # one after the other: each takes all cores


def task_aside() -> dict:
    """results of the profile, moved to results/<profile>-aside-1 or the next number"""

    def move_results():
        folder = storage.results_dir() / PROFILE
        for lock in folder.rglob(".lock"):
            FileLock(lock).acquire(timeout=0)  # fails where a training is at work
        free = (folder.with_name(f"{PROFILE}-aside-{n}") for n in itertools.count(1))
        if folder.exists():
            folder.rename(next(path for path in free if not path.exists()))

    return {"actions": [move_results]}


def task_comparison() -> dict:
    """figures/comparison.md and that of each profile: the thesis' claims and the runs that there are"""
    read = [] if FRESH else itertools.chain(*map(budgets.logits, BEST))
    return {"actions": [budgets.save_all], "targets": [str(FIGURES / "comparison.md")], "task_dep": ["train"],
            "file_dep": [*map(str, [*CODE, *read])], "uptodate": [VERSIONS, not FRESH]}  # fmt: skip


def task_paper() -> dict:
    """build/paper/index.html: the executed notebooks as a site"""
    copies = [BUILD / PROFILE_OF[number] / f"{path.stem}.ipynb" for number, path in NOTEBOOKS.items()]
    return {"actions": [lambda: str(paper.write(copies, BUILD / "paper"))], "task_dep": [*NOTEBOOKS, "comparison"]}


def task_index() -> dict:
    """figures/index.md: each figure and table of the thesis"""
    return {"actions": [index.save], "task_dep": [*NOTEBOOKS, "comparison"]}
