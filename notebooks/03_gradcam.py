# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Where the network looks
#
# Gradient-weighted class activation maps (van Lohuizen 2021, sections 3.7, 4.5 and 5.2) of the BCE and the F_beta run
# of median validation loss, on the test set.  The thesis shows cases and reads them; here cases are chosen by rule,
# and what it reads from them is measured: how often a map is empty and why, how much heat lies inside the arc, and
# whether the network ignores neighbours.
#
#     papermill notebooks/03_gradcam.py out.ipynb
#
# It trains nothing that is there, and keeps what it computes in the run's folder (`gradcam_loss.h5`).  The cells of
# `add_4` and `add_5` are 16 pixels wide, those of `add_6` and `add_7` 32 (6.4 arcsec), and each sees more than the
# whole stamp: a map can point to a side of the lens, not to an arc.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # the first two of bce, fbeta and others that are given are looked into; None: the profile's
runs: int = None  # of each experiment
protocol: str = None  # text (default): as described; code: as the published runs computed
data: str = None  # folder in the thesis' layout; None: the embedded survey
workers: int = None  # processes that make stamps; None: all cores

# %%
import numpy as np
import pandas as pd

from lensdet import notebook
from lensdet.chapters import style
from lensdet.chapters.gradcam import figures, measurements
from lensdet.data import frozen_sets, mocklens
from lensdet.evaluation import statistics
from lensdet.network import gradcam, training
from lensdet.runs import median_run
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
print(training.banner(p))
study = Study(p)
study.train_missing()
truth, weights = study.truth(), study.resamples()
stamps, rows = frozen_sets.frozen_bank(p, "test")
images = mocklens.images(stamps, "test", rows)
looked = sorted(p.experiments, key=lambda experiment: experiment not in ("bce", "fbeta"))[:2]
folders = {e: median_run(study.runs(e)).folder for e in looked}
found = {experiment: measurements.measure(p, folder) for experiment, folder in folders.items()}
heat = {e: {layer: f[f"heat/{layer}"] for layer in gradcam.LAYERS} for e, f in found.items()}
labels, n = truth["label"].to_numpy(), range(len(truth))
titles = {e: [figures.title(i, truth, f["logit"], e) for i in n] for e, f in found.items()}
made = {"runs": 1}
bce, soft = looked[0], looked[-1]

# %% [markdown]
# ## Cases
#
# For each of true and false positives and negatives (at p = 0.5) the most confident, the median and the least
# confident. Rows: layers; columns: (a) the input, (b) the map with nearest neighbours, (c) the input in red and the
# map in blue.

# %%
for experiment in looked:
    chosen = measurements.cases(labels, found[experiment]["logit"])
    style.publish(
        figures.sheet(images, heat[experiment], chosen, titles[experiment]), f"03_cases_{experiment}", p, **made
    )

# %% [markdown]
# ## Figures 5.3 to 5.8
#
# The thesis' cases, by kind: a true positive, a true negative, a true negative with empty maps, a spiral taken for a
# lens, a faint arc that is missed, a lens among neighbours that is missed.

# %%
cases = {
    e: figures.Cases(e, images, heat[e], titles[e], measurements.cases(labels, f["logit"], np.linspace(0, 1, 5)),
                     measurements.named_cases(truth, f["logit"], f))
    for e, f in found.items()
}  # fmt: skip
for draw in figures.CHAPTER:
    style.publish(draw(cases[bce]), draw, p, **made)

# %% [markdown]
# ## Figures 7.7 to 7.21
#
# True positives and negatives of the first model, false positives and negatives of the last, from the most to the least
# confident.

# %%
for model, several in ((bce, figures.RIGHT), (soft, figures.WRONG)):
    for draw in several:
        style.publish(draw(cases[model]), draw, p, **made)
        style.plt.close()

# %% [markdown]
# ## Every error
#
# The atlas that the users of a finder ask for: each error as it is and with its map at `add_5`, the most confident
# first.

