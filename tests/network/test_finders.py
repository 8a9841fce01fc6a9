"""Finders as files: the same logits, nothing executed, nothing damaged, nothing foreign."""

import decimal
import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensdet import cli, parameters, runs, storage
from lensdet.data import mocklens, stamps
from lensdet.evaluation import calibration
from lensdet.network import finders, resnet, training
from lensdet.survey import quality

KEY = "0123abcd"


@pytest.fixture
def run(tmp_path, monkeypatch, smoke):
    """A run folder with weights that are not those a network starts with."""
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    return write_run(smoke, 1)


def write_run(p, number, key=KEY, losses=(0.9, 0.5)):
    folder = runs.run_folder(p, "bce", number, key)
    storage.write_json(folder / "parameters.json", p.experiment("bce", key) | {"run": number})
    storage.write_json(folder / "provenance.json", {"commit": "abc", "seconds": 1.0})
    storage.write_csv(folder / "history.csv", pd.DataFrame({"chunk": [0, 1], "loss": losses}))
    model = resnet.resnet18(p.width, p.momentum, p.l2)
    resnet.initialise(model, p.seed, number)
    rng = np.random.default_rng(number)
    variances = [variable for variable in model.variables if "moving_variance" in variable.path]
    for variable in model.variables:
        if variable is variances[-1]:  # below what float16 holds well; in all layers logits would be huge
            variable.assign(np.exp(rng.normal(size=variable.shape)) * 1e-6)
        elif "moving_variance" in variable.path:
            variable.assign(np.exp(0.3 * rng.normal(size=variable.shape)))
        elif "logit/kernel" in variable.path:  # which evens that out
            variable.assign(0.03 * variable.value)
        elif len(variable.shape) == 1:
            variable.assign(variable.value + rng.normal(size=variable.shape) * 1e-3)
    model.save_weights(folder / "loss.weights.h5")
    rows = np.zeros(40, mocklens.ROW)
    rows["label"] = np.arange(40) % 2
    logits = np.where(rows["label"], 2, -2) + 4 * rng.normal(size=40)
    runs.write_logits(folder / "logits.h5", {"loss": {"calibration": logits}}, {"calibration": rows})
    return folder


@pytest.fixture
def images():
    return np.random.default_rng(0).random((5, 101, 101)).astype(np.float32)


def test_a_finder_gives_the_logits_of_its_run(run, tmp_path, images):
    path = tmp_path / "bce.h5"
    finders.export([run], path)
    finder = finders.load(path)
    own = resnet.logit_model(training.load_network(run))(np.sqrt(stamps.normalise(images))[..., None]).numpy()[:, 0]
    found = finder.score(images)
    size = np.abs(own).max()
    assert found.dtype == np.float32 and 0.1 < np.ptp(own) and size < 100
    np.testing.assert_allclose(found, own, atol=2e-3 * size)  # kernels are rounded to float16
    np.testing.assert_allclose(finder.score(images * 7e-12 - 1e-12), found, atol=1e-3 * size)  # any unit, any level
    far = finders.compare(finder, run, np.sqrt(stamps.normalise(images))[..., None])
    rounding = 1e-5 * float(size)  # of float32 sums, in batches of another size
    assert far["images"] == 5 and 0 < far["median"] <= far["largest"]
    assert far["largest"] == pytest.approx(np.abs(found - own).max(), abs=rounding)


def test_export_rounds_kernels_to_float16_but_not_vectors(run, tmp_path):
    finders.export([run], tmp_path / "bce.h5")
    own = training.load_network(run).variables
    finder = finders.load(tmp_path / "bce.h5").network.variables
    assert len(own) == len(finder) > 60
    for mine, theirs in zip(own, finder, strict=True):
        expected = keras.ops.convert_to_numpy(mine)
        expected = expected.astype(np.float16).astype(np.float32) if expected.ndim > 1 else expected
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(theirs), expected)


def test_finder_file_has_preprocessing_training_and_temperature(run, tmp_path, smoke):
    finders.export([run], tmp_path / "bce.h5")
    finder = finders.load(tmp_path / "bce.h5")
    assert finder.preprocessing["pixel_scale"] == 0.2 and finder.preprocessing["size"] == [101, 101]
    assert finder.preprocessing["band"] == "r" and "Eq. 4.1" in finder.preprocessing["normalisation"]
    assert finder.made["parameters"]["width"] == smoke.width and finder.made["provenance"]["commit"] == "abc"
    assert finder.made["validation_loss"] == 0.5 and (finder.made["chunk"], finder.made["chunks"]) == (1, 2)
    assert finder.made["run"] == f"smoke/{run.parent.name}/run_01"
    assert finder.temperature > 1  # these logits are too sure of themselves


