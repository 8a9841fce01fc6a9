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
# Which loss performs best in precision or recall?  (Van Lohuizen 2021, sections 3.4, 3.5 and 5.1.)  This notebook loads
# the trained networks, or trains those that are missing, derives the losses, and draws Table 5.1 with the thesis'
# numbers beside ours, Figures 5.1, 5.2 and 7.1 to 7.6.  Then it asks what the thesis does not: does a soft loss do more
# than move the threshold?
#
#     papermill notebooks/02_losses.py out.ipynb -f params/fbeta.yaml
#
# Takes a minute where the runs (trained networks) are there; else, with `quick` on two CPU cores, some five minutes a
# run, two at a time; `lite` needs a GPU, and trains all twenty runs in seven minutes on one NVIDIA H200.  Run i has the
# same initial weights and training images in every experiment (loss): differences between losses are paired.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # of bce, fbeta, f1, f1_double, focal, sigmoid_f1, fbeta:0.5 (beta 0.5); None: the first four
runs: int = None  # of each experiment
beta: float = None  # of the soft F_beta loss
protocol: str = None  # text (default): as described; code: as the published runs computed
lens_prior: float = None  # share of lenses in the sky, for purity
sky_contaminants: float = None  # share of contaminants among the objects of that sky that are not lenses
data: str = None  # folder in the thesis' layout; None: the embedded survey
workers: int = None  # processes that make stamps; None: all cores

# %%
import pandas as pd

from lensdet import notebook
from lensdet.chapters import schematics, style
from lensdet.chapters.losses import figures, gradients, tables, threshold_control
from lensdet.chapters.prose import by_model, filled, rounded
from lensdet.evaluation import calibration
from lensdet.network import training
from lensdet.runs import hardware
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
print(training.banner(p))

# %% [markdown]
# ## Train what is missing

# %%
study = Study(p)
study.train_missing()
found = {experiment: study.runs(experiment) for experiment in p.experiments}
weights = study.resamples()
made = {"runs": min(map(len, found.values()))}
headline = made | {"hardware": hardware(run for runs in found.values() for run in runs)}
table = tables.table_5_1(study, weights)
matched = threshold_control.matched(study, weights)
own = threshold_control.at_own_recall(matched)
pd.DataFrame({e: {"folder": runs[0].folder.parent.name, "runs": len(runs)} for e, runs in found.items()}).T

# %% [markdown]
# ## The answer

# %%
at_own = own.set_index("model") if len(own) else {}
numbers = by_model(table) | {c: at_own.get(c, {}) for c in ("difference", "low", "high", "verdict")}  # {}: of one loss
filled(
    """At a decision threshold of p = 0.5 the soft F_beta loss has a precision of {precision[F_beta Soft Loss]:.3f} at a
recall of {recall[F_beta Soft Loss]:.3f}, and binary cross-entropy {precision[Binary Cross Entropy]:.3f} at
{recall[Binary Cross Entropy]:.3f} (thesis: 0.979 at 0.713, and 0.948 at 0.924).  With the threshold of cross-entropy
moved so that the two have equal recall, the precision of the soft F_beta loss minus that of cross-entropy is
{difference[F_beta Soft Loss]:+.3f} ({low[F_beta Soft Loss]:+.3f} to {high[F_beta Soft Loss]:+.3f}, 95 %):
**{verdict[F_beta Soft Loss]}**.  (`{profile}`: {n} of {images:,} images each.)""",
    **numbers, profile=p.profile, n=style.number_of(made["runs"], "run"), images=p.images,
)  # fmt: skip

# %% [markdown]
# ## The losses
#
# A network gives each image $i$ of a batch of $N$ a probability $\hat y_i$ of being a lens, the sigmoid of its output
# $z_i$, the logit: $\hat y_i = 1/(1 + e^{-z_i})$.  The label $y_i$ is 1 for a lens and 0 for a negative.
#
# **Binary cross-entropy** has a term for each image, and takes their mean:
#
# $$ \mathrm{BCE} = -\frac{1}{N} \sum_{i=1}^{N} \left[ y_i \log \hat y_i + (1 - y_i) \log (1 - \hat y_i) \right]
# \qquad (3.5) $$
#
# On average it is lowest where $\hat y_i$ is the true probability that image $i$ is a lens.  It does not consider the
# list of candidates as a whole: a false positive costs the same however many lenses and other errors there are.
#
# **Precision** is the share of lenses among the accepted images, Pr = TP / (TP + FP), and **recall** the share of
# lenses that are accepted, Re = TP / (TP + FN) (Eqs. 3.6, 3.7), with TP, FP, FN and TN the numbers of true and false
# positives and negatives (Table 3.1).  Counts have no gradient.

