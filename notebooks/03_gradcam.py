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
# Does a network look at the arcs, and does it ignore neighbours?  (Van Lohuizen 2021, sections 3.7, 4.5 and 5.2.)
# Gradient-weighted class activation maps (Grad-CAM, Selvaraju et al. 2017) of the BCE and the F_beta run of median
# validation loss, on the test set.  The thesis interprets cases that it shows; here cases are chosen by rule, and its
# interpretation is tested by measurements.
#
#     papermill notebooks/03_gradcam.py out.ipynb
#
# Takes a minute where runs and maps are there; else some two minutes on two CPU cores for the maps, which are kept in
# the run's folder (`gradcam_loss.h5`), besides the training (`notebooks/02_losses.py`).

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # the first two are used, bce and fbeta before others; None: the profile's
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
from lensdet.chapters.prose import filled, rounded
from lensdet.data import frozen_sets, mocklens
from lensdet.evaluation import statistics
from lensdet.network import gradcam, training
from lensdet.runs import median_run
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
print(training.banner(p))

# %% [markdown]
# ## Load the runs and their maps

# %%
study = Study(p)
study.train_missing()
truth, weights = study.truth(), study.resamples()
stamps, rows = frozen_sets.frozen_bank(p, "test")
images = mocklens.images(stamps, "test", rows, p.renormalise)
looked = sorted(p.experiments, key=lambda experiment: experiment not in ("bce", "fbeta"))[:2]
bce, soft = looked[0], looked[-1]
folders = {e: median_run(study.runs(e)).folder for e in looked}
found = {experiment: measurements.measure(p, folder) for experiment, folder in folders.items()}
heat = {e: {layer: f[f"heat/{layer}"] for layer in gradcam.LAYERS} for e, f in found.items()}
made = {"runs": 1}

# %% [markdown]
# ## The answer

# %%
inside = pd.concat([measurements.inside(f, weights).assign(model=e) for e, f in found.items()])
changes = pd.concat([measurements.interventions(truth, f, weights).assign(model=e) for e, f in found.items()])
at_add_5 = inside[(inside["model"] == bce) & (inside["layer"] == "add_5")].iloc[0]
of_lenses = changes[changes["model"] == bce].drop_duplicates("left out").set_index("left out")
bounds = {"change": "change", "low": "change low", "high": "change high"}
numbers = {name: of_lenses.get(column, {}) for name, column in bounds.items()}

# %%
filled(
    """The map of `{model}` at `add_5` has {heat[own]:.1%} of its heat inside the arc; the mean map of all mock lenses,
which depends on no particular arc, has {heat[mean map]:.1%} there (gain {heat[gain over mean map]:+.1%},
{heat[low mean map]:+.1%} to {heat[high mean map]:+.1%}).  Removing tells more: without its arc the logit of a mock lens
changes by {change[arc]:+.1f}, without its neighbours by {change[neighbours]:+.2f} ({low[neighbours]:+.2f} to
{high[neighbours]:+.2f}).  (`{profile}`: one run, {n} mock lenses.)""",
    **numbers, model=bce, heat=at_add_5, profile=p.profile, n=int((truth["label"] == 1).sum()),
)  # fmt: skip

# %% [markdown]
# ## The method
#
# $A^k_{ij}$ is feature map $k$ of a layer at cell $(i, j)$, and $y^c$ the network's output for class $c$, before the
# sigmoid.  The weight of a feature map is the mean of its gradient over its $Z$ cells:
#
# $$ \alpha_k^c = \frac{1}{Z} \sum_i \sum_j \frac{\partial y^c}{\partial A_{ij}^k} \qquad (3.24) $$
#
# and the map is the weighted sum of all feature maps, where that sum is positive:
#
# $$ L^c_{\text{Grad-CAM}} = \operatorname{ReLU} \left( \sum_k \alpha_k^c A^k \right) \qquad (3.25) $$
#
# It shows evidence *for* a lens, and nothing against.  The cells of `add_4` and `add_5` are 16 pixels wide, those of
# `add_6` and `add_7` 32 (6.4 arcsec), and the receptive field of each is larger than the stamp: a map can point to a
# side of the lens, not to an arc.

