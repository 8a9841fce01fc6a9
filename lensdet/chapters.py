"""The notebooks, run one after the other: ``python -m lensdet.chapters`` draws every figure and table."""

import argparse
import sys
import time

from lensdet import bank, comparison, index, mocklens, results, tables
from lensdet.parameters import PROFILES, ParameterError, resolve


def main(arguments=None):
    """Run the notebooks; returns the exit status, 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="tox -e figures --",
        description="Draw every figure and table into figures/, then the comparison with the thesis and the index. "
        "What is missing in results/ is computed first; executed notebooks go to build/.",
    )
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="numbers of notebooks, such as 02; all without any")
    parser.add_argument("--profile", default="quick", help=f"one of {', '.join(PROFILES)} (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        p = resolve({"profile": options.profile})
    except ParameterError as error:
        parser.error(str(error))
    found = sorted((results.root() / "notebooks").glob("[0-9][0-9]_*.py"))
    chosen = [n for n in found if not options.notebooks or n.name[:2] in options.notebooks]
    if unknown := set(options.notebooks) - {n.name[:2] for n in found}:
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(n.name[:2] for n in found)}")
    import papermill

    failed = []
    for notebook in chosen:
        executed = results.build_dir() / options.profile / f"{notebook.stem}.ipynb"
        executed.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        try:
            papermill.execute_notebook(
                str(notebook), str(executed), {"profile": options.profile}, log_output=True, stderr_file=sys.stderr
            )
        except Exception as error:
            failed.append(notebook.stem)
            print(f"{notebook.stem}: FAILED, see {executed}\n{error}", flush=True)
        else:
            print(f"{notebook.stem}: {time.monotonic() - began:.0f} s, {executed}", flush=True)
    _compare(p)
    missing = int((index.save().status == "missing").sum())
    print(f"index of the thesis' figures and tables: {missing} missing", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _compare(p):
    """Write the comparison with the thesis, where there is a truth table to take the test set apart by."""
    key = bank.data_key(p)
    if (mocklens.truth_folder(p, key) / "test.csv").exists():
        stated = comparison.save(p, key, tables.resamples(p, key))
        print(f"comparison with the thesis: {comparison.counted(stated)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
