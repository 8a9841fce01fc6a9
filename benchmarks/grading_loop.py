"""From a ranked list to a better one: rank, grade, make a finder with the grades, and rank again.

    python benchmarks/grading_loop.py [--profile own] [--stamps 2000] [--first 300] [--runs 2] [--minutes M]

A survey is simulated: galaxies, look-alikes and mock lenses, in two halves.  One half is ranked by ``--before``, and a
script grades the first of it as two people who err would, through what the widget calls.  ``lensdet grades`` merges
them, and two finders are made from that half, one without and one with the labels.  All three rank the other half,
which nobody graded and nothing was trained on: how many of the first hundred are lenses.

Both finders go on from ``--before``, as ``lensdet finder`` does by itself.  Some 45 minutes on one core beside other
work; what is trained already is not trained again.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from joblib import Parallel, delayed

from lensdet import parameters, storage
from lensdet.data import bank, contaminants, mocklens, stamps
from lensdet.data.random import stream
from lensdet.evaluation import agreement
from lensdet.network import training
from lensdet.survey import grade_report, grading, own_finder, ranking

FIRST_ID = 700_000_000  # of objects that no bank has
SEEING = 0.8  # arcsec
SHARES = {"lrg": 0.72, "contaminant": 0.25, "lens": 0.03}
ERRS = {"one": 0.02, "other": 0.08}  # people, and how often each is wrong
CLASSES = {"A": [], "B": [], "C": [], "X": [*contaminants.KINDS]}
SMOKE = {"stamps": 120, "first": 40, "profile": "smoke"}


def drawn(number: int) -> tuple[np.ndarray, str, float]:
    """A stamp of the survey, in the units of its noise, its kind, and of a lens its alpha."""
    p = parameters.resolve(own_finder.BROAD | {"seeing": (SEEING, SEEING)})
    rng = stream(0, "grading_loop/kind", number)
    cls = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    galaxy, truth = bank.simulated("lrg" if cls == "lens" else cls, FIRST_ID + number, p)
    if cls != "lens":
        return galaxy, truth["kind"], 0.0
    alpha = float(rng.uniform(*p.alpha))
    source = stamps.normalise(bank.simulated("source", FIRST_ID + number, p)[0]) * np.ptp(galaxy)
    return mocklens.added(galaxy, source, np.float32(alpha)), "lens", alpha


def write(folder: Path, number: int) -> tuple[str, str, float]:
    """Write a stamp; its id, kind and alpha."""
    pixels, kind, alpha = drawn(number)
    name = f"{number:06d}.fits"
    with storage.atomic(folder / name) as beside:
        fits.PrimaryHDU(pixels, fits.Header({"PIXSCALE": 0.2, "FILTER": "r"})).writeto(beside, overwrite=True)
    return name, kind, alpha


def simulate(folder: Path, numbers: range) -> pd.DataFrame:
    """A half of the survey: its files, and a table of what they are."""
    rows = Parallel(-1)(delayed(write)(folder, number) for number in numbers)
    return pd.DataFrame(rows, columns=["id", "kind", "alpha"]).set_index("id")


def graded(output: Path, truth: pd.DataFrame, first: int) -> pd.DataFrame:
    """Grade the first of a list as each of `ERRS` would, by what the widget calls; the merged table of agreement."""
    for name, share in ERRS.items():
        grading.grade(output, name, classes=CLASSES, order="shuffled", first=first)
        ids = ranking.candidate_list.read_list(output)["id"]
        session, rng = grading.Session(output, name, list(ids)), stream(0, "grading_loop/errs", len(name))
        for item, (name_of, _) in enumerate(session.items):
            if item not in session.marks:
                session.grade([{"item": item, **said(truth.loc[name_of], rng, share)}], seconds=1.0)
    return grade_report.write(output)[0].agreement


def said(true: pd.Series, rng: np.random.Generator, share: float) -> dict[str, str]:
    """What a person says who is wrong in a share of cases."""
    right = "X" if true["kind"] != "lens" else "A" if true["alpha"] > 0.15 else "B"
    if rng.random() < share:
        return {"grade": str(rng.choice([name for name in CLASSES if name != right]))}
    return {"grade": right, "subclass": "" if true["kind"] in ("lens", "lrg") else true["kind"]}


def main():
    """Simulate, rank, grade, train twice, rank again, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="own", help="of the finders that are trained")
    parser.add_argument("--stamps", type=int, default=2000, help="of each half")
    parser.add_argument("--first", type=int, default=300, help="candidates that are graded")
    parser.add_argument("--runs", type=int, help="networks of each finder")
    parser.add_argument("--minutes", type=float, help="of each training; the same command goes on")
    parser.add_argument("--before", default="broad", help="the finder that ranks at first")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    if options.profile == "smoke":
        parser.set_defaults(**SMOKE)
        options = parser.parse_args()
    top = storage.build_dir() / "grading_loop" / f"{options.profile}_{options.stamps}"
    halves = {name: range(k * options.stamps, (k + 1) * options.stamps) for k, name in enumerate(("graded", "kept"))}
    truth = {name: simulate(top / name, numbers) for name, numbers in halves.items()}

    def rank(half, finder, called):
        given = {"survey": top / half, "output": top / f"list_{half}_{called}", "finders": [finder], "page_size": 12}
        return ranking.rank_survey(parameters.resolve(given)).ranked

    rank("graded", options.before, "before")
    found = graded(top / "list_graded_before", truth["graded"], options.first)
    finders = {"before": options.before}
    labels = {"own galaxies": None, "own galaxies and grades": top / "list_graded_before" / "graded" / "labels.csv"}
    for name, path in labels.items():
        output = top / name.replace(" ", "_")
        given = {"profile": options.profile, **own_finder.BROAD, "start": options.before, "hosts": top / "graded",
                 "labels": path, "psf": SEEING, "output": output, "runs": options.runs}  # fmt: skip
        try:
            own_finder.make(parameters.resolve(given), options.minutes)
        except training.Busy as error:
            print(error)
            return
        finders[name] = str(output / f"{output.name}.h5")
    rows = []
    for name, finder in finders.items():
        kind = truth["kept"]["kind"].loc[rank("kept", finder, name.replace(" ", "_"))["id"]].to_numpy()
        for n in (n for n in (50, 100, 200) if n <= options.stamps):
            share = agreement.share(kind[:n] == "lens")
            rows.append((name, f"lenses among the first {n}", share.value, share.low, share.high, share.n))
        mistaken = pd.Series(kind[:100][kind[:100] != "lens"]).value_counts().head(3)
        print(f"{name}: {(kind == 'lens').sum()} lenses in all; among the first 100 most often: "
              f"{', '.join(f'{n} {what}' for what, n in mistaken.items())}")  # fmt: skip
    table = pd.DataFrame(rows, columns=["finder", "what", "value", "low", "high", "n"])
    if options.csv:
        storage.write_csv(options.csv, table, 5)
    people = found[found["part"].isin(["Cohen's kappa", "consistency", "candidates"])].dropna(subset="value")
    print(people[["part", "what", "value", "n"]].to_string(index=False, float_format="%.2f"))
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