# %% [markdown]
# **Soft counts** have one: each image counts by its probability, and sums are over the whole batch (Eqs. 3.9 to 3.12):
#
# $$ \mathrm{TP} = \hat{\mathbf{y}} \cdot \mathbf{y}, \quad \mathrm{FP} = \hat{\mathbf{y}} \cdot (1 - \mathbf{y}), \quad
# \mathrm{FN} = (1 - \hat{\mathbf{y}}) \cdot \mathbf{y}, \quad
# \mathrm{TN} = (1 - \hat{\mathbf{y}}) \cdot (1 - \mathbf{y}) $$
#
# **Soft F1** is 1 minus the harmonic mean of precision and recall (Eq. 3.8), both computed from soft counts:
#
# $$ F^1_{1\,\mathrm{Soft}} = 1 - \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FN} + \mathrm{FP} + \epsilon}
# \qquad (3.14) $$
#
# **Double soft F1** is the mean of this and of $F^0_{1\,\mathrm{Soft}}$, the same for the negatives, with TN in the
# place of TP (Eq. 3.15):
#
# $$ F_{1\,\mathrm{DoubleSoft}} = \frac{F^0_{1\,\mathrm{Soft}} + F^1_{1\,\mathrm{Soft}}}{2} \qquad (3.17) $$
#
# **Soft F_beta** is 1 minus a weighted harmonic mean, $F_\beta$ (Eq. 3.18), in which recall has $\beta^2$ times the
# weight of precision.  For $\beta = 0.17$ that is 0.03, which puts precision first:
#
# $$ 1 - F_\beta = 1 - (1 + \beta^2) \frac{\mathrm{Pr} \cdot \mathrm{Re}}{\beta^2\,\mathrm{Pr} + \mathrm{Re}}
# \qquad (3.19) $$
#
# (The thesis writes $F_\beta$ for both.)  $\epsilon$ avoids 0/0: it is $10^{-16}$ in the thesis, which vanishes beside
# 1 in single precision, and $10^{-7}$ here (`lensdet.network.losses`).

# %% [markdown]
# ### Gradients
#
# The derivative of cross-entropy with respect to a logit is $(\hat y_i - y_i)/N$: the more wrong the prediction, the
# larger.  That of a soft loss has a factor $\hat y_i (1 - \hat y_i)$, the derivative of the sigmoid: it vanishes for an
# image that is predicted wrong with near certainty.

# %%
style.publish(gradients.loss_gradients(p.beta), "02_gradients", p, data="a computed batch")

# %% [markdown]
# **Figure 02_gradients.** The size of the derivative of each loss with respect to the logit of one image, times the
# number of images, in a batch of 64 lenses and 64 negatives with a soft recall and precision of 0.8.  For a lens with a
# logit of −6 that of cross-entropy is near its maximum, and those of the soft losses near 0.  That of soft F_beta is
# larger for negatives than for lenses, that of soft F1 the other way round.

# %% [markdown]
# ### The threshold that maximises F_beta
#
# Let image $i$ be a lens with true probability $p_i$, and let there be so many images that each count is close to its
# expected value.  Which images should be accepted?
#
# 1. With precision and recall put in, $F_\beta = (1 + \beta^2)\,\mathrm{TP} / D$, where $D = \beta^2 (\mathrm{TP} +
#    \mathrm{FN}) + \mathrm{TP} + \mathrm{FP}$.  TP + FN is the number of lenses, which is fixed, and TP + FP the number
#    of accepted images.
# 2. If one image more is accepted, the numerator grows by $(1 + \beta^2)\,p_i$, and $D$ by 1.
# 3. $(a + c)/(b + d) > a/b$ where $c/d > a/b$: so $F_\beta$ grows where $(1 + \beta^2)\,p_i > F_\beta$.  Likewise it
#    grows when an image with $(1 + \beta^2)\,p_i < F_\beta$ is no longer accepted.
# 4. At the largest $F_\beta$, called $F^*$, neither is possible: the images with $p_i > F^*/(1 + \beta^2)$ are
#    accepted, and no others.
# 5. With soft counts the numerator and $D$ are linear in each $\hat y_i$.  Such a ratio only rises or only falls
#    between $\hat y_i = 0$ and 1, so that the best $\hat y_i$ is 0 or 1, by the rule of point 4.  (Double soft F1 is a
#    mean of two such ratios, for which this holds nearly.)
#
# So the lowest soft F_beta loss is reached by accepting where the prediction of an ideal cross-entropy network, $p_i$,
# exceeds $F^*/(1 + \beta^2)$: nearly $F^*$ for $\beta = 0.17$, and $F^*/2$ for soft F1 (Lipton et al. 2014).  And by
# point 5 a soft loss drives predictions to 0 or 1.