# %%
for experiment, f in found.items():
    short = [t.split("p = ")[1].replace("\n", " ").replace("positive (mock lens)", "").replace("negative ", "")
             for t in titles[experiment]]  # fmt: skip
    classes, order = measurements.outcome(labels, f["logit"]), np.argsort(-np.abs(f["logit"]), kind="stable")
    for name, words in (("FP", "false_positives"), ("FN", "false_negatives")):
        chosen = order[classes[order] == name]
        figure = figures.errors(images, heat[experiment], chosen, short)
        figure.suptitle(
            f"{experiment}: all {len(chosen)} {words.replace('_', ' ')} of {len(labels)} images", fontsize=9
        )
        style.publish(figure, f"03_{words}_{experiment}", p, **made, suffix="jpg")

# %% [markdown]
# ## How often is a map empty, and why?
#
# The thesis blames a product of feature maps, and soft losses.  There is no product in Eq. 3.25.  A map is empty
# where the weighted sum is positive nowhere; or, where the *probability* is differentiated as in the published code,
# where the sigmoid is flat in float32 (a logit above 17).  The published code also gave the network negatives without
# their square root, images that it had never been trained on.  The table is of the logit at `add_7`: how many maps are
# empty, and for want of positive evidence or of a gradient.

# %%
empty = {e: measurements.empty_maps(labels, f) for e, f in found.items()}
table = pd.concat([t.assign(model=e) for e, t in empty.items()])
style.save_table(table, "03_empty_maps", p, **made)
style.publish(figures.empty_share(empty), "03_empty_maps", p, **made)
table[(table["target"] == "logit") & (table["layer"] == "add_7")].round(3)

# %% [markdown]
# ## How much of the heat lies inside the arc?
#
# Each pixel has the heat of the cell whose receptive field is centred nearest; the arc is where the source is above
# twice the noise.  Beside it the share that the map of *another* mock lens has in this arc, and the mean map of all: a
# network that always looks around the centre does as well without looking.  `interval` says where the 95 % interval of
# the gain over the mean map lies: over stamps, for this one run, not corrected for the number of layers.

# %%
inside = {e: measurements.inside(f, weights) for e, f in found.items()}
table = pd.concat([t.assign(model=e) for e, t in inside.items()])
style.save_table(table, "03_heat_inside", p, **made)
style.publish(figures.heat_in_arcs(found, truth), "03_heat_inside", p, **made)
table.assign(interval=statistics.side_of_zero(table["low mean map"], table["high mean map"])).round(4)

# %% [markdown]
# ## Does the network ignore neighbours?
#
# By intervention: the same simulated image with the same noise and the same normalisation, without its neighbours or
# without its arc.  `change` is the mean change of the logit, `size` that of its absolute value, both with 95 %
# intervals over stamps, for this one run.  Where the interval of the change does not hold 0 for neighbours, the network
# does not ignore them; how much they matter is seen beside the size of the arc's.

# %%
changes = {e: measurements.interventions(truth, f, weights) for e, f in found.items()}
table = pd.concat([t.assign(model=e) for e, t in changes.items()])
style.save_table(table, "03_left_out", p, **made)
if p.data is None:
    figure = figures.left_out(changes)
else:
    figure = style.empty("Only simulated stamps can be drawn again without their neighbours.")
style.publish(figure, "03_left_out", p, **made)
table.assign(interval=statistics.side_of_zero(table["change low"], table["change high"])).round(3)

# %% [markdown]
# ## A sanity check: networks drawn anew
#
# Maps that show what a network has learnt change with its weights (Adebayo et al. 2018).  Median rank correlation of
# the maps with those of the same network drawn anew from the top down; near 1 the maps would not depend on what was
# learnt.

# %%
table = pd.concat([measurements.randomised(f).assign(model=e) for e, f in found.items()])
style.save_table(table, "03_randomised", p, **made)
table.pivot_table(index=["model", "layer"], columns="drawn anew", values="median correlation").round(2)
