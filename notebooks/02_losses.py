# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Loss functions
#
# Which loss performs best in precision or recall?  (Van Lohuizen 2021, sections 3.4, 3.5 and 5.1.)  This notebook
# trains what is missing, or loads it, and draws Table 5.1 with the thesis' numbers beside ours, Figures 5.1, 5.2 and
# 7.1 to 7.6, and the training curves.  Then it asks what the thesis does not: is a soft loss doing more than moving the
# threshold?  And how much of the published table is the way its checkpoints were chosen?
#
#     papermill notebooks/02_losses.py out.ipynb -f params/fbeta.yaml
#
# Run i has the same initial weights and training rows in every experiment: differences between losses are paired.
# How many images a run was trained on stands on each figure; claims are judged in `figures/comparison.md`.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # of bce, fbeta, f1, f1_double, focal, sigmoid_f1, fbeta:0.5 (beta 0.5); None: the first four
runs: int = None  # of each experiment
beta: float = None  # of the soft F_beta loss
protocol: str = None  # text (default): as described; code: as the published runs computed
lens_prior: float = None  # share of lenses in the sky, for purity
sky_contaminants: float = None  # share of contaminants among what is no lens in that sky
data: str = None  # folder in the thesis' layout; None: the embedded survey
workers: int = None  # processes that make stamps; None: all cores

# %%
import pandas as pd

from lensdet import notebook
from lensdet.chapters import schematics, style
from lensdet.chapters.losses import figures, tables, threshold_control
from lensdet.evaluation import calibration
from lensdet.network import training
from lensdet.runs import hardware
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
print(training.banner(p))

# %% [markdown]
# ## The network: Figures 3.1, 3.2 and 4.3, Table 3.1
#
# Drawn from the network itself (section 4.3).  The thesis draws the first ResNet; its runs used the pre-activation
# form.

# %%
schematics.save(p)
schematics.table_3_1()

# %% [markdown]
# ## Train what is missing

# %%
study = Study(p)
study.train_missing()
found = {experiment: study.runs(experiment) for experiment in p.experiments}
histories = {experiment: [run.history for run in runs] for experiment, runs in found.items()}
weights = study.resamples()
made = {"runs": min(map(len, found.values()))}
headline = made | {"hardware": hardware(run for runs in found.values() for run in runs)}
pd.DataFrame({e: {"folder": runs[0].folder.parent.name, "runs": len(runs)} for e, runs in found.items()}).T

# %% [markdown]
# ## Table 5.1
#
# Each cell: the mean over runs; the seed-to-seed spread (standard deviation with n − 1) of single runs; the 95 %
# interval that the sample of test images leaves to the mean of these very runs (LRGs, contaminants and sources drawn
# again, two ways where they are reused); the thesis' mean.  Rows 1 to 3 are one training, read at three checkpoints.
# Collapsed runs (everything accepted, or nothing) stay in every mean.
#
# On the simulated survey the accuracy of cross-entropy is no result: how hard the contaminants are (`hardness`) was set
# so that it lies near the thesis' after a million images.  What the losses differ by is one.

# %%
table = tables.table_5_1(study, weights)
wide = tables.readable(table)
style.save_table(table, "table_5_1", p, wide, **headline)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# ## Figure 5.1
#
# Rows that chose the same checkpoint lie on top of each other.

# %%
read = {model: study.scores(model) for model in study.models}
read = {model: s for model, s in read.items() if s is not None}
figure = figures.figure_5_1(read, p.selection_beta)
style.publish(figure, figures.figure_5_1, p, **headline)

# %% [markdown]
# ## Figures 5.2 and 7.1 to 7.6
#
# The run of median validation loss of each model (the thesis does not say which of the ten it shows).

# %%
bold = {model: (s.labels, s.logits, study.median_run(model, s)) for model, s in read.items()}
shown = {model: (labels, logits[k], read[model].runs[k]) for model, (labels, logits, k) in bold.items()}
figure = figures.figure_5_2(shown)
style.publish(figure, figures.figure_5_2, p, **made)

# %%
for model, draw in figures.PREDICTIONS.items():
    if model in shown:
        style.publish(draw(shown), draw, p, **made)

# %% [markdown]
# ## Training curves
#
# Thin: runs; bold: their mean.  With a cosine the learning rate falls to nothing at the end, which flattens every
# curve: whether more images would change a claim is seen in `figures/comparison.md`.

# %%
figure = figures.training_curves(histories)
style.publish(figure, "02_training", p, **headline)

# %% [markdown]
# ## Is the loss doing more than moving the threshold?
#
# Soft F_beta is a ratio of linear functions of the outputs.  Its optimum is a thresholded posterior, at F*/(1 + β²)
# with F* the best F_beta there is (Lipton et al. 2014): high for a small β, while soft F1 sits at F*/2.  If that is
# all, cross-entropy read at that threshold does the same.  The thesis never looks.
#
# The table has each soft loss at the recall that it has itself: its precision there, the difference to cross-entropy
# read at the same recall with the 95 % interval over runs and images, and the verdict.  *Higher* or *lower*: the
# difference is shown, corrected for the number of models; *equivalent*: it is within 0.01 of 0; *open*: neither, or
# fewer than five runs.

