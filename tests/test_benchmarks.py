"""Every benchmark runs as it is started by hand, in the profile smoke, and writes nothing into the repository."""

import argparse
import importlib.metadata
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from lensdet.data import light

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
    assert prepared.returncode == 0 and "runs still missing: 2" in prepared.stdout, prepared.stderr
    assert say("train", PROFILE="lite").returncode == 1  # no GPU
    assert [f.name for f in (tmp_path / "build" / "banks").iterdir()] and list((tmp_path / "results").glob("large-*"))
    done = say("train")
    assert done.returncode == 0 and "all runs are there" in done.stdout, done.stderr
    with zipfile.ZipFile(tmp_path / "out" / "smoke.zip") as file:
        names = file.namelist()
    assert sum(name.endswith("run_01/large.h5") for name in names) == 2 and not any(".weights." in n for n in names)
    assert {f.name for f in (tmp_path / "out").glob("*.h5")} == {"bce.h5", "fbeta.h5"}
    assert say("else").returncode == 2


@pytest.fixture(scope="module")
def real_hosts():
    return runpy.run_path(str(ROOT / "benchmarks" / "real_hosts.py"))


def test_no_host_of_an_earlier_split_stays(monkeypatch, tmp_path):
    """Else a finder would learn from galaxies that it is measured on, once another host is left out."""
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path))
    script = runpy.run_path(str(ROOT / "benchmarks" / "cross_fitted.py"))
    monkeypatch.setattr(script["own_finder"], "make", lambda *_: None)
    rows = pd.DataFrame({"group": "host", "set": "PS1", "name": list("abcd")})
    for left_out in ([], ["a"]):
        some = rows[~rows["name"].isin(left_out)].reset_index(drop=True)
        folds, pixels = script["fold_of"](some), np.zeros((len(some), 101, 101), np.float32)
        script["made"](0, some, folds, pixels, argparse.Namespace(start="broad", runs=1, chunks=64, minutes=None))
        there = {path.stem for path in (tmp_path / "cross_fitted" / "hosts_0").iterdir()}
        assert there == set(some["name"][folds != 0])


def test_who_errs_says_what_is_wrong():
    """Else a person who errs in one case of two is right in five of eight."""
    script, rng = runpy.run_path(str(ROOT / "benchmarks" / "grading_loop.py")), np.random.default_rng(0)
    for kind, alpha, right in (("lens", 0.5, "A"), ("lens", 0.1, "B"), ("lrg", 0, "X"), ("ring", 0, "X")):
        true = pd.Series({"kind": kind, "alpha": alpha})
        always, never = ({script["said"](true, rng, share)["grade"] for _ in range(200)} for share in (1, 0))
        assert always == set("ABCX") - {right} and never == {right}
    assert script["said"](true, rng, 0)["subclass"] == "ring"


def test_quantities_of_hosts_and_arcs(real_hosts):
    hosts, arcs = np.arange(-8.0, 2), np.array([-7.5, -2.5, 0.5, 2])  # ten and four
    labels, logits = np.repeat([0, 1], [10, 4]), np.r_[hosts, arcs]
    auc = np.mean(arcs[:, None] > hosts)
    assert np.allclose(real_hosts["quantities"](labels, logits), [auc, 0.2, 0.5, 0.5, 0.4])
    weights = np.stack([np.ones(14), np.r_[np.zeros(8), 5, 5, np.ones(4)]])  # the two highest hosts alone
    once, again = real_hosts["quantities"](labels, logits, weights)
    assert np.allclose(once, [auc, 0.2, 0.5, 0.5, 0.4]) and np.allclose(again, [3 / 8, 1, 0.5, 0.25, 1])


def test_share_of_hosts_above(real_hosts):
    assert np.allclose(real_hosts["above"]([5, 2, 0], [1, 2, 3, 4]), [0, 0.625, 1])


def test_sources_are_widened_to_the_seeing(real_hosts):
    finer, fwhm = 8, real_hosts["seeing"]("HAHJ0836_0053")
    assert (fwhm, real_hosts["seeing"]("des_00"), real_hosts["seeing"]("G265911")) == (1.07, 0.89, 0.70)
    psf = gaussian_filter(light.moffat_psf(0.598 * finer, size=401), real_hosts["widening"](fwhm) * finer)[200]
    assert np.sum(psf >= psf.max() / 2) * 0.2 / finer == pytest.approx(fwhm, abs=0.03)
    assert real_hosts["widening"](0.59) == 0


def test_blank_places_are_away_from_objects_and_edges(real_hosts):
    image = np.random.default_rng(0).normal(size=(300, 300))
    image[140:160, 140:160] += 50
    places = np.array([place[1:] for place in real_hosts["blank_places"](image, 100, 0.3, 0)])
    assert len(places) == 100 and places.min() >= 33 and places.max() <= 266
    assert np.all(np.max(np.abs(places - 149.5), axis=1) > 10 + 9.5)


def test_a_cut_is_resampled_around_its_place(real_hosts):
    image = np.random.default_rng(0).normal(size=(300, 300))
    image[100, 200] += 1000
    image = gaussian_filter(image, 2)
    found = real_hosts["cut"](image, [("a", 200.2, 99.9), ("edge", 20.0, 150.0)], 0.3)
    assert [*found] == ["a"] and np.unravel_index(found["a"].argmax(), (101, 101)) == (50, 50)


def test_tables_of_hosts_compare_in_pairs(real_hosts):
    """The better finder is so in each set; intervals hold the values; hosts, not arcs, are drawn again."""
    rng, rows = np.random.default_rng(0), []
    for chosen, n in (("cutouts", 20), ("PS1", 30)):
        rows += [("host", chosen, f"{chosen}{i}") for i in range(n)]
        rows += [(v, chosen, f"{chosen}{i}") for v in real_hosts["VARIANTS"] for i in range(n) for _ in range(8)]
    rows += [("blank", "blank", f"b{i}") for i in range(10)]
    rows = pd.DataFrame(rows, columns=["group", "set", "name"])
    host = {name: rng.normal() for name in rows["name"].unique()}
    shared = rows["name"].map(host).to_numpy() + rng.normal(size=len(rows))
    arc = rows["group"].isin(real_hosts["VARIANTS"]).to_numpy(float)
    logits = {"a": shared + arc, "b": shared + 2 * arc}
    table = real_hosts["of_hosts"](rows, logits, 200)
    assert set(table["finder"]) == {"a", "b", "b - a"} and not table.isna().any(axis=None)
    assert ((table["low"] <= table["value"] + 1e-9) | (table["quantity"] != "AUROC")).all()
    auc = table[table["quantity"] == "AUROC"].set_index(["finder", "arcs", "set"])
    assert (auc["low"]["b - a"] > 0).all()
    assert np.allclose(auc["value"]["b"] - auc["value"]["a"], auc["value"]["b - a"])
    width = auc["high"] - auc["low"]
    assert (width["b - a"] < width["b"]).all()  # as the draws are the same
    assert auc["hosts"]["a", "matched", "both"] == 50 and auc["stamps"]["a", "matched", "both"] == 450
    others = real_hosts["of_others"](rows, logits, 50)
    assert set(others["set"]) == {"blank"} and others["value"].between(0, 1).all()
    assert "b - a" in real_hosts["markdown"](table) and "nan" not in real_hosts["markdown"](others)
