"""Where a run looks: heat maps and interventions against direct computation; tables against counts by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from lensdet import parameters
from lensdet.chapters.gradcam import measurements
from lensdet.data import frozen_sets, mocklens, simulation, stamps
from lensdet.network import gradcam, resnet


@pytest.fixture(scope="module")
def run(tmp_path_factory, smoke, smoke_bank):
    """A run's folder with weights (drawn, not trained: all that is tested holds for any), and its network."""
    p, folder = smoke, tmp_path_factory.mktemp("run_01")
    model = resnet.resnet18(p.width, p.momentum, p.l2)
    resnet.initialise(model, 0, 1)
    model.save_weights(folder / "loss.weights.h5")
    (folder / "parameters.json").write_text(json.dumps(p.experiment("bce", smoke_bank.data_key)))
    return p, folder, resnet.logit_model(model)


@pytest.fixture(scope="module")
def found(run, smoke_bank):
    p, folder, _ = run
    return measurements.measure(p, folder)


def test_measurements_are_read_again_without_weights(run, found, smoke_bank, tmp_path):
    p, folder, _ = run
    measurements.path(p, tmp_path).write_bytes(measurements.path(p, folder).read_bytes())
    again = measurements.measure(p, tmp_path)  # without weights
    assert again.keys() == found.keys() and all(np.array_equal(again[k], v, equal_nan=True) for k, v in found.items())
    with pytest.raises(FileNotFoundError, match="no weights"):
        measurements.measure(p, tmp_path / "other")


def test_measurements_equal_direct_predictions_of_the_network(run, found, smoke_bank):
    p, _, network = run
    rows = frozen_sets.frozen_rows(p, "test", mocklens.sizes(smoke_bank, "test"))
    images = mocklens.images(smoke_bank, "test", rows)
    np.testing.assert_allclose(found["logit"], network.predict(images, verbose=0)[:, 0], rtol=1e-4, atol=1e-5)
    lrgs = np.sqrt(smoke_bank.pixels("lrg", "test").astype(np.float32))
    positive = rows["label"] == 1
    bare = network.predict(lrgs[rows["stamp"][positive]][..., None], verbose=0)[:, 0]
    np.testing.assert_allclose(found["no_arc"][positive], bare, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["no_arc"][~positive], found["logit"][~positive], rtol=1e-4, atol=1e-5)
    for layer in gradcam.LAYERS:
        inside = found[f"inside/{layer}"]
        assert np.isnan(inside[~positive]).all()
        empty = found[f"cause/logit/{layer}"] > 0
        assert np.array_equal(np.isnan(inside[positive]), empty[positive])
        assert np.array_equal(empty, found[f"heat/{layer}"].max((1, 2)) == 0)
        assert ((inside[positive] >= 0) & (inside[positive] <= 1))[~empty[positive]].all()