def test_the_range_of_calibration_logits_travels_outside_the_digest(run, tmp_path):
    path = tmp_path / "bce.h5"
    finders.export([run], path)
    finder, (_, logits) = finders.load(path), runs.Run(run).logits("loss", "calibration")
    low, high = finder.calibrated
    assert (low, high) == (logits.min(), logits.max())
    assert finder.limits == pytest.approx((low - (high - low) / 4, high + (high - low) / 4))
    with h5py.File(path, "r+") as file:  # as older files are
        del file.attrs["calibrated"], file.attrs["calibrated sha256"]
    older = finders.load(path)
    assert older.digest == finder.digest and older.calibrated is None and older.limits == (-np.inf, np.inf)


@pytest.mark.parametrize("name", finders.EXPERIMENTS)
def test_committed_finders_have_the_range_of_their_own_run(name):
    finder = finders.load(storage.root() / "weights" / "thesis" / f"{name}.h5")
    _, logits = runs.Run(storage.root() / "results" / finder.made["run"]).logits("loss", "calibration")
    assert finder.calibrated == (logits.min(), logits.max())


def test_exporting_a_run_twice_gives_the_same_bytes(run, tmp_path):
    for name in ("a.h5", "b.h5"):
        finders.export([run], tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def spoil(path, how):
    with h5py.File(path, "r+") as file:
        how(file)


@pytest.mark.parametrize(
    "how, words",
    [
        (lambda file: file["000"].__setitem__((0, 0, 0, 0), 9.0), "damaged"),
        (lambda file: file.attrs.__setitem__("about", file.attrs["about"].replace('"r"', '"i"')), "damaged"),
        (lambda file: file.attrs.__setitem__("sha256", "0"), "damaged"),
        (lambda file: file.__delitem__("003"), "damaged"),
        (lambda file: file.attrs.__setitem__("calibrated", (-1e9, 1e9)), "damaged"),
        (lambda file: file.attrs.__delitem__("about"), "not a finder"),
        (lambda file: file.attrs.__setitem__("about", "{"), "not a finder"),
        (
            lambda file: file.attrs.__setitem__("about", json.dumps({"format": 9})),
            "format 9, and this lensdet reads 1 and 2",
        ),
    ],
)
def test_a_damaged_or_changed_finder_file_is_refused(run, tmp_path, how, words):
    path = tmp_path / "bce.h5"
    finders.export([run], path)
    spoil(path, how)
    with pytest.raises(ValueError, match=words) as error:
        finders.load(path)
    assert str(path) in str(error.value)


def test_missing_and_foreign_finder_files_are_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="none yet"):
        finders.load("bce")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "fbeta.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(FileNotFoundError, match="bce.h5: no such finder; in .*: fbeta"):
        finders.load("bce")
    with pytest.raises(ValueError, match="fbeta.h5: not a finder"):
        finders.load("fbeta")


@pytest.fixture
def installed(run, tmp_path, monkeypatch):
    """As if lensdet were installed, with one finder, and the current folder an empty one; returns the package's."""
    package, work = tmp_path / "site-packages" / "lensdet", tmp_path / "work"
    monkeypatch.delenv("LENSDET_ROOT", raising=False)
    monkeypatch.setattr(storage, "__file__", str(package / "storage.py"))
    monkeypatch.setattr(finders, "__file__", str(package / "network" / "finders.py"))
    finders.export([run], package / "finders" / "fbeta.h5")
    work.mkdir()
    monkeypatch.chdir(work)
    return package


def test_an_installed_package_has_its_finders(installed, images):
    assert np.isfinite(finders.load("fbeta").score(images)).all()
    with pytest.raises(FileNotFoundError, match=r"bce.h5: no such finder; in .*lensdet/finders: fbeta"):
        finders.load("bce")
    with pytest.raises(FileNotFoundError, match=r"none.h5: no such finder; in .*lensdet/finders: fbeta"):
        finders.load("none.h5")


def test_in_the_repository_finders_are_read_from_weights_only(installed, monkeypatch):
    monkeypatch.setenv("LENSDET_ROOT", str(installed.parents[1]))
    assert finders.folder() == installed.parents[1].resolve() / "weights"
    with pytest.raises(FileNotFoundError, match="none yet"):
        finders.load("fbeta")


def test_export_does_not_write_into_the_installed_package(installed, smoke_bank, capsys):
    write_run(parameters.resolve({"profile": "smoke"}), 1, smoke_bank.data_key)
    assert cli.main(["export", "-p", "profile", "smoke", "-p", "experiments", "bce"]) == 0
    exported = Path("weights", "bce.h5").resolve()
    assert str(exported) in capsys.readouterr().out and finders.load(exported).made["validation_loss"] == 0.5
    assert [file.name for file in (installed / "finders").glob("*.h5")] == ["fbeta.h5"]


