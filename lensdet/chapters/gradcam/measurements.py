"""Where a run looks, in numbers (section 5.2): heat maps and interventions on the test set, kept in its folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet import runs, storage
from lensdet.data import frozen_sets, mocklens
from lensdet.evaluation import statistics
from lensdet.network import gradcam, resnet, training
from lensdet.parameters import Parameters

SELECTOR = {"text": "loss", "code": "code_loss"}
LAYER = "add_5"  # that is spoken of: the finest, and the last of its size
TARGETS = ("logit", "probability", "published")
CAUSES = ("", gradcam.NO_EVIDENCE, gradcam.NO_GRADIENT)
DRAWN_ANEW = {"logit": "last layer", "add_6": "above add_6", "stamp": "all layers"}
CLASSES = ("TP", "TN", "FP", "FN")
# The cases that the thesis names by kind (section 5.2).
BORDER = "true negative, heat at the borders"
EMPTY = "empty maps in all layers"
SPIRAL = "spiral as a false positive, most confident"
FAINT = "faintest arc as a false negative"
CROWDED = "false negative with the most neighbours"


class Named(NamedTuple):
    """A case that the thesis names by kind."""

    index: int | None  # of one; None where there is none
    often: str  # how often it occurs
    empty: bool = False  # whether its maps are, with the gradient of the probability if not with that of the logit


def path(parameters: Parameters, folder: Path) -> Path:
    """Where `measure` keeps what it finds: the checkpoint depends on the protocol."""
    return folder / f"gradcam_{SELECTOR[parameters.protocol]}.h5"


def measure(parameters: Parameters, folder: Path) -> dict[str, NDArray]:
    """Heat maps of the test set by a run's checkpoint of lowest loss, and logits of images without their parts.

    Computed once, from the run's weights, and kept in its folder, see `path`.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    folder : Path
        Of a complete run.

    Returns
    -------
    dict of arrays, N images
        ``logit`` (N,); ``unstretched`` (N,), with negatives as in target ``published`` below; ``no_arc`` and
        ``no_neighbours`` (N,), the logit of the same image without them, the latter NaN where the stamps are not
        simulated; ``heat/<layer>`` float16 (N, u, u); ``cause/<target>/<layer>`` (N,), a place in `CAUSES`, where
        target ``published`` is the probability on negatives that were not stretched, as in the published code;
        ``inside/<layer>``, ``other/<layer>`` and ``mean/<layer>`` (N,), shares of heat inside the arc (source above
        twice the noise): of the own map, of another mock lens' and of the mean over mock lenses; NaN for negatives;
        ``random/<layer>/<from>`` (N,), rank correlation with the map of a network drawn anew from there up.

    Raises
    ------
    FileNotFoundError
        Where neither the file nor the weights are there.
    ValueError
        For a run on segmented stamps, which sees other images than these.
    """
    if parameters.segmentation != "none":
        raise ValueError("heat maps are of whole stamps: leave `segmentation` at none")
    kept = path(parameters, folder)
    if not kept.exists():
        found = _measure(parameters, training.load_network(folder, SELECTOR[parameters.protocol]))
        with storage.atomic(kept) as beside, h5py.File(beside, "w") as file:
            for name, values in found.items():
                file.create_dataset(name, data=values, compression="gzip", track_times=False)
            file.attrs["provenance"] = json.dumps(runs.provenance())
    with h5py.File(kept) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return {name: file[name][:] for name in names}


def _measure(p, model):
    bank, rows = frozen_sets.frozen_bank(p, "test")
    images = mocklens.images(bank, "test", rows, p.renormalise)
    positive = rows["label"] == 1
    maps = gradcam.heat_maps(model, images)
    unstretched = np.where(positive[:, None, None, None], images, images**2)
    by_target = {"logit": maps, "probability": gradcam.heat_maps(model, images, target="probability"),
                 "published": gradcam.heat_maps(model, unstretched, target="probability")}  # fmt: skip
    network = resnet.logit_model(model)
    bare = rows.copy()
    bare["alpha"] = 0
    found = {
        "logit": maps.logits,
        "unstretched": by_target["published"].logits,
        "no_arc": network.predict(mocklens.images(bank, "test", bare, p.renormalise), verbose=0)[:, 0],
        "no_neighbours": np.full(len(rows), np.nan, np.float32),
    }
    if p.data is None:
        found["no_neighbours"] = network.predict(mocklens.without_neighbours(p, bank, "test", rows), verbose=0)[:, 0]
    arcs = mocklens.arc_pixels(bank, "test", rows[positive])
    for layer in gradcam.LAYERS:
        heat = maps.heat[layer]
        found[f"heat/{layer}"] = heat.astype(np.float16)
        for target in TARGETS:
            found[f"cause/{target}/{layer}"] = np.array(
                [CAUSES.index(c) for c in by_target[target].causes[layer]], "i1"
            )
        centres = gradcam.receptive_field(model, layer).centres
        own = heat[positive]
        compared = {"inside": own, "other": np.roll(own, 1, axis=0), "mean": np.broadcast_to(own.mean(0), own.shape)}
        for name, maps_of in compared.items():
            share = found[f"{name}/{layer}"] = np.full(len(rows), np.nan, np.float32)
            share[positive] = gradcam.heat_inside(maps_of, arcs, centres)
    for start in DRAWN_ANEW:
        other = gradcam.heat_maps(gradcam.randomised(model, p.seed, start), images)
        for layer in gradcam.LAYERS:
            found[f"random/{layer}/{start}"] = gradcam.rank_similarity(maps.heat[layer], other.heat[layer])
    return found


def outcome(labels: NDArray, logits: NDArray) -> NDArray[np.str_]:
    """Which of `CLASSES` each image is at p = 0.5, str (N,), from labels (N,) and logits (N,)."""
    return np.where(labels == 1, np.where(logits >= 0, "TP", "FN"), np.where(logits >= 0, "FP", "TN"))


def cases(labels: NDArray, logits: NDArray, quantiles: Sequence[float] | NDArray = (0, 0.5, 1)) -> dict[str, list[int]]:
    """Images of each of `CLASSES`, from the most to the least confident; none if a class is empty.

    Parameters
    ----------
    labels, logits : arrays (N,)
    quantiles : sequence of float
        Places in that order: 0 the most confident, 0.5 the median, 1 the least.

    Returns
    -------
    dict of list of int
        Indices, by class.
    """
    found, confidence = {}, np.abs(logits)
    classes = outcome(labels, logits)
    for name in CLASSES:
        members = np.flatnonzero(classes == name)
        members = members[np.argsort(-confidence[members], kind="stable")]
        places = [round(q * (len(members) - 1)) for q in quantiles] if len(members) else []
        found[name] = [int(members[i]) for i in places]
    return found


def named_cases(truth: pd.DataFrame, logits: NDArray, found: dict[str, NDArray]) -> dict[str, Named]:
    """The cases that the thesis names by kind (section 5.2): one of each, and how often it occurs.

    Parameters
    ----------
    truth : pandas.DataFrame
        Of the test set.
    logits : array (N,)
    found : dict
        From `measure`.
    """
    classes = outcome(truth["label"].to_numpy(), logits)
    kind = truth.get("kind", pd.Series("", truth.index)).to_numpy()  # a folder of stamps has none
    known = "neighbours" in truth
    faint, crowded = truth["area_fraction"].fillna(np.inf), -truth.get("neighbours", pd.Series(0, truth.index))
    spirals, missed = (kind == "spiral") & (truth["label"] == 0).to_numpy(), classes == "FN"
    misses = f"{missed.sum()} false negatives of {(truth['label'] == 1).sum()} mock lenses"
    return {
        BORDER: _at_border(classes, found[f"heat/{LAYER}"].astype(float)),
        EMPTY: _empty(classes, logits, found),
        SPIRAL: Named(_first(spirals & (classes == "FP"), -logits),
                      f"{(spirals & (classes == 'FP')).sum()} of {spirals.sum()} spirals are false positives"),
        FAINT: Named(_first(missed, faint), misses),
        CROWDED: Named(_first(missed & known, crowded), misses),
    }  # fmt: skip


def _first(members, key):
    """Index of the member of smallest key, None without members."""
    members = np.flatnonzero(members)
    return int(members[np.argmin(np.asarray(key)[members])]) if len(members) else None


def _at_border(classes, heat):
    """Of the true negatives with more than half of their heat in the outermost cells that of median share."""
    total = heat.sum((1, 2))
    share = 1 - heat[:, 1:-1, 1:-1].sum((1, 2)) / np.where(total > 0, total, np.nan)
    members = (classes == "TN") & (share > 0.5)
    often = (
        f"{members.sum()} of {(classes == 'TN').sum()} true negatives have more than half of the heat of {LAYER} there"
    )
    return Named(_first(members, np.abs(share - np.median(share[members])) if members.any() else share), often)


def _empty(classes, logits, found):
    """The most confident true negative whose maps are all empty, or else a true positive by the probability."""
    by_logit, by_probability = (
        np.all([found[f"cause/{target}/{layer}"] > 0 for layer in gradcam.LAYERS], axis=0) for target in TARGETS[:2]
    )
    negative, positive = classes == "TN", classes == "TP"
    often = f"{(negative & by_logit).sum()} of {negative.sum()} true negatives"
    if (negative & by_logit).any():
        return Named(_first(negative & by_logit, logits), often, empty=True)
    saturated = positive & by_probability
    often += f"; by the gradient of the probability {saturated.sum()} of {positive.sum()} true positives (here)"
    return Named(_first(saturated, -logits), often, empty=True)


def empty_maps(labels: NDArray, found: dict[str, NDArray]) -> pd.DataFrame:
    """Share of empty maps by layer, target and class, with its cause; a row each, Clopper-Pearson intervals.

    Classes are those of the images as the network had them: negatives not stretched for target ``published``.
    """
    rows = []
    for layer in gradcam.LAYERS:
        for target in TARGETS:
            classes = outcome(labels, found["unstretched" if target == "published" else "logit"])
            cause = found[f"cause/{target}/{layer}"]
            for name in CLASSES:
                n, k = int((classes == name).sum()), int((cause[classes == name] > 0).sum())
                low, high = statistics.clopper_pearson(k, n) if n else (np.nan, np.nan)
                causes = {CAUSES[i]: int((cause[classes == name] == i).sum()) for i in (1, 2)}
                rows.append({"layer": layer, "target": target, "class": name, "images": n, "empty": k,
                             "share": k / n if n else np.nan, "low": low, "high": high, **causes})  # fmt: skip
    return pd.DataFrame(rows)


def inside(found: dict[str, NDArray], weights: NDArray) -> pd.DataFrame:
    """Mean share of heat inside the arc, of mock lenses whose map is not empty, by layer, beside both baselines.

    Parameters
    ----------
    found : dict
        From `measure`.
    weights : array (B, N)
        From `Study.resamples`, of the test set.

    Returns
    -------
    pandas.DataFrame
        A row a layer: n; the mean of the own map, of another mock lens', of the mean map; and the paired gain of
        the own map over each, with the 95 % interval over stamps.
    """
    rows = []
    for layer in gradcam.LAYERS:
        own, other, mean = (found[f"{name}/{layer}"] for name in ("inside", "other", "mean"))
        row = {"layer": layer, "n": int(np.isfinite(own).sum()), "own": statistics.mean_interval(own, weights)[0]}
        for name, base in (("another's", other), ("mean map", mean)):  # another's may be empty where the own is not
            gain, low, high = statistics.mean_interval(own - base, weights)
            row |= {name: statistics.mean_interval(base + 0 * own, weights)[0]}
            row |= {f"gain over {name}": gain, f"low {name}": low, f"high {name}": high}
        rows.append(row)
    return pd.DataFrame(rows)


def interventions(truth: pd.DataFrame, found: dict[str, NDArray], weights: NDArray) -> pd.DataFrame:
    """Change of the logit when the arc, or the neighbours, are left out of the same image with the same noise.

    Neighbours are left out where the catalogue counts at least one bright one.

    Parameters
    ----------
    truth : pandas.DataFrame, N rows
        Of the test set.
    found : dict
        From `measure`.
    weights : array (B, N)
        From `Study.resamples`.

    Returns
    -------
    pandas.DataFrame
        A row an intervention and class of image: n, mean change and mean absolute change with 95 % intervals over
        stamps, and the share of decisions at p = 0.5 that change.
    """
    rows = []
    positive = (truth["label"] == 1).to_numpy()
    crowded = (truth["neighbours"] > 0).to_numpy() if "neighbours" in truth else np.zeros(len(truth), bool)
    parts = (
        ("arc", "mock lenses", positive, "no_arc"),
        ("arc", "mock lenses with neighbours", positive & crowded, "no_arc"),
        ("neighbours", "mock lenses with neighbours", positive & crowded, "no_neighbours"),
        ("neighbours", "negatives with neighbours", ~positive & crowded, "no_neighbours"),
    )
    for part, images, used, name in parts:
        used = used & np.isfinite(found[name])
        row = {"left out": part, "of": images, "n": int(used.sum())}
        if used.any():
            before, after = found["logit"][used].astype(float), found[name][used].astype(float)
            for label, values in (("change", after - before), ("size", np.abs(after - before))):
                mean, low, high = statistics.mean_interval(values, weights[:, used])
                row |= {label: mean, f"{label} low": low, f"{label} high": high}
            row["decisions changed"] = float(((before >= 0) != (after >= 0)).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def randomised(found: dict[str, NDArray]) -> pd.DataFrame:
    """Median rank correlation of each layer's maps with those of a network drawn anew from the top down, and n."""
    rows = []
    for layer in gradcam.LAYERS:
        for start, words in DRAWN_ANEW.items():
            values = found[f"random/{layer}/{start}"]
            values = values[np.isfinite(values)]
            middle = np.median(values) if len(values) else np.nan
            rows.append({"layer": layer, "drawn anew": words, "median correlation": middle, "n": len(values)})
    return pd.DataFrame(rows)
