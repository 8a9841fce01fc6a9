"""From the thesis' survey to the broad one: what each change of the simulation does to a finder on real galaxies.

    python benchmarks/simulation_steps.py --train [STEP ...]     # hours; a run that is there is not trained again
    python benchmarks/simulation_steps.py --csv results/real_hosts.csv [--stamps FILE]

Trains a network of the profile ``finder``, with half of its chunks, for each step (run 1: the same initial weights),
writes it as a finder into ``build/steps``, and measures all, with the thesis' finders and those of ``weights``, as
``real_hosts.py`` does.
"""

import argparse
import runpy
import sys
from pathlib import Path

from lensdet import parameters, storage
from lensdet.data import bank
from lensdet.network import finders, training
from lensdet.runs import Run, run_folder

NARROW = {"peak_snr": (60, 280), "seeing": (0.55, 0.75), "psf_ellipticity": (0, 0), "neighbours": (1, 1),
          "noise_correlation": (0.2, 0.2), "sky_gradient": (0, 0)}  # fmt: skip
STEPS = {  # each with what the one before has; the last is the broad survey
    "1-thesis": {"simulation": "thesis", "renormalise": False},
    "2-normalised-again": {"simulation": "thesis"},
    "3-galaxies-and-negatives": NARROW,
    "4-neighbours": {k: v for k, v in NARROW.items() if k != "neighbours"},
    "5-PSFs": {k: v for k, v in NARROW.items() if k in ("peak_snr", "noise_correlation", "sky_gradient")},
    "6-depth-and-noise": {},
}

CHUNKS = 64  # 262,000 images each; of 66,000 the broad survey's validation loss is still 0.65


def of_step(name: str, profile: str) -> parameters.Parameters:
    """Parameters of a step: one run of cross-entropy."""
    broad = {"chunks": CHUNKS} if profile == "finder" else {"simulation": "broad", "renormalise": True}
    return parameters.resolve(
        {"profile": profile, "experiments": ["bce"], "runs": 1, "large_size": 0, **broad, **STEPS[name]}
    )


def main():
    """Train, or export and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"default: all of {', '.join(STEPS)}")
    parser.add_argument("--train", action="store_true", help="train what is not there")
    parser.add_argument("--profile", default="finder", help="smoke: as little as shows that it runs")
    parser.add_argument("--minutes", type=float, help="of training; it goes on where it was")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--stamps", type=Path, help="as for real_hosts.py")
    options = parser.parse_args()
    files = []
    for name in options.steps or STEPS:
        p = of_step(name, options.profile)
        if options.train:
            training.train_missing(p, minutes=options.minutes)
        run = run_folder(p, "bce", 1, bank.data_key(p))
        if not Run(run).is_complete:
            print(f"{name}: not trained yet; --train {name}")
            continue
        files.append(storage.build_dir() / "steps" / f"{name}.h5")
        finders.export([run], files[-1])
    if options.train or not files:
        return
    there = sorted(str(path.relative_to(finders.folder()).with_suffix("")) for path in finders.folder().rglob("*.h5"))
    sys.argv = ["real_hosts.py", *map(str, files), *there, "--profile", options.profile.replace("finder", "")]
    sys.argv += ["--csv", str(options.csv)] if options.csv else []
    sys.argv += ["--stamps", str(options.stamps)] if options.stamps else []
    runpy.run_path(str(Path(__file__).with_name("real_hosts.py")), run_name="__main__")


if __name__ == "__main__":
    main()