def test_finder_refuses_stamps_of_another_size(run, tmp_path):
    finders.export([run], tmp_path / "bce.h5")
    with pytest.raises(ValueError, match=r"\(2, 64, 64\): this finder takes \(N, \[101, 101\]\)"):
        finders.load(tmp_path / "bce.h5").score(np.ones((2, 64, 64)))


def test_ensembles_and_segmented_runs_cannot_be_exported(run, tmp_path):
    for more in ({"members": 3}, {"segmentation": {"area": 1}}):
        content = json.loads((run / "parameters.json").read_text()) | more
        storage.write_json(run / "parameters.json", content)
        with pytest.raises(ValueError, match="only finders on whole stamps"):
            finders.export([run], tmp_path / "bce.h5")
        storage.write_json(run / "parameters.json", {k: v for k, v in content.items() if k not in more})
    assert not (tmp_path / "bce.h5").exists()


def test_the_command_exports_the_median_run(smoke, smoke_bank, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    monkeypatch.setenv("LENSDET_RESULTS", str(tmp_path / "results"))
    p = parameters.resolve({"profile": "smoke"})
    for number, loss in ((1, 0.7), (2, 0.3)):
        write_run(p, number, smoke_bank.data_key, (0.9, loss))
    command = ["export", "-p", "profile", "smoke", "-p", "experiments"]
    assert cli.main([*command, "bce"]) == 0
    said = capsys.readouterr().out
    assert "run_02 of 2 runs" in said and "of 48 test images" in said
    assert finders.load("bce").made["validation_loss"] == 0.3  # the lower of two in the middle
    assert cli.main([*command, "bce", "--folder", str(tmp_path / "else" / "where")]) == 0
    assert (tmp_path / "else" / "where" / "bce.h5").read_bytes() == (tmp_path / "weights" / "bce.h5").read_bytes()
    with pytest.raises(SystemExit):
        cli.main([*command, "fbeta"])
    assert "no complete run of fbeta" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("stretch", "asinh"), ("size", [64, 64]), ("normalisation", "none")])
def test_a_finder_with_unknown_preprocessing_is_refused(run, tmp_path, monkeypatch, key, value):
    monkeypatch.setattr(finders, "PREPROCESSING", {**finders.PREPROCESSING, key: value})
    finders.export([run], tmp_path / "bce.h5")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"stamps that this lensdet does not make: .*{key}"):
        finders.load(tmp_path / "bce.h5")


def test_a_finder_name_may_contain_a_point(run, monkeypatch, tmp_path):
    monkeypatch.setattr(finders, "folder", lambda: tmp_path)
    finders.export([run], tmp_path / "fbeta_0.5.h5")
    assert finders.load("fbeta_0.5").digest == finders.load(tmp_path / "fbeta_0.5.h5").digest


# ---- several networks in one file


def reference(logits, temperatures):
    """Logit of the mean probability, by decimals of 60 digits."""
    found = []
    with decimal.localcontext() as context:
        context.prec = 60
        for some in zip(*logits, strict=True):
            odds = [(decimal.Decimal(float(x)) / decimal.Decimal(float(t))).exp()
                    for x, t in zip(some, temperatures, strict=True)]  # fmt: skip
            p = [odd / (1 + odd) for odd in odds]
            rest = [1 / (1 + odd) for odd in odds]
            found.append(float((sum(p) / sum(rest)).ln()))
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-90, 90)] * 3), min_size=1, max_size=6), st.tuples(*[st.floats(0.3, 9)] * 3))
def test_a_committee_gives_the_logit_of_the_mean_probability(stamps_logits, temperatures):
    logits = np.array(stamps_logits).T
    found = finders.combined(logits, temperatures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(logits, temperatures), rtol=2e-7, atol=1e-6)


def test_by_float64_where_that_has_the_digits():
    logits, t = np.random.default_rng(0).normal(0, 3, (4, 200)), np.array([1.0, 0.7, 2.0, 1.3])
    p = (1 / (1 + np.exp(-logits / t[:, None]))).mean(0)
    np.testing.assert_allclose(finders.combined(logits, t), np.log(p / (1 - p)), rtol=1e-6, atol=1e-6)


def test_extreme_logits_stay_finite_and_in_order():
    extreme = np.array([-3e38, -1e30, -1e4, -800, 0, 800, 1e4, 1e30, 3e38], np.float32)
    alone = finders.combined([extreme, extreme], [1.0, 1.0])
    np.testing.assert_allclose(alone, extreme, rtol=1e-6)
    mixed = finders.combined([extreme, np.zeros(9)], [1.0, 1.0])
    assert np.isfinite(mixed).all() and (np.diff(mixed) >= 0).all()
    # one is sure and one undecided: p is 1/4 or 3/4
    np.testing.assert_allclose(mixed[[0, -1]], [-np.log(3), np.log(3)], rtol=1e-6)


