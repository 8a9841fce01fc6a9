"""Every benchmark runs as it is started by hand, in the profile smoke, and writes nothing into the repository."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
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
def test_benchmark_runs_in_the_smoke_profile(script, tmp_path):
    places = {f"LENSDET_{name}": str(tmp_path / name.lower()) for name in ("BUILD", "RESULTS", "FIGURES")}
    # the package beside the benchmark, wherever it is installed from
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script.relative_to(ROOT)), "--profile", "smoke"],
        cwd=ROOT, env={**os.environ, **places, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() and "FAILED" not in done.stdout and " nan" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_gpu_script_prepares_and_trains_on_a_cpu(tmp_path):
    places = {f"LENSDET_{name}": str(tmp_path / name.lower()) for name in ("BUILD", "RESULTS", "FIGURES")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    more = {"PROFILE": "smoke", "JOBS": "2", "OUT": str(tmp_path / "out"), "PATH": path, "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}  # fmt: skip  # whatever the machine has

    def say(step, **changed):
        command = [ROOT / "benchmarks" / "lite_on_gpu.sh", step, "-p", "experiments", "bce,fbeta", "-p", "runs", "1"]
        return subprocess.run(command, env=os.environ | places | more | changed, capture_output=True, text=True)

    prepared = say("prepare")
    assert prepared.returncode == 0 and "2 of 2 runs still missing" in prepared.stdout, prepared.stderr
    assert say("train", PROFILE="lite").returncode == 1  # no GPU
    assert [f.name for f in (tmp_path / "build" / "banks").iterdir()] and list((tmp_path / "results").glob("large-*"))
    done = say("train")
    assert done.returncode == 0 and "all runs are there" in done.stdout, done.stderr
    with zipfile.ZipFile(tmp_path / "out" / "smoke.zip") as file:
        names = file.namelist()
    assert sum(name.endswith("run_01/large.h5") for name in names) == 2 and not any(".weights." in n for n in names)
    assert {f.name for f in (tmp_path / "out").glob("*.h5")} == {"bce.h5", "fbeta.h5"}
    assert say("else").returncode == 2