# %% [markdown]
# ## Cases

# %%
is_lens, n = truth["label"].to_numpy(), range(len(truth))
titles = {e: [figures.title(i, truth, f["logit"], e) for i in n] for e, f in found.items()}
for experiment in looked:
    chosen = measurements.cases(is_lens, found[experiment]["logit"])
    style.publish(
        figures.sheet(images, heat[experiment], chosen, titles[experiment]), f"03_cases_{experiment}", p, **made
    )

# %% [markdown]
# **Figures 03_cases.** For each of true and false positives and negatives (at p = 0.5) the most confident, the median
# and the least confident stamp, chosen by rule and not by eye: the stamp, and the stamp tinted by the map of each of
# four layers, whose cells are shown without interpolation.

# %% [markdown]
# ## The thesis' cases

# %%
cases = {
    e: figures.Cases(e, images, heat[e], titles[e], measurements.cases(is_lens, f["logit"], np.linspace(0, 1, 5)),
                     measurements.named_cases(truth, f["logit"], f))
    for e, f in found.items()
}  # fmt: skip
for draw in figures.CHAPTER:
    style.publish(draw(cases[bce]), draw, p, **made)

# %% [markdown]
# **Figures 5.3 to 5.8.** By kind, as in the thesis: a true positive, a true negative with heat at the borders, empty
# maps (of a true negative, or else of a true positive by the gradient of the probability), a spiral taken for a lens, a
# faint arc that is missed, a lens among neighbours that is missed.  Above the maps of four layers, below the stamp
# tinted by each.  Where there is no such case, the figure says so.

# %% [markdown]
# The thesis' appendix, from the most to the least confident:

# %% tags=["folded"]
for model, several in ((bce, figures.RIGHT), (soft, figures.WRONG)):
    for draw in several:
        style.publish(draw(cases[model]), draw, p, **made)

# %% [markdown]
# **Figures 7.7 to 7.21.** True positives and negatives of the first model, false positives and negatives of the last.

# %% [markdown]
# ## Every error

# %%
for experiment, f in found.items():
    short = [t.split("p = ")[1].replace("\n", " ").replace("positive (mock lens)", "").replace("negative ", "")
             for t in titles[experiment]]  # fmt: skip
    classes, order = measurements.outcome(is_lens, f["logit"]), np.argsort(-np.abs(f["logit"]), kind="stable")
    for name, words in (("FP", "false_positives"), ("FN", "false_negatives")):
        chosen = order[classes[order] == name]
        figure = figures.errors(images, heat[experiment], chosen, short)
        figure.suptitle(
            f"{experiment}: all {len(chosen)} {words.replace('_', ' ')} of {len(is_lens)} images", fontsize=9
        )
        style.publish(figure, f"03_{words}_{experiment}", p, **made, suffix="jpg")

# %% [markdown]
# **Figures 03_false_positives, 03_false_negatives.** Each misclassified stamp, and beside it the stamp tinted by its
# map at `add_5`, the most confident first.

# %% [markdown]
# ## How often is a map empty, and why?
#
# The thesis explains empty maps by a product of feature maps, and by soft losses (section 5.6).  There is no product in
# Eq. 3.25.  A map is empty if the weighted sum is positive nowhere; or, if the *probability* is differentiated as in
# the published code, where the sigmoid is flat in float32 (a logit above 17).  The published code also gave the network
# negatives without their square root, images that it had never been trained on.

# %%
empty = {e: measurements.empty_maps(is_lens, f) for e, f in found.items()}
table = pd.concat([t.assign(model=e) for e, t in empty.items()])
style.save_table(table, "03_empty_maps", p, **made)
style.publish(figures.empty_share(empty), "03_empty_maps", p, **made)
nothing = table[(table["target"] == "logit") & (table["layer"] == "add_7")]
rounded(nothing)

