"""Every benchmark runs as it is started by hand, in the profile smoke, and writes nothing into the repository."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def test_no_benchmark_hides_a_package():
    """Python looks into the script's own folder first: a coverage.py there is what Numba would import."""
    packages = {*importlib.metadata.packages_distributions(), *sys.stdlib_module_names}
    assert not packages & {path.stem for path in BENCHMARKS}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_in_the_smoke_profile(script, tmp_path):
    places = {f"LENSDET_{name}": str(tmp_path / name.lower()) for name in ("BUILD", "RESULTS", "FIGURES")}
    # the package beside the benchmark, wherever it is installed from
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script.relative_to(ROOT)), "--profile", "smoke"],
        cwd=ROOT, env={**os.environ, **places, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() and "FAILED" not in done.stdout and " nan" not in done.stdout
