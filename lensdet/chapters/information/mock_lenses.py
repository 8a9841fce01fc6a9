"""The mock lenses of a set, how bright and large their sources are, and which of them runs find (section 5.3)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet.chapters.information import figures, selection_function
from lensdet.data import frozen_sets
from lensdet.evaluation import metrics
from lensdet.experiments import BCE, F_1, F_BETA
from lensdet.parameters import Parameters
from lensdet.study import Study

SETS = ("test", "information")
NOISE = {"text": "negative", "code": "code"}  # how it is estimated under each protocol


class MockLenses(NamedTuple):
    """Mock lenses of both sets, and what networks say of them."""

    truth: dict[str, pd.DataFrame]  # by set; ``fraction`` of the stamp where the source is above the noise
    probability: dict[str, dict[str, NDArray]]  # of the run of median validation loss, (N,), by model and set
    found: dict[str, NDArray]  # 1.0 where a run finds a lens of the information set (R, N), by model
    located: bool  # whether Einstein radii are known


def load(study: Study) -> MockLenses:
    """Mock lenses, and what BCE, F_beta and F1 say of them; where none of these was trained, the first model.

    The larger set is scored by the checkpoint of lowest loss alone, under either protocol.

    Raises
    ------
    RuntimeError
        Every run of a model diverged.
    """
    p, truth, found = study.parameters, {}, {}
    for name in SETS:
        table = study.truth(name)
        table = table[table["label"] == 1].reset_index(drop=True)
        truth[name] = table.assign(fraction=selection_function.kept_fractions(study, name)[NOISE[p.protocol]])
    wanted = {"bce": BCE, "fbeta": F_BETA, "f1": F_1}
    models = [model for loss, model in wanted.items() if loss in p.experiments] or [next(iter(study.models))]
    probability = {model: {} for model in models}
    for model in models:
        for name, table in truth.items():
            s = study.scores(model, name, "text" if name == "information" else None)
            if s is None:
                raise RuntimeError(f"{model}: every run diverged; leave it out of `experiments`")
            probability[model][name] = metrics.probability(s.logits[study.median_run(model, s)])[: len(table)]
        found[model] = (s.logits >= 0).astype(float)
    located = all(t["einstein_radius"].notna().all() if "einstein_radius" in t else False for t in truth.values())
    return MockLenses(truth, probability, found, located)


def detections(lenses: MockLenses, parameters: Parameters) -> dict[str, dict[str, figures.Detections]]:
    """What the figures of a set and model draw, by set and model."""
    label, drawn = figures.FRACTION[parameters.protocol], {}
    for name, table in lenses.truth.items():
        where = [table[c].to_numpy() if lenses.located else None for c in ("einstein_radius", "alpha")]
        drawn[name] = {
            model: figures.Detections(f"{model}, {name} set", *where, table["fraction"].to_numpy(), label, by_set[name])
            for model, by_set in lenses.probability.items()
        }
    return drawn


def noise_estimates(parameters: Parameters) -> dict[str, NDArray]:
    """Each estimate of the noise of the test set's LRGs over the noise that was put in, of the embedded survey."""
    stamps, rows = frozen_sets.frozen_bank(parameters, "test")
    used = sorted(set(rows["stamp"][rows["label"] == 1]))  # the LRGs of mock lenses
    lrgs, pixels = stamps.catalogue("lrg", "test").iloc[used], stamps.pixels("lrg", "test")[used].astype(np.float64)
    low, high = (lrgs[c].to_numpy()[:, None, None] for c in ("minimum", "maximum"))
    raw, sky = pixels * (high - low) + low, lrgs["sky_noise"].to_numpy()
    return {
        "negative pixels": selection_function.negative_noise(raw) / sky,
        "clipped MAD": selection_function.clipped_noise(raw) / sky,
        "as published": selection_function.negative_noise(raw, "code") / sky,
    }
