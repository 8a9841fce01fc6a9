"""What real galaxies add to a finder: no network is measured on a galaxy that it has learnt from.

    python benchmarks/cross_fitted.py [--start broad] [--runs 2] [--chunks 16] [--minutes M] [--csv FILE]

The hosts of ``real_hosts.py`` are split into two halves.  Of each half a finder is made as ``lensdet finder`` makes it,
and the stamps of the other half are scored by it; empty sky and candidates by the first.  Beside it the finder that
training went on from, which learnt from the simulation alone.  38 minutes on one core beside other work; what is
trained already is not trained again.
"""

import argparse
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from lensdet import parameters, storage
from lensdet.network import finders, training
from lensdet.survey import own_finder

REAL = runpy.run_path(str(Path(__file__).with_name("real_hosts.py")))
FOLDS = 2
SEEING = 0.85  # arcsec, between those of KiDS (0.7), DES (0.9) and Pan-STARRS1 (1.07)
NAME = "own galaxies, cross-fitted"


def fold_of(rows: pd.DataFrame) -> np.ndarray:
    """The fold of each stamp: every other host of a set in order of names; 0 for stamps that are of no host."""
    folds = np.zeros(len(rows), int)
    for name in REAL["SETS"]:
        inside = (rows["set"] == name).to_numpy()
        folds[inside] = pd.factorize(rows["name"][inside], sort=True)[0] % FOLDS
    return folds


def made(fold: int, rows: pd.DataFrame, folds: np.ndarray, pixels: np.ndarray, options: argparse.Namespace) -> Path:
    """The finder of the hosts that are not in a fold."""
    hosts = storage.build_dir() / "cross_fitted" / f"hosts_{fold}"
    shutil.rmtree(hosts, ignore_errors=True)  # hosts of other folds, where some were left out since
    for i in np.flatnonzero((rows["group"] == "host").to_numpy() & (folds != fold)):
        with storage.atomic(hosts / f"{rows['name'][i]}.fits") as beside:
            header = fits.Header({"PIXSCALE": 0.2, "FILTER": "r"})
            fits.PrimaryHDU(pixels[i], header).writeto(beside, overwrite=True)
    output = storage.build_dir() / "cross_fitted" / f"finder_{fold}"
    given = {"profile": "own", **own_finder.BROAD, "hosts": hosts, "output": output, "psf": SEEING,
             "start": options.start, "runs": options.runs, "chunks": options.chunks}  # fmt: skip
    own_finder.make(parameters.resolve(given), options.minutes)
    return output / f"{output.name}.h5"


def main():
    """Make the finders, score, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="broad", help="the finder that training goes on from")
    parser.add_argument("--runs", type=int, help="networks of each finder")
    parser.add_argument("--chunks", type=int, help="of each network")
    parser.add_argument("--minutes", type=float, help="of training; the same command goes on")
    parser.add_argument("--folder", type=Path, default=storage.root_or_here().parent / "shared" / "data")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--stamps", type=Path, help="as for real_hosts.py")
    parser.add_argument("--profile", default="", help="smoke: says what it would do")
    options = parser.parse_args()
    if options.profile == "smoke" or not (options.folder / "ps1_lenses").is_dir():
        print(f"{options.folder}: real stamps, of which {FOLDS} finders are made and measured")
        return
    finders.load(options.start)  # else there would be nothing to compare with
    rows, pixels = REAL["made_or_kept"](options.folder, False, options.stamps)
    folds = fold_of(rows)
    try:
        files = [str(made(fold, rows, folds, pixels, options)) for fold in range(FOLDS)]
    except training.Busy as error:
        print(error)
        return
    logits = REAL["score"]([*files, options.start], pixels)
    both = {options.start: logits[options.start], NAME: np.choose(folds, [logits[file] for file in files])}
    tables = [REAL[table](rows, both) for table in ("of_hosts", "of_others")]
    if options.csv:
        with storage.atomic(options.csv) as beside:
            pd.concat(tables).to_csv(beside, index=False)
    print(*(f"{file}: {finders.load(file).digest[:16]}" for file in files), sep="\n")
    print("\n\n".join(map(REAL["markdown"], tables)))


if __name__ == "__main__":
    main()
