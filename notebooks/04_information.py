# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. What the network needs to see
#
# Which lensing parameters explain which lenses are found?  (Van Lohuizen 2021, section 5.3.)  Figures 5.9 to 5.14 and
# 7.22 to 7.30 for the runs of median validation loss of BCE, F_beta and F1, on the mock lenses of the test set and on a
# larger set of them; then a statistical model with intervals, and the selection function as a table.
#
#     papermill notebooks/04_information.py out.ipynb
#
# Takes a minute on two CPU cores where the runs are there (`notebooks/02_losses.py` says what training takes).

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # losses; None: the profile's
runs: int = None  # of each experiment
protocol: str = None  # text (default): noise measured correctly; code: 1.659 times that, as published
data: str = None  # folder in the thesis' layout; None: the embedded survey
workers: int = None  # processes that make stamps; None: all cores

# %%
import pandas as pd

from lensdet import notebook
from lensdet.chapters import style
from lensdet.chapters.information import detection_model, figures, mock_lenses, selection_function
from lensdet.chapters.prose import filled, rounded
from lensdet.evaluation import statistics
from lensdet.network import training
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
print(training.banner(p))

# %% [markdown]
# ## Load the runs

# %%
study = Study(p)
study.train_missing()
lenses = mock_lenses.load(study)
detections = mock_lenses.detections(lenses, p)
models = list(lenses.probability)
made = {"runs": 1}
pd.DataFrame({name: [len(table)] for name, table in lenses.truth.items()}, index=["mock lenses"])

# %% [markdown]
# ## The answer

# %%
many = lenses.truth["information"]
explaining, group = detection_model.lensing_parameters(many), many["stamp_id"].to_numpy()
importances, shares = {}, {}
for model, found in lenses.found.items():
    names = explaining.columns
    importances[model] = detection_model.importance(explaining, found, names, group, seed=p.data_seed)
    shares[model] = detection_model.explained(explaining, found, many["fraction"], group, seed=p.data_seed)
importance, explained = (pd.concat([t.assign(of=of) for of, t in tables.items()]) for tables in (importances, shares))
fewest = min(map(len, lenses.found.values()))  # runs

# %%
first = importance.drop_duplicates("of").set_index("of")
first = first.assign(ahead=statistics.side_of_zero(first["lead_low"], first["lead_high"]))
filled(
    """The most important parameter is `{feature[Binary Cross Entropy]}` for BCE, {importance[Binary Cross Entropy]:.1%}
of the held-out deviance ({low[Binary Cross Entropy]:.1%} to {high[Binary Cross Entropy]:.1%}; ahead of the next by
{lead[Binary Cross Entropy]:.1%}, interval {ahead[Binary Cross Entropy]}), and `{feature[F_beta Soft Loss]}` for soft
F_beta, {importance[F_beta Soft Loss]:.1%} ({low[F_beta Soft Loss]:.1%} to {high[F_beta Soft Loss]:.1%}; ahead by
{lead[F_beta Soft Loss]:.1%}, {ahead[F_beta Soft Loss]}).  (`{profile}`: {runs}, {n:,} mock lenses.)""",
    **first, profile=p.profile, runs=style.number_of(fewest, "run"), n=len(many),
)  # fmt: skip

# %% [markdown]
# ## What is measured
#
# A mock lens is $m = l + s \cdot \alpha \max(l) / \max(s)$ (Eq. 4.2): alpha is the peak of the source $s$ over that of
# the LRG $l$.  How much of the source can be seen is measured by the **fraction** of the stamp's $N$ pixels in which
# the scaled source is above twice the noise $\sigma$ of the LRG's stamp:
#
# $$ f = \frac{1}{N} \sum_{ij} \left[\, s_{ij} \frac{\alpha \max(l)}{\max(s)} > 2 \sigma \,\right] $$
#
# In its text the thesis takes the axis of some of its figures for alpha; it is this fraction.

# %% [markdown]
# ### The noise
#
# The root mean square of the negative pixels *is* the noise of a sky around zero: it is the same for either half of a
# symmetric distribution.  The published code multiplied it by 1.659, so that its "2x noise" is 3.3 times.

# %%
if p.data is None:
    figure = figures.noise(mock_lenses.noise_estimates(p))
else:
    figure = style.empty("The noise of these stamps is not known beforehand.")
style.publish(figure, "04_noise", p)

# %% [markdown]
# **Figure 04_noise.** Each estimate divided by the noise that was simulated, for the LRGs of the test set.  Beside the
# two, the median absolute deviation after clipping, which counts a galaxy's halo as noise; the halo also makes some
# negative pixels positive.

# %% [markdown]
# ## Which are found, by Einstein radius and alpha

# %%
for model in models:
    for name in detections:
        style.publish(*figures.draw("radius_alpha", detections[name], model, name), p, **made)

# %% [markdown]
# **Figures 5.9, 5.11 and 5.13.** The share of mock lenses that are found (p = 0.5) in cells of Einstein radius and
# alpha, by the run of median validation loss; each model on the 551 of the thesis' figure, and on the larger set.
# Cells with fewer than five mock lenses are marked.

# %% [markdown]
# ## Which are found, by the fraction above the noise

# %%
for model in models:
    for name in detections:
        style.publish(*figures.draw("fraction", detections[name], model, name), p, **made)