# %% [markdown]
# ### Selection of checkpoints
#
# Each row of Table 5.1 is a model.  Rows 1 to 3 are one training with cross-entropy, of which three checkpoints (states
# of the network during training) are kept, by the validation set: that of lowest loss, that of the highest mean of
# F_beta over $S$ thresholds, with Pr and Re those at threshold number $i$,
#
# $$ I_{AUC} = \frac{1}{S} \sum_{i=0}^{S} (1 + \beta^2)
# \frac{\mathrm{Pr} \cdot \mathrm{Re}}{\beta^2\,\mathrm{Pr} + \mathrm{Re}} \qquad (3.21) $$
#
# and that of the highest soft F_beta.  (As printed the sum has $S + 1$ terms; here it is the mean.)

# %% [markdown]
# ## The network
#
# ResNet18 of the pre-activation form, drawn from the network itself (section 4.3; the thesis draws the original form,
# but its runs used this one).

# %%
schematics.save(p)

# %% [markdown]
# **Figures 3.1, 3.2 and 4.3.** The feature maps after each stage (width: pixels a side; height: square root of the
# number of channels), the two forms of a residual block, and every layer with its parameters.

# %%
schematics.table_3_1()

# %% [markdown]
# **Table 3.1.** The confusion matrix.

# %% [markdown]
# ## Table 5.1

# %%
wide = tables.readable(table)
style.save_table(table, "table_5_1", p, wide, **headline)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# **Table 5.1.** Accuracy, F_beta, precision and recall at p = 0.5.  Each cell: the mean over runs; the spread of single
# runs from seed to seed (standard deviation with n − 1); the 95 % interval that the sample of test images leaves to the
# mean of these very runs (LRGs, contaminants and sources drawn again, two ways where they are reused); the thesis'
# mean.  Runs that accept everything, or nothing, stay in every mean.  On the simulated survey the accuracy of
# cross-entropy is no result: how hard the contaminants are (`hardness`) was set so that it lies near the thesis' after
# a million images.  The differences between losses are one.

# %% [markdown]
# ## Thresholds and predictions

# %%
read = {model: study.scores(model) for model in study.models}
read = {model: s for model, s in read.items() if s is not None}
figure = figures.figure_5_1(read, p.selection_beta)
style.publish(figure, figures.figure_5_1, p, **headline)

# %% [markdown]
# **Figure 5.1.** F_beta (left), precision and recall of each model against the decision threshold; means over runs.
# The band of F_beta is one standard deviation from seed to seed (of two runs, the range between them).  Diamonds with
# one standard deviation are the thesis' Table 5.1, all at p = 0.49 but drawn side by side.  Models with the same
# checkpoint lie on top of each other.  Curves of soft losses are flat, as few of their predictions lie between 0 and 1.

# %%
bold = {model: (s.labels, s.logits, study.median_run(model, s)) for model, s in read.items()}
shown = {model: (labels, logits[k], read[model].runs[k]) for model, (labels, logits, k) in bold.items()}
figure = figures.figure_5_2(shown)
style.publish(figure, figures.figure_5_2, p, runs=1)

# %% [markdown]
# **Figure 5.2.** Histograms of the predictions on the test set, lenses filled and negatives as a line, for the run of
# median validation loss of each model (the thesis does not say which of the ten it shows).  Each title has the share of
# predictions below 0.01 or above 0.99, which point 5 above predicts to be large for soft losses.

# %% [markdown]
# The same, one figure for each model, as in the thesis' appendix:

# %% tags=["folded"]
for model, draw in figures.PREDICTIONS.items():
    if model in shown:
        style.publish(draw(shown), draw, p, runs=1)

# %% [markdown]
# **Figures 7.1 to 7.6.** Predictions of each model on the test set.

# %%
histories = {experiment: [run.history for run in runs] for experiment, runs in found.items()}
style.publish(figures.training_curves(histories), "02_training", p, **headline)

# %% [markdown]
# **Figure 02_training.** Loss on training chunks (the images between two validations), and loss, mean F_beta and soft
# F_beta on the validation set; thin: runs, bold: their mean.  The learning rate falls to zero along a cosine, which
# flattens every curve at the end; whether more images would change a claim is seen in `figures/comparison.md`.

