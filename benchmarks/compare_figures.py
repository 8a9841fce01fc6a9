"""What is drawn now against what was committed: every CSV by value, every PNG and JPEG by pixel.

    python benchmarks/compare_figures.py                 # figures/ as it lies here, against HEAD
    python benchmarks/compare_figures.py --against 0567c4f --profile lite

A change of code that should change no result is tried with it: draw (``tox -e figures``), then compare.  The exit
status is 1 where something differs that is not among `EXPECTED`.
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RELATIVE = 1e-5  # tables have six digits
# Between a commit and the next step, what may differ by the end of the path and why; and columns and words renamed.
EXPECTED = {
    "0567c4f": {
        "02_real_stamps.png": "gone: notebook 07 scores real stamps, with finders",
        "fig_3_1.png": "drawn more simply",
        "fig_3_2.png": "drawn more simply",
        "fig_4_3.png": "drawn more simply",
        "fig_5_19.png": "the real galaxy has a figure of its own",
        "figures/comparison.png": "two more runs of evening",
        "evening/comparison_claims.csv": "two more runs of evening",
        "evening/comparison_numbers.csv": "two more runs of evening",
    },
    "e41f0e8": {"fig_5_19.png": "the real galaxy has a figure of its own"},
}
RENAMED = {"0567c4f": {"polarised": "saturated"}}


def tables_differ(before: bytes, after: bytes, renamed: dict[str, str]) -> str:
    """In words what differs between two CSV files; "" where all numbers agree within `RELATIVE`, and all words."""
    one, other = (pd.read_csv(io.BytesIO(x)).rename(columns=renamed).replace(renamed) for x in (before, after))
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return f"columns or rows: {one.shape} before, {other.shape} now"
    for name in one:
        a, b = one[name], other[name]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            close = np.isclose(a.astype(float), b.astype(float), rtol=RELATIVE, atol=1e-12, equal_nan=True)
        else:
            close = (a.fillna("").astype(str) == b.fillna("").astype(str)).to_numpy()
        if not close.all():
            i = int(np.argmin(close))
            return f"{(~close).sum()} values of {name}, the first {a[i]!r} before, {b[i]!r} now"
    return ""


def pictures_differ(before: bytes, after: bytes, _: dict[str, str]) -> str:
    """In words what differs between two PNG files; "" where every pixel is the same."""
    one, other = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int) for content in (before, after))
    if one.shape != other.shape:
        return f"size: {one.shape} before, {other.shape} now"
    off = np.abs(one - other).max(-1)
    return f"{(off > 0).mean():.3%} of the pixels, by up to {off.max()} of 255" if off.any() else ""


def main() -> int:
    """Compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="HEAD", metavar="COMMIT", help="default: %(default)s")
    parser.add_argument("--profile", default="", help="whose figures (default: all)")
    options = parser.parse_args()

    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, check=True).stdout

    names = git("ls-tree", "-r", "--name-only", options.against, f"figures/{options.profile}").decode().splitlines()
    expected_here, renamed = (by.get(options.against, {}) for by in (EXPECTED, RENAMED))
    compared, failed = 0, 0
    for name in names:
        differ = {".csv": tables_differ, ".png": pictures_differ, ".jpg": pictures_differ}.get(Path(name).suffix)
        if differ is None:
            continue
        compared += 1
        before, now = git("show", f"{options.against}:{name}"), ROOT / name
        words = (
            ("" if before == now.read_bytes() else differ(before, now.read_bytes(), renamed))
            if now.exists()
            else "gone"
        )
        if words:
            expected = next((why for end, why in expected_here.items() if name.endswith(end)), None)
            failed += expected is None
            print(f"{name}: {words}{f' (expected: {expected})' if expected else ''}")
    there = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "figures" / options.profile).rglob("*.*"))
    if new := [name for name in there if name not in names and not Path(name).name.startswith(".")]:
        print(f"new: {', '.join(new)}")
    print(f"{compared} files compared with {options.against}, {failed} differ that should not")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