def test_neither_the_order_nor_copies_of_networks_change_what_they_say_together():
    logits, t = np.random.default_rng(1).normal(0, 5, (3, 40)), [1.0, 2.0, 0.5]
    together = finders.combined(logits, t)
    np.testing.assert_allclose(finders.combined(logits[::-1], t[::-1]), together, rtol=1e-6)
    np.testing.assert_allclose(finders.combined([*logits, *logits], t * 2), together, rtol=1e-6)
    np.testing.assert_allclose(finders.combined(logits[:1], t[:1]), logits[0], rtol=1e-6)
    np.testing.assert_allclose(finders.combined(-logits, t), -together, rtol=1e-6)


@pytest.fixture(scope="module")
def committee(tmp_path_factory, smoke):
    """The file of a finder of two networks, its runs, and what it was said to be."""
    top = tmp_path_factory.mktemp("committee")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENSDET_RESULTS", str(top / "results"))
        folders = [write_run(smoke, number) for number in (1, 2)]
    takes = {**finders.PREPROCESSING, "pixel_scale": 0.263, "band": "i"}
    finders.export(folders, top / "ours.h5", takes, {"hot": 9.0}, {"hosts": 200})
    return top / "ours.h5", folders


def test_a_committee_travels_in_one_file(committee, images):
    path, folders = committee
    finder, stretched = finders.load(path), np.sqrt(stamps.normalise(images))[..., None]
    assert len(finder.others) == 1 and finder.preprocessing["pixel_scale"] == 0.263 and finder.made["hosts"] == 200
    assert finder.quality == {"hot": 9.0} and finder.preprocessing["band"] == "i"
    own = [resnet.logit_model(training.load_network(f))(stretched).numpy()[:, 0] for f in folders]
    kept = [runs.Run(folder).logits("loss", "calibration") for folder in folders]
    temperatures = [calibration.temperature(*each) for each in kept]
    assert finder.temperatures == pytest.approx(temperatures) and len({*finder.temperatures}) == 2
    size = max(np.abs(one).max() for one in own)
    np.testing.assert_allclose(finder.score(images), reference(own, temperatures), atol=2e-3 * size)  # float16 kernels
    together = finders.combined([logits for _, logits in kept], temperatures)
    assert finder.calibrated == (together.min(), together.max())
    assert finder.temperature == pytest.approx(calibration.temperature(kept[0][0], together))


def test_of_one_run_the_file_is_as_it_was(committee, tmp_path, images):
    _, folders = committee
    finders.export(folders[:1], tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        about = json.loads(file.attrs["about"])
    assert about["format"] == 1 and about.keys() == {"format", "architecture", "preprocessing", "temperature", "made"}
    assert about["architecture"].keys() == {"name", "width"}
    finder = finders.load(tmp_path / "one.h5")
    assert finder.others == () and finder.temperatures == () and finder.quality == {}


@pytest.mark.parametrize(
    "how",
    [
        lambda file: file["070"].__setitem__(Ellipsis, file["070"][()] + 1),  # of the second network
        lambda file: file.attrs.__setitem__("about", file.attrs["about"].replace('"hot": 9.0', '"hot": 99.0')),
        lambda file: file.attrs.__setitem__("about", file.attrs["about"].replace('"members": 2', '"members": 1')),
    ],
)
def test_a_damaged_committee_is_refused(committee, tmp_path, how):
    path = tmp_path / "ours.h5"
    path.write_bytes(committee[0].read_bytes())
    spoil(path, how)
    with pytest.raises(ValueError, match=r"ours.h5: damaged"):
        finders.load(path)


def test_runs_on_the_broad_survey_are_exported_together(installed, tmp_path, capsys):
    given = {"profile": "smoke", "simulation": "broad", "renormalise": True, "large_size": 0, "experiments": "bce"}
    p = parameters.resolve(given)
    words = [w for name, value in given.items() for w in ("-p", name, str(value))]
    with pytest.raises(SystemExit):
        cli.main(["export", *words, "--together", "broad"])
    assert "0 of 2 runs of bce are complete; train them by lensdet train -p profile smoke" in capsys.readouterr().err
    for number in (1, 2):
        write_run(p, number, p.survey_key())
    assert cli.main(["export", *words, "--together", "broad", "--folder", str(tmp_path)]) == 0
    finder = finders.load(tmp_path / "broad.h5")
    assert len(finder.others) == 1 and str(tmp_path / "broad.h5") in capsys.readouterr().out
    assert set(finder.quality) == set(quality.LIMITS) - {"equal"}
    with pytest.raises(SystemExit):
        cli.main(["export", "-p", "profile", "smoke", "--together", "broad"])
    assert "add -p profile finder" in capsys.readouterr().err