# %% [markdown]
# **Figures 5.10, 5.12 and 5.14.** The share of mock lenses found and missed, by the fraction of the stamp where the
# source is above twice the noise, with 95 % intervals; below, the number of mock lenses in each bin.

# %%
above = {
    (model, name): selection_function.full_above(lenses.truth[name]["fraction"], probability >= 0.5)._asdict()
    for model, by_set in lenses.probability.items()
    for name, probability in by_set.items()
}
above = pd.DataFrame(above).T.rename_axis(["model", "set"]).reset_index()
style.save_table(above, "04_full_above", p, **made)
rounded(above)

# %% [markdown]
# **Table 04_full_above.** Above which fraction is none missed?  The thesis reads 0.043, 0.074 and 0.017 off its bars.
# `edge` is the left edge of the bin from which on all are found, `missed` the largest fraction of a missed lens,
# `above` how many lenses lie above that, and `miss_rate_high` the upper limit of the miss rate that 0 missed of so many
# leaves (95 %; too low, as the limit was read off the same lenses).

# %% [markdown]
# ## Predictions

# %% tags=["folded"]
for model in models:
    for name in detections:
        for kind in ("prediction_fraction", "prediction_radius", "mean_prediction"):
            style.publish(*figures.draw(kind, detections[name], model, name), p, **made)

# %% [markdown]
# **Figures 7.22 to 7.30.** Predictions against the fraction and the Einstein radius, and their mean in cells, as in the
# thesis' appendix; each model on both sets.

# %% [markdown]
# ## Which parameters explain what is found?
#
# A logistic regression, with squares and a ridge penalty, of being found on alpha, Einstein radius, the lens' peak over
# its noise, the source's radius and the number of neighbours; and another on the fraction alone.  A parameter's
# importance is the share of the held-out deviance (minus twice the log-likelihood) that the model explains less when
# fitted without it.  Cross-validation folds and intervals are by LRG, on the larger set, with all runs together: they
# hold for these very networks.

# %%
style.save_table(importance, "04_importance", p, runs=fewest)
style.save_table(explained, "04_explained", p, runs=fewest)
if all(table["importance"].isna().any() for table in importances.values()):
    figure = style.empty("Too few mock lenses were missed, or found, to say what explains it.")
else:
    figure = figures.importances(importances)
style.publish(figure, "04_importance", p, runs=fewest)
rounded(importance.assign(interval=statistics.side_of_zero(importance["low"], importance["high"])))

# %% [markdown]
# **Figure 04_importance.** The importance of each parameter, with its 95 % interval.  In the table `lead` is the
# difference to the next parameter: which matters most is known only if the first `lead_low` is above 0.  `interval`
# says on which side of 0 the 95 % interval lies; there is none where too few lenses were missed, or found.

# %%
rounded(explained.assign(interval=statistics.side_of_zero(explained["low"], explained["high"])))

# %% [markdown]
# **Table 04_explained.** The share of the deviance explained by all parameters, by the fraction alone, and the
# difference.

# %% [markdown]
# ## The selection function
#
# The share of mock lenses that a run finds, as a table for statistics of lenses (`04_selection_function.csv`).

# %%
if lenses.located:
    selected = {
        model: selection_function.selection_function(many, by_set["information"] >= 0.5, fraction="fraction")
        for model, by_set in lenses.probability.items()
    }
    table = pd.concat([t.assign(model=model) for model, t in selected.items()])
    style.save_table(table, "04_selection_function", p, **made)
    figure = figures.selection(selected)
else:
    figure = style.empty(figures.NOWHERE)
style.publish(figure, "04_selection_function", p, **made)

# %% [markdown]
# **Figure 04_selection_function.** The share found at p = 0.5 by Einstein radius and fraction; the numbers are the mock
# lenses in each cell.  The table has intervals; they take mock lenses as independent, though some share an LRG.

# %% [markdown]
# ## Discussion
#
# The thesis concludes that "a combination of low lensing feature luminosity and Einstein radii resulted in most
# misclassifications" (section 6.1) and that alpha matters most, and states limits above which no lens is missed, from a
# test set of 551.

# %%
difference = explained[explained["model"] == "difference"].set_index("of")
filled(
    """**Alpha, or the visible fraction?**  All parameters together explain {model[Binary Cross Entropy]:+.1%}
({low[Binary Cross Entropy]:+.1%} to {high[Binary Cross Entropy]:+.1%}) more of the deviance than the fraction alone for
BCE, {model[F_beta Soft Loss]:+.1%} for soft F_beta and {model[F_1 Soft loss]:+.1%} for soft F1; a negative number says
that the fraction explains more.""",
    model=difference["explained"], low=difference["low"], high=difference["high"],
)  # fmt: skip

# %%
edges = above.pivot(index="model", columns="set", values="edge")
filled(
    """**Limits above which none is missed.**  On the test set: {test[Binary Cross Entropy]:.3f} for BCE,
{test[F_beta Soft Loss]:.3f} for soft F_beta, {test[F_1 Soft loss]:.3f} for soft F1 (thesis: 0.043, 0.074, 0.017).  On
{n:,} mock lenses: {many[Binary Cross Entropy]:.3f}, {many[F_beta Soft Loss]:.3f}, {many[F_1 Soft loss]:.3f}; a dash
where there is none.  Such a limit moves with the size of the sample: it depends on the largest fraction missed.""",
    test=edges["test"], many=edges["information"], n=len(many),
)  # fmt: skip
