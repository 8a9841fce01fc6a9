"""Parameters: which value wins, what is refused and with what words, and what names a run folder."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from lensdet.data import maxtree
from lensdet.parameter_tables import markdown_table, text_table
from lensdet.parameters import (
    FURTHER,
    LOSSES,
    ParameterError,
    Parameters,
    resolve,
)
from lensdet.profiles import PROFILES
from lensdet.sections import Broad

FILES = sorted((Path(__file__).parents[1] / "params").rglob("*.yaml"))


def test_given_values_override_the_profile_and_the_profile_defaults():
    assert Parameters().chunks == 8000  # the thesis' value
    assert resolve({"profile": "thesis"}).chunks == 8000
    assert resolve({"profile": "smoke"}).chunks == PROFILES["smoke"]["chunks"]
    assert resolve({"profile": "smoke", "chunks": 5}).chunks == 5


def test_the_default_profile_is_quick():
    assert resolve({}) == resolve({"profile": "quick"}) == resolve(PROFILES["quick"])


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_valid(profile):
    assert resolve({"profile": profile}).profile == profile
    assert set(PROFILES[profile]) <= set(Parameters.model_fields)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_parameter_file_is_valid(path):
    resolve(yaml.safe_load(path.read_text()))


def test_text_from_yaml_is_read_as_a_number():
    assert resolve({"learning_rate": "1e-3"}).learning_rate == 1e-3
    assert resolve({"seed": 1000.0}).seed == 1000


@pytest.mark.parametrize(
    "given, words",
    [
        ({"betta": 3}, ["unknown parameter 'betta'; did you mean 'beta'?"]),
        ({"zzzz": 3}, ["unknown parameter 'zzzz'; `lensdet parameters` lists them all"]),
        ({"beta": "abc"}, ["'beta'", "Eq. 3.19", "valid number", "'abc'"]),
        ({"beta": 0}, ["'beta'", "greater than 0"]),
        ({"chunks": 1.5}, ["'chunks'", "1.5"]),
        (
            {"profile": "quik"},
            [
                "'profile'",
                "'smoke', 'quick', 'evening', 'overnight', 'lite', 'finder', 'own' or 'thesis'",
                "did you mean 'quick'",
            ],
        ),
        ({"profile": ["smoke"]}, ["'profile'"]),
        ({"experiments": "fbta"}, ["'experiments'", "'bce'", "did you mean 'fbeta'"]),
        ({"alpha": [0.3, 0.1]}, ["'alpha'", "from low to high"]),
        ({"chunk_size": 100, "batch_size": 64}, ["chunk_size 100", "batch_size 64"]),
        ({"beta": -1, "chunks": 0}, ["'beta'", "'chunks'"]),
    ],
)
def test_errors_of_wrong_parameters_say_what_is_wrong(given, words):
    with pytest.raises(ParameterError) as error:
        resolve(given)
    assert [word for word in words if word not in str(error.value)] == []


def test_an_experiment_can_have_its_own_beta():
    p = resolve({"experiments": "bce, fbeta:0.5, focal", "beta": 0.3})
    assert p.experiments == ("bce", "fbeta:0.5", "focal")
    assert p.loss("fbeta:0.5") == {"name": "fbeta", "beta": 0.5} and p.loss("fbeta") == {"name": "fbeta", "beta": 0.3}
    assert p.experiment_name("fbeta:0.3", "key") == p.experiment_name("fbeta", "key")
    for wrong in ("bce:0.5", "fbeta:", "fbeta:0", "fbeta:x", "fbeta:inf", "fbeta:nan"):
        with pytest.raises(ParameterError, match=r"'experiments'.*'fbeta:0.5' for another beta"):
            resolve({"experiments": [wrong]})


@pytest.mark.parametrize("name", ["focal_gamma", "sigmoid_slope", "sigmoid_offset"])
def test_a_loss_has_its_own_parameters_and_no_others(name):
    losses = (*LOSSES, *FURTHER)
    a, b = resolve({}), resolve({name: 3.5})
    changed = {loss for loss in losses if a.experiment_name(loss, "key") != b.experiment_name(loss, "key")}
    assert changed == {"focal" if name == "focal_gamma" else "sigmoid_f1"}


def test_resolved_parameters_are_immutable():
    with pytest.raises(ValidationError):
        resolve({}).beta = 2


def test_beta_changes_only_the_name_of_the_soft_f_beta_experiment():
    a, b = resolve({"beta": 0.17}), resolve({"beta": 1})
    for loss in LOSSES:
        assert (a.experiment_name(loss, "key") == b.experiment_name(loss, "key")) == (loss != "fbeta")


@pytest.mark.parametrize(
    "given", [{"runs": 2}, {"workers": 3}, {"experiments": ["bce"]}, {"on_bad": "raise"}, {"data_seed": 5}]
)
def test_parameters_that_change_no_result_leave_the_run_name(given):
    # the data seed is part of the data's key
    assert resolve(given).experiment_name("bce", "key") == resolve({}).experiment_name("bce", "key")


def test_run_name_does_not_depend_on_the_profile_name():
    same = resolve({**resolve({"profile": "quick"}).model_dump(), "profile": "lite"})
    assert same.experiment_name("bce", "key") == resolve({"profile": "quick"}).experiment_name("bce", "key")


def test_each_loss_can_have_its_own_learning_rate(monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke", PROFILES["smoke"] | {"learning_rates": {"fbeta": 3e-4}})
    p = resolve({"profile": "smoke"})
    assert (p.rate("bce"), p.rate("fbeta"), p.rate("IDE_3")) == (p.learning_rate, 3e-4, p.learning_rate)
    same = resolve({"profile": "smoke", "learning_rate": 3e-4})  # for all, whatever the profile has
    assert same.rate("bce") == same.rate("fbeta") == 3e-4
    assert p.experiment_name("fbeta", "key") == same.experiment_name("fbeta", "key")
    assert p.experiment_name("bce", "key") != same.experiment_name("bce", "key")
    both = resolve({"profile": "smoke", "learning_rate": 1.0, "learning_rates": {"bce": 0.5}})
    assert (both.rate("bce"), both.rate("fbeta")) == (0.5, 1.0)
    with pytest.raises(ParameterError, match="did you mean 'fbeta'"):
        resolve({"learning_rates": {"fbetta": 0.1}})


@pytest.mark.parametrize("given", [{"batch_norm_images": 100}, {"batch_norm_images": 4096}, {"width": 4}])
def test_parameters_that_cannot_be_trained_are_refused(given):
    with pytest.raises(ParameterError, match=next(iter(given))):
        resolve(given)


@pytest.mark.parametrize("given", [{"seed": 1}, {"width": 8}, {"interpolation": "nearest"}, {"chunks": 3}])
def test_parameters_that_change_a_result_change_the_run_name(given):
    names = {resolve(given).experiment_name("bce", "key"), resolve({}).experiment_name("bce", "key")}
    assert len(names) == 2
    assert resolve(given).experiment_name("bce", "key") != resolve(given).experiment_name("bce", "other")


def test_equal_values_give_the_same_run_name_however_written():
    names = {resolve({"zoom": zoom}).experiment_name("f1", "key") for zoom in [(1, 1.05), [1.0, 1.05], ["1", "1.05"]]}
    assert len(names) == 1
    assert next(iter(names)).startswith("f1-")


def test_survey_key_changes_with_survey_parameters_only():
    key = resolve({}).survey_key()
    assert key == resolve({"seed": 3, "runs": 1, "beta": 2}).survey_key()
    assert key != resolve({"hardness": 0.6}).survey_key() != resolve({"data_seed": 1}).survey_key()


def test_data_folder_becomes_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve({"data": "stamps"}).data == tmp_path.resolve() / "stamps"
    assert resolve({}).data is None


def test_parameter_table_has_every_parameter():
    rows = [row for row in markdown_table().splitlines() if row.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(Parameters.model_fields)
    assert {row.count(" | ") for row in rows} == {1 + len(PROFILES)}
    text = text_table()
    assert all(f"\n  {name} = " in text for name in Parameters.model_fields)
    assert max(map(len, text.splitlines())) <= 100
    assert "[smoke 48; lite 80000; finder 12000; own 4000; thesis 80000]" in text  # of n_source


def test_page_of_parameters_is_up_to_date():
    page = Path(__file__).parents[1] / "docs" / "reference" / "parameters.md"
    assert page.read_text() == markdown_table() + "\n", "lensdet parameters --markdown > docs/reference/parameters.md"


def test_segmentation_settings_and_not_their_preset_name_a_run():
    """Nothing is named otherwise without it; with it, by its settings and not by the preset they come from."""
    plain = resolve({})
    assert plain.maxtree() is None and "segmentation" not in plain.experiment("bce", "0123abcd")
    text = resolve({"segmentation": "text", "maxtree_area": 30})
    assert text.maxtree() == maxtree.PRESETS["text"]._replace(area=30)
    code = resolve({"segmentation": "code", "maxtree_decay": 10.0})
    assert code.maxtree() == maxtree.PRESETS["code"]._replace(decay=10.0)
    same = resolve({"segmentation": "text", "maxtree_area": 45})
    names = [p.experiment_name("bce", "0123abcd") for p in (plain, text, code, same)]
    assert len(set(names)) == 4
    assert names[3] == resolve({"segmentation": "text"}).experiment_name("bce", "0123abcd")
    assert text.experiment("bce", "0123abcd") == json.loads(json.dumps(text.experiment("bce", "0123abcd")))


def test_committed_runs_of_the_quick_profile_are_found():
    """The folders in results/ are those that the profile quick looks for."""
    results = Path(__file__).parents[1] / "results" / "quick"
    key = next(results.glob("truth-*")).name.removeprefix("truth-")
    p = resolve({"profile": "quick"})
    for experiment in (*p.experiments, *(e for e in p.ensembles if e.startswith("IDE"))):
        assert (results / p.experiment_name(experiment, key)).is_dir()


def test_every_range_of_the_broad_survey_is_part_of_its_key_and_of_no_other():
    thesis, broad = resolve({}), resolve({"simulation": "broad"})
    assert "seeing" not in thesis.simulated() and not any(name in thesis.large() for name in Broad.model_fields)
    assert set(Broad.model_fields) <= set(broad.simulated()) and broad.survey_key() != thesis.survey_key()
    for name in Broad.model_fields:
        if name == "simulation":
            continue
        value = getattr(broad, name)
        other = tuple(0.9 * v for v in value) if isinstance(value, tuple) else 0.9 * value
        keys = [p.model_copy(update={name: other}).bank_key() for p in (thesis, broad)]
        if other != value:
            assert keys[1] != broad.bank_key(), name
