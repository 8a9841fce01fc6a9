"""The notebooks, run one after the other: ``python -m lensdet.chapters`` draws every figure and table."""

import argparse
import contextlib
import shutil
import sys
import time

from filelock import FileLock, Timeout

from lensdet import results, stale
from lensdet.parameters import PROFILES, ParameterError, resolve

BEST = ("thesis", "lite", "quick")  # the best results first


def notebooks():
    """The numbered notebooks, in order."""
    return sorted((results.root() / "notebooks").glob("[0-9][0-9]_*.py"))


def runs_there(profile):
    """How many of the runs that a profile's tables need are complete, and how many there are: two integers."""
    p = resolve({"profile": profile})
    wanted = [*p.experiments, *(name for name in p.ensembles if name.startswith("IDE"))]
    folders = [results.run_folder(p, name, run, p.survey_key()) for name in wanted for run in range(1, p.runs + 1)]
    return sum(map(results.is_complete, folders)), len(folders)


def best_profile():
    """The largest profile whose runs are all there, and a line that says so; ``quick`` where there is none."""
    counts = {profile: runs_there(profile) for profile in BEST}
    words = "; ".join(f"{profile} {there} of {wanted} runs" for profile, (there, wanted) in counts.items())
    for profile, (there, wanted) in counts.items():
        if there == wanted:
            return profile, f"profile {profile}, the largest that is complete in results/: {words}"
    return BEST[-1], f"profile {BEST[-1]}, whose missing runs are trained first: no profile is complete ({words})"


def put_aside(profile):
    """Move the results of a profile out of the way, to ``results/<profile>-aside-1`` or the next number.

    Returns
    -------
    Path, or None where there are no results

    Raises
    ------
    RuntimeError
        Where a training is at work in them.
    """
    folder = results.results_dir() / profile
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


def draw(notebook, profile):
    """Run a notebook, and keep its executed copy and the record of what it was made from.

    Where it fails the copy is ``build/<profile>/<notebook>.failed.ipynb``, with the traceback in it.

    Returns
    -------
    list of str
        Files that it drew in an earlier run and no longer does.
    """
    import papermill

    before, copy = stale.record_of(notebook, profile), stale.executed(notebook, profile)
    failed = copy.with_suffix(".failed.ipynb")
    stale.forget(notebook, profile)
    failed.unlink(missing_ok=True)
    made, folder = stale.made_from(notebook, profile), results.figures_dir() / profile
    there, began = stale.seen(folder), time.monotonic()
    with results.atomic(copy) as beside:
        try:
            papermill.execute_notebook(
                str(notebook), str(beside), {"profile": profile}, log_output=True, stderr_file=sys.stderr
            )
        except Exception:
            shutil.copyfile(beside, failed)
            raise
    drawn = [name for name, written in stale.seen(folder).items() if there.get(name) != written]
    stale.write_record(notebook, profile, made, drawn, before, time.monotonic() - began)
    return sorted(set(before["drawn"]) - set(drawn)) if before else []


def compare(profile):
    """Write the index, and the comparison with the thesis where there is a truth table to take the test set apart by.

    Both take seconds, and are written whatever is stale.
    """
    from lensdet import bank, comparison, index, mocklens, tables

    p = resolve({"profile": profile})
    key = bank.data_key(p)
    if (mocklens.truth_folder(p, key) / "test.csv").exists():
        stated = comparison.save(p, key, tables.resamples(p, key))
        print(f"comparison with the thesis: {comparison.counted(stated)}", flush=True)
    missing = int((index.save().status == "missing").sum())
    print(f"index of the thesis' figures and tables: {missing} missing", flush=True)


def parser():
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
    made.add_argument("--profile", help=f"one of {', '.join(PROFILES)}; missing runs are trained (default: the largest "
                      f"of {', '.join(BEST)} whose runs are all there)")  # fmt: skip
    what = made.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="run nothing; say what is stale, and why")
    what.add_argument("--force", action="store_true", help="run what is up to date, too")
    what.add_argument("--fresh", action="store_true", help="train anew; the profile's results are moved to "
                      "results/<profile>-aside-1, not removed")  # fmt: skip
    return made


def main(arguments=None):
    """Run the notebooks that are stale; returns the exit status."""
    asked = parser()
    options = asked.parse_args(arguments)
    profile, chosen = _checked(asked, options)
    if options.fresh:
        try:
            aside = put_aside(profile)
        except RuntimeError as error:
            asked.error(str(error))
        if aside:
            print(f"results of {profile} moved to {aside}; if this is interrupted, go on without --fresh", flush=True)
    failed, began, every = [], time.monotonic(), notebooks()
    for notebook in chosen:
        why = stale.reasons(notebook, profile, later=every[every.index(notebook) + 1 :])
        if options.list or not (why or options.force or options.fresh):
            print(f"{notebook.stem}: {'stale: ' + '; '.join(why) if why else 'up to date'}", flush=True)
            continue
        print(f"{notebook.stem}: running; {'; '.join(why) or 'up to date, but asked to run'}", flush=True)
        start = time.monotonic()
        try:
            left = draw(notebook, profile)
        except KeyboardInterrupt:
            print(f"{notebook.stem}: interrupted. What was drawn before counts; said again, this goes on", flush=True)
            return 130
        except Exception as error:
            failed.append(notebook.stem)
            copy = stale.executed(notebook, profile).with_suffix(".failed.ipynb")
            print(f"{notebook.stem}: FAILED, see {copy}\n{error}", flush=True)
        else:
            print(f"{notebook.stem}: {time.monotonic() - start:.0f} s", flush=True)
            if left:
                print(f"{notebook.stem}: no longer drawn, may be removed: {', '.join(left)}", flush=True)
    if not options.list:
        compare(profile)
        print(f"{time.monotonic() - began:.0f} s, figures in {results.figures_dir() / profile}", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _checked(parser, options):
    """The profile and the notebooks of these arguments; leaves with words where they cannot be."""
    found, profile = notebooks(), options.profile
    chosen = [n for n in found if not options.notebooks or n.name[:2] in options.notebooks]
    if unknown := set(options.notebooks) - {n.name[:2] for n in found}:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(n.name[:2] for n in found)}")
    if options.fresh and profile is None:
        parser.error("--fresh trains anew, which may take hours: say which profile, such as --profile quick")
    if profile is None:
        profile, words = best_profile()
        print(words, flush=True)
    try:
        resolve({"profile": profile})
    except ParameterError as error:
        parser.error(str(error))
    return profile, chosen


if __name__ == "__main__":
    sys.exit(main())