# %%
matched = threshold_control.matched(study, weights)
style.save_table(matched, "02_matched", p, threshold_control.readable(matched), **made)
own = threshold_control.at_own_recall(matched)
figure = figures.precision_recall(bold, own)
style.publish(figure, "02_control", p, **headline)
own.drop(columns=["matched", "at"], errors="ignore").round(3)

# %% [markdown]
# Precision at matched recall and recall at matched precision, on the test curves, with ties interpolated as if a
# random part of them were accepted.  A diagnosis: the threshold is chosen with the test labels at hand.

# %%
threshold_control.readable(matched)

# %% [markdown]
# What a user would do: every model at the threshold of its best F_beta on the calibration set, read on the test set.

# %%
deployed = threshold_control.deployed(study, weights)
wide = tables.readable(deployed)
style.save_table(deployed, "02_own_thresholds", p, wide, **made)
wide

# %%
figure = figures.roc(bold)
style.publish(figure, "02_roc", p, **made)

# %% [markdown]
# ### The effective threshold
#
# The calibrated probability at which cross-entropy has the recall that a soft model has at p = 0.5, on the calibration
# set; one point a run.  The table has means over the runs where it is between 0 and 1; `outside` runs accept all lenses
# or none, and cut beyond what can be told.

# %%
effective = threshold_control.effective_thresholds(study)
if len(effective):
    style.save_table(effective, "02_effective_thresholds", p, **made)
    figure, means = figures.effective(effective), threshold_control.mean_thresholds(effective)
else:
    means = effective
    figure = style.empty("Effective thresholds need bce beside fbeta or f1 among the experiments.")
style.publish(figure, "02_effective_thresholds", p, **made)
means.round(3)

# %% [markdown]
# ### Are the predictions probabilities?
#
# Expected calibration error and Brier score, before and after temperature scaling fitted on the calibration set; drawn
# for the run of median validation loss.  The test set is half lenses: a sky with few of them needs the prior as well.

# %%
errors = threshold_control.calibrated(study)
style.save_table(errors, "02_calibration", p, **made)
temperatures = errors.set_index(["model", "run"])["temperature"]
curves = {
    model: [calibration.reliability(labels, z.astype(float) / t) for t in (1, temperatures[model, run])]
    for model, (labels, z, run) in shown.items()
}
figure = figures.reliability(curves)
style.publish(figure, "02_reliability", p, **made)
errors.groupby("model", sort=False).mean(numeric_only=True).drop(columns="run")

# %% [markdown]
# ### On the sky
#
# False positives by kind of negative (95 % Clopper-Pearson, the run of median validation loss), and what they mean
# where few objects are lenses.  *For this negative mix*, which is simulated.  The bounds show how far rates as low as
# the sky needs can be told from the negatives at hand: `worst` and `best` take all rates at the ends of their
# intervals.

# %%
wrong = threshold_control.false_positives(study)
style.save_table(wrong, "02_false_positives", p, **made)
figure = figures.false_positive_rates(wrong)
style.publish(figure, "02_false_positives", p, **made)

# %%
contaminant = (study.truth()["host"] == "contaminant").to_numpy()
figure = figures.inspected(bold, contaminant, p.sky_contaminants, p.lens_prior)
style.publish(figure, "02_inspected", p, **made)
sky = threshold_control.on_the_sky(wrong, p.lens_prior, p.sky_contaminants)
style.save_table(sky, "02_sky", p, **made)
sky.round(4)

# %% [markdown]
# ## How the published checkpoints were chosen
#
# The published runs validated on batches sorted by class, drawn anew for every chunk, with the L2 penalty in the loss;
# the "soft F_beta metric" row was chosen by accuracy; thresholds and β differ a little (`metrics.PROTOCOLS`).  Both
# protocols read the same trainings here.  (What the published trainings did otherwise, such as shrinking instead of
# enlarging, has switches of its own: `redraw_validation`, `zoom_direction`, `interpolation`.)

# %%
both = tables.protocols(study, weights)
style.save_table(both, "02_protocols", p, **made)
both.round(3)

# %% [markdown]
# Is the high recall of soft F1 its loss, or its selection?  Recalls at p = 0.5, paired by run: `loss` is soft F1 less
# cross-entropy, both selected on the whole validation set; `selection` is soft F1 as the published runs selected it
# less soft F1 as here; `both` is soft F1 less cross-entropy as the published runs selected.  (Theirs redrew the
# validation set for every chunk; ours is frozen unless `redraw_validation` says otherwise.)  Empty without bce and f1.

# %%
threshold_control.selection(study, weights).round(3)
