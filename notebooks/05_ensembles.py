# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Ensembles
#
# Does an ensemble do better than its members, if these are trained with different losses or selected by different
# metrics?  (Van Lohuizen 2021, sections 3.6, 4.6 and 5.4.)  Table 5.2, Figures 5.15 to 5.18, and what the thesis does
# not ask: is a weight after a softmax still the optimum?  Do plain means, stacking, or several runs of one loss do as
# well?  What does an input-dependent ensemble learn?  And the cascade that section 6.2 recommends.
#
#     papermill notebooks/05_ensembles.py out.ipynb -f params/nm.yaml
#
# All is drawn from saved logits.  What is missing is trained first: members, and DE_m, the network of an
# input-dependent ensemble, which needs its members' weights.  Ensemble i is made of its members' runs i.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
ensembles: list = None  # of NM_3, NM_6, IDE_3, IDE_6; None: all
experiments: list = None  # losses; None: the profile's
runs: int = None  # of each experiment
dynamic_chunks: int = None  # that DE_m trains on
protocol: str = None  # text (default): weights on the simplex; code: a softmax after the optimum, as published
data: str = None  # folder in the thesis' layout; None: the embedded survey
workers: int = None  # processes that make stamps; None: all cores

# %%
import pandas as pd

from lensdet import notebook
from lensdet.chapters import style
from lensdet.chapters.ensembles import figures, summary, tables
from lensdet.chapters.losses.tables import best_models, readable, table_5_1
from lensdet.evaluation import ensembles as methods
from lensdet.evaluation import statistics
from lensdet.experiments import BCE, ENSEMBLES, same_loss
from lensdet.network import training
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
chosen, dynamic = methods.possible(p), methods.dynamic(p)
losses = sorted({loss for ensemble in chosen for loss in ENSEMBLES[ensemble].losses})
print(training.banner(p, [*losses, *dynamic]))

# %% [markdown]
# ## Train what is missing

# %%
study = Study(p)
study.train_missing([*losses, *dynamic])
weights = study.resamples()
made = {"runs": p.runs}

# %% [markdown]
# ## Table 5.2
#
# Each cell: mean over runs, seed-to-seed spread, the 95 % interval that the test images leave, the thesis' mean.  The
# accuracy in the thesis' table is the mean over all 99 thresholds, with the spread over thresholds and runs
# together; so is ours in that column.  Beside ours at p = 0.5 stands what the thesis' precision and recall imply.

# %%
found = tables.load_scores(study)
measured = tables.measure(p, found, weights)
table = tables.table_5_2(measured, found)
wide = readable(table)
style.save_table(table, "table_5_2", p, wide, **made)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# By the rule of section 4.6 NM_x has the models that are best on accuracy, F_beta, precision and recall.  Which these
# are here, and by the thesis' numbers.  The members here stay those of the thesis, so that its ensembles are compared.

# %%
single = table_5_1(study, weights)
pd.DataFrame({"here": best_models(single), "thesis": best_models(single.assign(mean=single.thesis))})

# %% [markdown]
# ## Figures 5.15 to 5.18
#
# Black: the ensemble, with a band of one seed spread.  Coloured: its members.

# %%
used = {
    ensemble: methods.dynamic_weights(study, ensemble)
    if ensemble in dynamic
    else methods.nelder_mead_weights(study, ensemble)
    for ensemble in chosen
}
member_weights = tables.weights_table(used)
for ensemble in chosen:
    draw = figures.CURVES[ensemble]
    style.publish(draw(found, p.selection_beta, member_weights), draw, p, **made)

# %% [markdown]
# ## The weights
#
# Of an input-dependent ensemble: their mean over the test images.  Two selectors of one training may have chosen the
# same checkpoint; the second of such twins has no weight in a Nelder-Mead ensemble, nor in a plain mean.

# %%
style.save_table(member_weights, "05_weights", p, **made)
for size in sorted({ENSEMBLES[ensemble].size for ensemble in chosen}):
    print("{} of {} members are copies of another, in ensembles of {}".format(*tables.copies(study, size), size))
member_weights.round(3)

# %% [markdown]
# ### Before and after the softmax
#
# The published weights went through a softmax *after* the optimisation.  That undoes it: a weight of 0 comes out as
# large as exp(-1) times one of 1, and members that the optimum had left out are back in.  The thesis sees two bumps in
# the curves and takes them for a property of weighted means; a member that says 0 or 1 makes a step at its weight
# (below it that member alone is enough) and at one less its weight (above it nothing passes without it).  All of this
# by the `code` protocol: its checkpoints, weights fitted on a training chunk.
#
# The table has the mean F_beta below, above and between the two steps of the member of the largest weight among those
# trained with a soft loss; and the most that rounding the soft members to yes or no changes the curve there.