# %% [markdown]
# ## Is the loss doing more than moving the threshold?
#
# If the derivation were all there is to it, cross-entropy with the threshold $F^*/(1 + \beta^2)$ would do as well as a
# soft loss.  So each soft loss is compared with cross-entropy *at equal recall*.  The thesis does not make this test.

# %%
style.save_table(matched, "02_matched", p, threshold_control.readable(matched), **made)
figure = figures.precision_recall(bold, own)
style.publish(figure, "02_control", p, **headline)

# %% [markdown]
# **Figure 02_control.** Left: precision against recall on the test set, for the run of median validation loss; points
# are single runs at p = 0.5, diamonds the thesis' Table 5.1.  Right: the precision of soft F_beta and of soft F1 minus
# that of cross-entropy, at the recall that the soft loss has at p = 0.5, with the 95 % interval over runs and images.

# %%
rounded(own.drop(columns=["matched", "at"], errors="ignore"))

# %% [markdown]
# **Table 02_own.** The numbers of the right panel.  *Higher* or *lower*: the difference is significant, corrected for
# the number of models; *equivalent*: the interval is within 0.01 of 0; *open*: neither, or fewer than five runs.

# %%
threshold_control.readable(matched)

# %% [markdown]
# **Table 02_matched.** Precision at matched recall, recall at matched precision, on the test curves; among equal
# predictions a random part is taken as accepted.  This is a diagnosis: the thresholds are chosen with the test labels.

# %%
deployed = threshold_control.deployed(study, weights)
wide = tables.readable(deployed)
style.save_table(deployed, "02_own_thresholds", p, wide, **made)
wide

# %% [markdown]
# **Table 02_own_thresholds.** What a user would do: every model at the threshold of its best F_beta on the calibration
# set, evaluated on the test set.

# %%
style.publish(figures.roc(bold), "02_roc", p, **made)

# %% [markdown]
# **Figure 02_roc.** Completeness (recall) against the false-positive rate, on a logarithmic axis: where lenses are
# rare, only low rates are of use.

# %% [markdown]
# ### The effective threshold

# %%
effective = threshold_control.effective_thresholds(study)
if len(effective):
    style.save_table(effective, "02_effective_thresholds", p, **made)
    figure, means = figures.effective(effective), threshold_control.mean_thresholds(effective)
else:
    means = effective
    figure = style.empty("Effective thresholds need bce beside fbeta or f1 among the experiments.")
style.publish(figure, "02_effective_thresholds", p, **made)
rounded(means.reset_index())

# %% [markdown]
# **Figure 02_effective_thresholds.** The calibrated probability at which cross-entropy has the recall that a soft model
# has at p = 0.5, on the calibration set, against the $F^*/(1 + \beta^2)$ of the derivation; one point for each run.
# The table has means over the runs where that is between 0 and 1; `outside` counts runs that accept all lenses or none,
# whose effective threshold cannot be told.

# %% [markdown]
# ### Are the predictions probabilities?

# %%
errors = threshold_control.calibrated(study)
style.save_table(errors, "02_calibration", p, **made)
temperatures = errors.set_index(["model", "run"])["temperature"]
curves = {
    model: [calibration.reliability(labels, z.astype(float) / t) for t in (1, temperatures[model, run])]
    for model, (labels, z, run) in shown.items()
}
style.publish(figures.reliability(curves), "02_reliability", p, runs=1)
rounded(errors.groupby("model", sort=False).mean(numeric_only=True).drop(columns="run").reset_index())

# %% [markdown]
# **Figure 02_reliability.** The share of lenses among images of similar prediction, before and after temperature
# scaling (logits divided by a number fitted on the calibration set, Guo et al. 2017), for the run of median validation
# loss; the table has the expected calibration error (`ece`) and the Brier score, means over runs.  The test set is half
# lenses: on the sky, with few of them, these are no probabilities.

# %% [markdown]
# ### On the sky

# %%
wrong = threshold_control.false_positives(study)
style.save_table(wrong, "02_false_positives", p, runs=1)
style.publish(figures.false_positive_rates(wrong), "02_false_positives", p, runs=1)

# %% [markdown]
# **Figure 02_false_positives.** False-positive rates by kind of negative, with 95 % Clopper-Pearson intervals, for the
# run of median validation loss.  The negatives are simulated.

# %%
contaminant = (study.truth()["host"] == "contaminant").to_numpy()
figure = figures.inspected(bold, contaminant, p.sky_contaminants, p.lens_prior)
style.publish(figure, "02_inspected", p, runs=1)
sky = threshold_control.on_the_sky(wrong, p.lens_prior, p.sky_contaminants)
style.save_table(sky, "02_sky", p, runs=1)
rounded(sky, 4)