# %% [markdown]
# **Figure 03_empty_maps.** The share of maps without any heat, by layer and outcome, with 95 % Clopper-Pearson
# intervals.  The table is for the logit at `add_7`: how many maps are empty, and whether positive evidence or the
# gradient is missing.

# %% [markdown]
# ## How much of the heat lies inside the arc?
#
# Each pixel has the heat of the cell whose receptive field is centred nearest; the arc is where the source is above
# twice the noise.  A network that always looks around the centre has heat in arcs without looking for any.  So for
# comparison the map of *another* mock lens is measured in this arc, and the mean map of all.

# %%
style.save_table(inside, "03_heat_inside", p, **made)
style.publish(figures.heat_in_arcs(found, truth), "03_heat_inside", p, **made)
rounded(inside.assign(interval=statistics.side_of_zero(inside["low mean map"], inside["high mean map"])), 4)

# %% [markdown]
# **Figure 03_heat_inside.** The share of heat inside the arc, against the Einstein radius where that is known.  In the
# table `interval` says on which side of 0 the 95 % interval of the gain over the mean map lies: over stamps, for this
# one run, not corrected for the number of layers.

# %% [markdown]
# ## Does the network ignore neighbours?
#
# This is tested by intervention: the same simulated image, with the same noise and normalisation, is drawn without its
# neighbours or without its arc.

# %%
style.save_table(changes, "03_left_out", p, **made)
if p.data is None:
    figure = figures.left_out({e: changes[changes["model"] == e] for e in found})
else:
    figure = style.empty("Only simulated stamps can be drawn again without their neighbours.")
style.publish(figure, "03_left_out", p, **made)
rounded(changes.assign(interval=statistics.side_of_zero(changes["change low"], changes["change high"])))

# %% [markdown]
# **Figure 03_left_out.** How the logit changes without the arc, or without the neighbours; `change` is the mean, `size`
# the mean absolute value, both with 95 % intervals over stamps, for this one run.  If the interval of the change leaves
# out 0 for neighbours, the network does not ignore them; how much they matter shows in comparison with the arc.

# %% [markdown]
# ## A sanity check: randomised weights
#
# Maps that show what a network has learnt change with its weights (Adebayo et al. 2018).

# %%
table = pd.concat([measurements.randomised(f).assign(model=e) for e, f in found.items()])
style.save_table(table, "03_randomised", p, **made)
table.pivot_table(index=["model", "layer"], columns="drawn anew", values="median correlation").round(2)

# %% [markdown]
# **Table 03_randomised.** Median rank correlation of the maps with those of the same network whose weights are drawn
# anew, from the last layer down; near 1 the maps would not depend on what was learnt.

# %% [markdown]
# ## Discussion
#
# From some twenty maps the thesis concludes that the networks see arcs, take spiral arms for arcs, and "seemed
# insensitive to noise objects in the background" (section 6.1).  A map cannot show that: its cells are as wide as an
# arc system.

# %%
said = nothing.groupby("model")[["images", "empty"]].sum()
filled(
    """**Empty maps.**  Where the logit is differentiated, {empty[bce]:.0f} of {images[bce]:.0f} maps of `bce` at
`add_7` are empty, and {empty[fbeta]:.0f} of {images[fbeta]:.0f} of `fbeta`.  The thesis sees more of them with soft
losses and suspects a product of feature maps; the cause is in the table above: no positive evidence, or, with the
probability, a flat sigmoid.""",
    images=said["images"], empty=said["empty"],
)  # fmt: skip

# %%
filled(
    """**Neighbours.**  Without its neighbours the logit of a mock lens changes by {change[neighbours]:+.2f}
({low[neighbours]:+.2f} to {high[neighbours]:+.2f}), without its arc by {change[arc]:+.1f} ({low[arc]:+.1f} to
{high[arc]:+.1f}).  Whether neighbours are "ignored" is thus a matter of size: compare the two.  The change does not
tell the mechanism, and these are simulated neighbours.""",
    **numbers,
)