# %%
nelder_mead = [ensemble for ensemble in chosen if ensemble not in dynamic]
code = study.changed(protocol="code")
if nelder_mead:
    raw = {ensemble: methods.nelder_mead_weights(code, ensemble) for ensemble in nelder_mead}
    rows = {ensemble: tables.weights_table({ensemble: w}) for ensemble, w in raw.items()}
    curves = {ensemble: summary.threshold_steps(code, ensemble, w) for ensemble, w in raw.items()}
    style.save_table(pd.concat(rows.values()).assign(protocol="code"), "05_raw_weights", p, **made)
    figure, bands = figures.raw_weights(rows, curves), summary.bands(curves)
else:
    figure, bands = style.empty("No Nelder-Mead ensemble among those asked for."), pd.DataFrame()
style.caption(figure, code.parameters, **made)
style.save(figure, "05_raw_weights", p)
bands.round(3)

# %% [markdown]
# ## What an input-dependent ensemble learns
#
# `ties`: images for which several members are equally close to the label in float32 probability, where the published
# rule took the first.  `by_label`: images whose closest member is simply that which is mostly closest for their label.
# Where that is nearly all, the target is the label under another name.  `named`: DE_m names the closest member;
# `most_frequent`: naming always the same one would be right.

# %%
learned = pd.concat([pd.DataFrame(), *(summary.targets(study, ensemble) for ensemble in dynamic)])
if len(learned):
    style.save_table(learned, "05_targets", p, **made)
learned.round(3)

# %% [markdown]
# ## Against what an ensemble has to beat
#
# Means over runs with the interval that the test images leave; at p = 0.5, at a threshold from the calibration set, and
# without any.  Stacking and the best member go by the calibration set.  The oracle takes for each image the member
# closest to its label: it **uses the labels and cannot be attained**.  Ensembles of several runs of one loss overlap.

# %%
means = tables.summary(measured)
style.save_table(means, "05_baselines", p, **made)
style.publish(figures.compared(means, summary.SHOWN), "05_baselines", p, **made)

# %% [markdown]
# ### The third research question
#
# Each ensemble less the member that is best at that measure on the calibration set: the difference with its 95 %
# interval over runs and images, and the verdict.  *Higher* or *lower*: shown, corrected for the number of all
# differences to a best member, those of means and stacking among them; *equivalent*: within 0.01 of 0; *open*: neither,
# or fewer than five runs.

# %%
compared = tables.compare_with_baselines(p, found, measured)
style.save_table(compared, "05_against", p, **made)
best = compared[(compared.against == "best member") & compared.ensemble.isin(chosen)]
decided = best.verdict.isin(["higher", "lower"]).sum()
print(f"{p.images:,} images a run, runs: {p.runs}; {decided} of {len(best)} differences to the best member are decided")
best.drop(columns=["against", "test_low", "test_high"]).round(3)

# %% [markdown]
# Is it the diversity of losses, or the averaging of seeds?  The same against as many runs of cross-entropy, where there
# are enough; and what a mean has more than its members on average.  Intervals are over images alone: ensembles of one
# loss share runs, among them others than those of the members.  So there is no verdict on other seeds.

# %%
sizes = sorted({ENSEMBLES[ensemble].size for ensemble in chosen})
seeds = compared[compared.against.isin([same_loss(BCE, n) for n in sizes]) & compared.measure.isin(summary.FAIR)]
seeds = seeds.assign(interval=statistics.side_of_zero(seeds.test_low, seeds.test_high))
seeds.drop(columns=["against", "low", "high", "verdict"]).round(3)

# %%
tables.gains(measured, sizes).round(3)

# %% [markdown]
# ## A cascade
#
# The F1 member first, which misses few; the F_beta member on what passes.  Both thresholds are from the calibration
# set; the others are read at the recall that the cascade then has on the test set.  `cascade_minus_it` is the precision
# of the cascade less theirs.  There is no precision where some run accepts nothing.

# %%
cascade = summary.cascades(p, found, weights)
style.save_table(cascade, "05_cascade", p, **made)
style.publish(figures.cascade(cascade), "05_cascade", p, **made)
cascade.round(3)