def test_stamps_without_neighbours_equal_the_survey_drawn_without_them(smoke, smoke_bank):
    """Against the survey itself: drawn without neighbours, and put on the scale of the whole stamp."""
    rows = frozen_sets.frozen_rows(smoke, "test", mocklens.sizes(smoke_bank, "test"))
    some = rows[[0, 1, len(rows) // 2, len(rows) - 1]]
    found = mocklens.without_neighbours(smoke, smoke_bank, "test", some)
    catalogue = pd.concat([smoke_bank.catalogue(c, "test").assign(cls=c) for c in ("lrg", "contaminant")])
    with_them = mocklens.images(smoke_bank, "test", some)
    for image, whole, row in zip(found, with_them, some, strict=True):
        known = catalogue.iloc[row["stamp"]]
        full, _ = simulation.render(known["cls"], int(known["id"]), parameters=smoke)
        bare, _ = simulation.render(known["cls"], int(known["id"]), parameters=smoke, neighbours=False)
        light = (bare - full.min()) / (full.max() - full.min())
        light = light + row["alpha"] * smoke_bank.pixels("source", "test")[row["source"]].astype(float)
        np.testing.assert_allclose(image[..., 0] ** 2, np.clip(light, 0, 1), atol=2e-3)  # sixteen bits
        assert (full - bare).min() >= -1e-5 * full.max()  # neighbours shine
        dark = np.abs(full - bare) < 1e-6 * full.max()
        np.testing.assert_allclose(image[dark], whole[dark], atol=1e-2)
    assert np.array_equal(mocklens.without_neighbours(smoke, smoke_bank, "test", some[1:2])[0], found[1])
    assert stamps.SHAPE == found.shape[1:3]


def test_surest_median_and_least_sure_cases_of_each_outcome():
    labels, logits = np.array([1, 1, 1, 1, 0, 0]), np.array([3.0, 1.0, 2.0, -1.0, -5.0, -1.0])
    assert list(measurements.outcome(labels, logits)) == ["TP", "TP", "TP", "FN", "TN", "TN"]
    assert measurements.cases(labels, logits) == {"TP": [0, 2, 1], "TN": [4, 4, 5], "FP": [], "FN": [3, 3, 3]}


def test_named_cases_pick_the_images_that_their_names_describe():
    truth = pd.DataFrame({"label": [0, 0, 0, 1, 1], "kind": ["spiral", "spiral", "star", "lrg", "lrg"],
                          "area_fraction": [np.nan] * 3 + [0.1, 0.01], "neighbours": [0, 0, 5, 4, 1]})  # fmt: skip
    logits = np.array([2.0, 3.0, -4.0, -1.0, -2.0])
    causes = [f"cause/{target}/{layer}" for target in measurements.TARGETS[:2] for layer in gradcam.LAYERS]
    heat = np.pad(np.ones((5, 2, 2)), ((0, 0), (1, 1), (1, 1)))
    heat[2, 0] = 3  # of a true negative, 12 at the border and 4 inside

    def found(empty):
        shown = {name: np.full(5, name.startswith(empty)) for name in causes} | {f"heat/{measurements.LAYER}": heat}
        return measurements.named_cases(truth, logits, shown)

    assert [case.index for case in found(("none",)).values()] == [2, None, 1, 4, 3]
    assert found(("none",))[measurements.BORDER].often.startswith("1 of 1 true negatives have more than half")
    assert found(("none",))[measurements.SPIRAL].often == "2 of 2 spirals are false positives"
    assert found(("cause/logit",))[measurements.EMPTY] == (2, "1 of 1 true negatives", True)
    assert "; by the gradient of the probability 0 of 0 true positives" in found(("none",))[measurements.EMPTY].often


def test_empty_heat_maps_are_counted_by_cause():
    labels, logits = np.array([1, 1, 0, 0]), np.array([20.0, 1.0, -1.0, -2.0])
    found = {"logit": logits, "unstretched": np.array([20.0, 1.0, 1.0, -2.0])}
    for layer in gradcam.LAYERS:
        found |= {f"cause/logit/{layer}": np.array([0, 0, 1, 0]), f"cause/probability/{layer}": np.array([2, 0, 1, 0]),
                  f"cause/published/{layer}": np.array([2, 0, 1, 1])}  # fmt: skip
    table = measurements.empty_maps(labels, found).set_index(["layer", "target", "class"])
    assert table.loc[("add_5", "logit", "TP"), "empty"] == 0
    row = table.loc[("add_5", "probability", "TP")]
    assert (row["images"], row["empty"], row[gradcam.NO_EVIDENCE], row[gradcam.NO_GRADIENT]) == (2, 1, 0, 1)
    assert table.loc[("add_7", "published", "TN"), "images"] == 1  # by the logits of the unstretched images
    assert table.loc[("add_7", "published", "FP"), "share"] == 1
    assert np.isnan(table.loc[("add_7", "logit", "FP"), "share"])


def test_effect_of_removing_arc_or_neighbours_has_intervals():
    rng = np.random.default_rng(0)
    n = 400
    truth = pd.DataFrame({"label": np.repeat([1, 0], n // 2), "neighbours": np.tile([0, 2], n // 2)})
    logit = np.where(truth["label"] == 1, 0.5, -1.0).astype(np.float32)
    change = rng.normal(0.3, 0.1, n).astype(np.float32)
    found = {"logit": logit, "no_arc": logit - truth["label"].to_numpy(np.float32), "no_neighbours": logit + change}
    weights = rng.poisson(1, (500, n))
    table = measurements.interventions(truth, found, weights).set_index(["left out", "of"])
    arc = table.loc[("arc", "mock lenses")]
    assert (arc["n"], arc["change"], arc["decisions changed"]) == (200, -1, 1)
    beside = table.loc[("neighbours", "negatives with neighbours")]
    assert beside["n"] == 100  # of 200, those that have any
    assert beside["change low"] < 0.3 < beside["change high"] and beside["decisions changed"] == 0
    width = 2 * 1.96 * 0.1 / np.sqrt(100)
    assert 0.6 * width < beside["change high"] - beside["change low"] < 1.5 * width
    unknown = measurements.interventions(truth, found | {"no_neighbours": np.full(n, np.nan)}, weights)
    assert list(unknown["n"]) == [200, 100, 0, 0]


def test_heat_maps_refuse_runs_on_segmented_stamps(tmp_path):
    p = parameters.resolve({"segmentation": "text"})
    with pytest.raises(ValueError, match="heat maps are of whole stamps: leave `segmentation` at none"):
        measurements.measure(p, tmp_path)
