"""Every notebook, and the trainings that it needs: ``python -m lensdet draw`` draws every figure and table."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
from filelock import FileLock, Timeout

from lensdet import runs, storage
from lensdet.chapters.comparison import index
from lensdet.experiments import ENSEMBLES, INPUT_DEPENDENT
from lensdet.machinery import stale
from lensdet.network.side_by_side import SHARED
from lensdet.parameters import ParameterError, Parameters, resolve
from lensdet.profiles import BEST, PROFILES
from lensdet.runs import Run

TRAIN = ("02", "03", "04", "05", "06")  # numbers of the notebooks that train what is missing


def notebooks() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted((storage.root() / "notebooks").glob("[0-9][0-9]_*.py"))


def needed(notebook: Path, profile: str) -> list[tuple[Parameters, str, list[Path]]]:
    """The runs that a notebook needs in a profile: parameters, name and folders of each experiment.

    Of 06 those that the thesis has: its best settings are known when it has run.
    """
    p, number = resolve({"profile": profile}), notebook.name[:2]
    wanted = [(p, name) for name in (p.experiments if number != "06" else ["bce"])]
    if number == "05":
        wanted += [(p, name) for name in p.ensembles if name in INPUT_DEPENDENT]
    if number == "06":
        wanted.append((p.model_copy(update={"segmentation": p.protocol}), "bce"))
    numbers, key = range(1, p.runs + 1), p.survey_key()
    return [(q, name, [runs.run_folder(q, name, i, key) for i in numbers]) for q, name in wanted]


def best_profile(notebook: Path) -> tuple[str, str]:
    """The largest profile that has all runs of a notebook, and words on them; ``quick`` where there is none.

    07 needs finders, and goes with the profile whose runs they are.
    """
    if notebook.name[:2] == "07":
        profile = finders_profile()
        return profile, f"profile {profile}, of the finders in weights/"
    for profile in BEST:
        folders = [folder for *_, folders in needed(notebook, profile) for folder in folders]
        there, wanted = sum(Run(folder).is_complete for folder in folders), len(folders)
        if there == wanted:
            return profile, f"profile {profile}, {wanted} runs"
    return profile, f"profile {profile}, {there} of {wanted} runs: the others are trained first"


def finders_profile() -> str:
    """The profile that the finders in ``weights/`` were trained in; ``quick`` where there are none."""
    files = sorted((storage.root() / "weights").glob("*.h5"))
    if not files:
        return "quick"
    with h5py.File(files[0]) as file:
        return json.loads(file.attrs["about"])["made"]["run"].partition("/")[0]


def put_aside(profile: str) -> Path | None:
    """Move the results of a profile out of the way, to ``results/<profile>-aside-1`` or the next number.

    Returns
    -------
    Path, or None where there are no results

    Raises
    ------
    RuntimeError
        Where a training is at work in them.
    """
    folder = storage.results_dir() / profile
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    with contextlib.ExitStack() as held:
        for lock in folder.rglob(".lock"):
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                raise RuntimeError(f"{lock.parent}: a training is at work there; wait for it or stop it") from None
        number = 1
        while (aside := folder.with_name(f"{profile}-aside-{number}")).exists():
            number += 1
        folder.rename(aside)
    return aside


def draw(notebook: Path, profile: str) -> list[str]:
    """Run a notebook, and keep its executed copy and the record of what it was made from.

    Where it fails the copy is ``build/<profile>/<notebook>.failed.ipynb``, with the traceback in it.

    Returns
    -------
    list of str
        Files that it drew in an earlier run and no longer does.
    """
    import papermill

    before, copy = stale.drawn_before(notebook, profile), stale.executed(notebook, profile)
    failed = failed_copy(notebook, profile)
    failed.unlink(missing_ok=True)
    made, began = stale.made_from(notebook, profile), time.monotonic()
    stale.begin(notebook, profile, made)
    with storage.atomic(copy) as beside:
        try:
            papermill.execute_notebook(
                str(notebook), str(beside), {"profile": profile}, log_output=True, stderr_file=sys.stderr
            )
        except Exception:
            shutil.copyfile(beside, failed)
            raise
        drawn, kept = stale.told(beside)
    stale.finish(notebook, profile, made, drawn, kept, time.monotonic() - began)
    records = [stale.record_of(other, profile) for other in notebooks()]
    return sorted(before.difference(*[record["drawn"] for record in records if record]))


def draw_and_tell(notebook: Path, profile: str, words: str) -> bool:
    """`draw`, with lines that say what runs, how it ended, and how long it took; returns whether it went well.

    Parameters
    ----------
    notebook : Path
    profile : str
    words : str
        What follows "running": why it runs.
    """
    print(f"{notebook.stem}: running{words}", flush=True)
    start = time.monotonic()
    try:
        left = draw(notebook, profile)
    except KeyboardInterrupt:
        print(f"{notebook.stem}: interrupted. What was drawn before counts; run the same again (without --fresh or "
              "--force) to go on", flush=True)  # fmt: skip
        raise
    except Exception as error:
        print(f"{notebook.stem}: FAILED, see {failed_copy(notebook, profile)}\n{error}", flush=True)
        return False
    print(f"{notebook.stem}: {time.monotonic() - start:.0f} s", flush=True)
    if left:
        print(f"{notebook.stem}: no longer drawn, may be removed: {', '.join(left)}", flush=True)
    return True


def side_by_side(due: list[tuple[Path, str, str]], jobs: int) -> list[str]:
    """Draw notebooks, several at a time in processes of their own; returns the names of those that failed.

    Parameters
    ----------
    due : list of (Path, str, str)
        Notebook, profile, and words to say why it runs.
    jobs : int
        1: one after the other, in this process.

    Raises
    ------
    KeyboardInterrupt
        When all that were running have been interrupted and have ended.
    """
    if min(jobs, len(due)) < 2:
        return [notebook.stem for notebook, profile, words in due if not draw_and_tell(notebook, profile, words)]
    failed, running = [], {}

    def wait(most):
        while len(running) > most:
            for process in [p for p in running if p.poll() is not None]:
                name = running.pop(process)
                if process.returncode:
                    failed.append(name)
            time.sleep(0.1)

    try:
        for notebook, profile, words in due:
            wait(jobs - 1)
            command = [sys.executable, "-m", "lensdet", "draw", "--alone", profile, words, notebook.name[:2]]
            # in a group of its own: it is interrupted once, by us, and says so for itself
            environment = SHARED | os.environ
            running[subprocess.Popen(command, start_new_session=True, env=environment)] = notebook.stem
        wait(0)
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()
    return sorted(failed)


def trainings(notebook: Path, profile: str) -> list[list[str]]:
    """Arguments of ``python -m lensdet train`` for the missing runs of a notebook: a list of lists."""
    if notebook.name[:2] not in TRAIN:
        return []
    missing = [
        (q, name)
        for q, name, folders in needed(notebook, profile)
        if not all(Run(folder).is_complete for folder in folders)
    ]
    own = ["-p", "profile", profile]
    if notebook.name[:2] == "06":
        return [
            [*own, "-p", "experiments", name, *(["-p", "segmentation", q.segmentation] if q.maxtree() else [])]
            for q, name in missing
        ]
    if any(name in ENSEMBLES for _, name in missing):
        return [[*own, "--ensembles"]]  # after their members
    return [own] if missing else []


def train(notebook: Path, profile: str, jobs: int) -> None:
    """Train what a notebook needs and what is missing, some runs side by side, which its kernel cannot.

    What comes of it counts as added by that notebook.  What is left out, as when a training fails, the notebook trains.
    """
    missing = trainings(notebook, profile)
    if missing:
        stale.begin(notebook, profile, stale.made_from(notebook, profile))
    for arguments in missing:
        _train(arguments, jobs)


def _train(arguments, jobs):
    command = [sys.executable, "-m", "lensdet", "train", *arguments, "--jobs", str(jobs)]
    process = subprocess.Popen(command, start_new_session=True)  # interrupted once, by us
    try:
        if process.wait() not in (0, 3):
            print(f"{' '.join(command[1:])}: FAILED, exit status {process.returncode}; the notebook tries", flush=True)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


def failed_copy(notebook: Path, profile: str) -> Path:
    """Where the executed copy of a notebook that failed goes."""
    return stale.executed(notebook, profile).with_suffix(".failed.ipynb")


def compare(profile: str) -> None:
    """Write the comparison of a profile with the thesis, where there is a truth table to take the test set apart by.

    It takes seconds, or a minute on the large test set, and is written whatever is stale.
    """
    from lensdet.chapters.comparison import claims
    from lensdet.data import frozen_sets
    from lensdet.study import Study

    study = Study(resolve({"profile": profile}))
    if (frozen_sets.truth_folder(study.parameters, study.key) / "test.csv").exists():
        stated = claims.save(study, study.resamples())
        print(f"comparison of {profile} with the thesis: {claims.counted(stated)}", flush=True)


def over_budgets() -> None:
    """Write the claims at each number of training images, from the comparisons that there are."""
    from lensdet.chapters.comparison import budgets

    budgets.save()


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="tox -e figures --",
        description="Draw every figure and table into figures/, from the best results there are, then the comparison "
        "with the thesis and the index. Only notebooks run that are new or read something that has changed; what is "
        "missing in results/ is computed first. Executed notebooks go to build/. Interrupted, it goes on when said "
        "again.",
        epilog="exit status: 0 when all is drawn, 1 when a notebook failed, 130 when interrupted",
    )
    made.add_argument("notebooks", nargs="*", metavar="NN", help="numbers of notebooks, such as 02; all without any")
    made.add_argument("--profile", help=f"one of {', '.join(PROFILES)}; missing runs are trained (default: for each "
                      f"notebook the largest of {', '.join(BEST)} that has all of its runs; for 07 that of the "
                      "finders)")  # fmt: skip
    made.add_argument("--jobs", type=int, default=2, metavar="N", help="trainings, then notebooks, that run side by "
                      "side (default: %(default)s; up to 2.5 GB for a training)")  # fmt: skip
    made.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)  # profile and words: one of several side by side
    what = made.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="run nothing; say what is stale, and why")
    what.add_argument("--force", action="store_true", help="run what is up to date, too")
    what.add_argument("--fresh", action="store_true", help="train anew; the profile's results are moved to "
                      "results/<profile>-aside-1, not removed")  # fmt: skip
    return made


def main(arguments: list[str]) -> int:
    """Run the notebooks that are stale; returns the exit status."""
    asked = parser()
    options = asked.parse_args(arguments)
    chosen = _checked(asked, options)
    if options.alone:
        try:
            return int(not draw_and_tell(chosen[0], *options.alone))
        except KeyboardInterrupt:
            return 130
    if options.fresh:
        try:
            aside = put_aside(options.profile)
        except RuntimeError as error:
            asked.error(str(error))
        if aside:
            print(f"results moved to {aside}; if this is interrupted, go on without --fresh", flush=True)
    began, every, profiles, due = time.monotonic(), notebooks(), set(), []
    for notebook in chosen:
        profile, words = (options.profile, None) if options.profile else best_profile(notebook)
        profiles.add(profile)
        why = stale.reasons(notebook, profile, later=every[every.index(notebook) + 1 :])
        if options.list or not (why or options.force or options.fresh):
            state = f"stale: {'; '.join(why)}" if why else "up to date"
            print(f"{notebook.stem}: {state}{f' ({words})' if words else ''}", flush=True)
            continue
        reason = "; ".join(why) or "up to date, but asked to run"
        due.append((notebook, profile, f"{f' in {words}' if words else ''}; {reason}"))
    try:
        for notebook, profile, _ in due:
            train(notebook, profile, options.jobs)
    except KeyboardInterrupt:
        print("interrupted. What was trained before counts; run the same again (without --fresh or --force) to go on")
        return 130
    # a training takes all cores, and the memory: where some are left, notebooks run one after the other
    jobs = 1 if any(trainings(notebook, profile) for notebook, profile, _ in due) else options.jobs
    try:
        failed = side_by_side(due, jobs)
    except KeyboardInterrupt:
        return 130
    if not options.list:
        if not (options.profile or options.notebooks):  # all that there is
            profiles.update(BEST)
        for profile in sorted(profiles):
            try:
                compare(profile)
            except Exception as error:
                failed.append("comparison")
                print(f"comparison of {profile} with the thesis: FAILED\n{error}", flush=True)
        try:
            over_budgets()
        except ValueError as error:
            failed.append("comparison of all profiles")
            print(error, flush=True)
        missing = int((index.save().status == "missing").sum())
        print(f"index of the thesis' figures and tables: {missing} missing", flush=True)
        print(f"{time.monotonic() - began:.0f} s, figures in {storage.figures_dir()}", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _checked(parser, options):
    """The notebooks of these arguments; leaves with words where they cannot be run."""
    try:
        found = notebooks()
    except FileNotFoundError as error:  # an installed lensdet has no notebooks
        parser.error(str(error))
    chosen = [n for n in found if not options.notebooks or n.name[:2] in options.notebooks]
    if unknown := set(options.notebooks) - {n.name[:2] for n in found}:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(n.name[:2] for n in found)}")
    if options.fresh and options.profile is None:
        parser.error("--fresh trains anew, which may take hours: say which profile, such as --profile quick")
    try:
        resolve({"profile": options.profile})
    except ParameterError as error:
        parser.error(str(error))
    return chosen
