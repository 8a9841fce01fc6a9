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
from IPython.display import Markdown

from lensdet import parameters
from lensdet.chapters import style
from lensdet.chapters.ensembles import figures, summary, tables
from lensdet.chapters.losses.tables import readable, table_5_1
from lensdet.evaluation import ensembles as methods
from lensdet.experiments import ENSEMBLES
from lensdet.network import training
from lensdet.study import Study

p = parameters.from_notebook(globals())
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

# %%
Markdown(summary.members_by_rule(table_5_1(study, weights)))

# %% [markdown]
# ## Figures 5.15 to 5.18
#
# Black: the ensemble, with a band of one seed spread.  Coloured: its members.

# %%
for ensemble in chosen:
    draw = figures.CURVES[ensemble]
    style.publish(draw(found, p.selection_beta), draw, p, **made)

# %% [markdown]
# ## The weights
#
# Of an input-dependent ensemble: their mean over the test images.  Two selectors of one training may have chosen the
# same checkpoint; the second of such twins has no weight in a Nelder-Mead ensemble, nor in a plain mean.

# %%
used = {
    ensemble: methods.dynamic_weights(study, ensemble)
    if ensemble in dynamic
    else methods.nelder_mead_weights(study, ensemble)
    for ensemble in chosen
}
member_weights = tables.weights_table(used)
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

# %%
nelder_mead = [ensemble for ensemble in chosen if ensemble not in dynamic]
code = study.changed(protocol="code")
if nelder_mead:
    raw = {ensemble: methods.nelder_mead_weights(code, ensemble) for ensemble in nelder_mead}
    rows = {ensemble: tables.weights_table({ensemble: w}) for ensemble, w in raw.items()}
    curves = {ensemble: summary.threshold_steps(code, ensemble, w) for ensemble, w in raw.items()}
    style.save_table(pd.concat(rows.values()).assign(protocol="code"), "05_raw_weights", p, **made)
    figure, words = figures.raw_weights(rows, curves), summary.steps_summary(curves)
else:
    figure, words = style.empty("No Nelder-Mead ensemble among those asked for."), ""
style.caption(figure, code.parameters, **made)
style.save(figure, "05_raw_weights", p)
Markdown(words)

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

# %%
compared = tables.compare_with_baselines(p, found, measured)
style.save_table(compared, "05_against", p, **made)
best = compared[(compared.against == "best member") & compared.ensemble.isin(chosen)]
best.pivot(index="ensemble", columns="measure", values="difference").round(3)

# %% [markdown]
# ## A cascade
#
# The F1 member first, which misses few; the F_beta member on what passes.  Both thresholds are from the calibration
# set; the others are read at the recall that the cascade then has on the test set.

# %%
cascade = summary.cascades(p, found, weights)
style.save_table(cascade, "05_cascade", p, **made)
style.publish(figures.cascade(cascade), "05_cascade", p, **made)

# %% [markdown]
# ## The third research question

# %%
Markdown(summary.third_question(p, measured, table, compared, learned, cascade))