# %% [markdown]
# **Figure 02_inspected.** How many false positives a person looks at for each lens that is found, where a share
# `lens_prior` of the objects are lenses; dotted where a kind of negative has no false positive, and the upper end of
# its interval is taken.  The columns `worst` and `best` take all rates at the ends of their intervals: so few negatives
# hardly constrain rates as low as the sky needs.

# %% [markdown]
# ## How the published checkpoints were chosen
#
# The published runs were validated on batches sorted by class, of images drawn anew for every chunk, with the L2
# penalty in the loss; the checkpoint of the "soft F_beta metric" row was chosen by accuracy; thresholds and β differ a
# little (`metrics.PROTOCOLS`).

# %%
both = tables.protocols(study, weights)
style.save_table(both, "02_protocols", p, **made)
rounded(both)

# %% [markdown]
# **Table 02_protocols.** Table 5.1 under both protocols, from the same trainings.  (Where the published trainings
# themselves differ, as in shrinking images instead of enlarging them, there are other parameters: `redraw_validation`,
# `zoom_direction`, `interpolation`.)

# %%
selected = threshold_control.selection(study, weights)
if len(selected):
    style.save_table(selected, "02_selection", p, **made)
rounded(selected)

# %% [markdown]
# **Table 02_selection.** Does the high recall of soft F1 come from its loss, or from the selection of the checkpoint?
# Recalls at p = 0.5, paired by run: `loss` is soft F1 minus cross-entropy, both selected on the whole validation set;
# `selection` is soft F1 selected as published minus soft F1 selected as here; `both` is soft F1 minus cross-entropy,
# both selected as published.  Verdicts are corrected for these three.  (Theirs redrew the validation set for every
# chunk; ours is frozen unless `redraw_validation` says otherwise.)  Empty without bce and f1.

# %% [markdown]
# ## Discussion
#
# The thesis explains the polarised predictions of soft losses by a learner that has "learned not to hesitate": any
# value between 0 and 1 "would result in a loss" (section 5.6).  But so it does with cross-entropy.  The difference is
# in the shape: a soft loss is a ratio of sums that are linear in each prediction, so that its best prediction is 0 or 1
# however unsure the network is, and its gradient vanishes near both.

# %%
filled(
    """**Which loss for which aim?**  The thesis recommends soft F_beta for purity, soft F1 for recall, and
cross-entropy for accuracy.  At p = 0.5 that reads here: precision {precision[F_beta Soft Loss]:.3f} for soft F_beta and
{precision[Binary Cross Entropy]:.3f} for cross-entropy; recall {recall[F_1 Soft loss]:.3f} for soft F1 and
{recall[Binary Cross Entropy]:.3f} for cross-entropy; accuracy {accuracy[Binary Cross Entropy]:.3f} for cross-entropy,
{accuracy[F_beta Soft Loss]:.3f} for soft F_beta and {accuracy[F_1 Soft loss]:.3f} for soft F1.""",
    **numbers,
)

# %%
filled(
    """**But p = 0.5 is a choice, not a property.**  At equal recall the precision of soft F_beta minus that of
cross-entropy is {difference[F_beta Soft Loss]:+.3f} ({low[F_beta Soft Loss]:+.3f} to {high[F_beta Soft Loss]:+.3f};
{verdict[F_beta Soft Loss]}), that of soft F1 {difference[F_1 Soft loss]:+.3f} ({low[F_1 Soft loss]:+.3f} to
{high[F_1 Soft loss]:+.3f}; {verdict[F_1 Soft loss]}).  So before choosing a loss for its precision,
compare it with cross-entropy at another threshold.  With flat curves the threshold "is less critical" (thesis), but for
the same reason there is little left to choose.""",
    **numbers,
)

# %%
gain = selected.set_index("of")["difference"] if len(selected) else {}
filled(
    """**Loss or selection?**  The recall of soft F1 minus that of cross-entropy is {gain[loss]:+.3f} where checkpoints
are selected as here, and {gain[both]:+.3f} where they are selected as in the published runs: the difference between the
two numbers comes from the selection of checkpoints.""",
    gain=gain,
)

# %% [markdown]
# **How far this holds.**  On a simulated survey of half lenses, with one schedule of the learning rate, after as many
# images as each figure says; the thesis' networks saw up to 32.8 million.  How results change with that number is in
# `figures/comparison.md`.
