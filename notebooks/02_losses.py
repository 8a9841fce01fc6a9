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
# trains what is missing, or loads it, derives the losses, and draws Table 5.1 with the thesis' numbers beside ours,
# Figures 5.1, 5.2 and 7.1 to 7.6.  Then it asks what the thesis does not: does a soft loss do more than move the
# threshold?
#
#     papermill notebooks/02_losses.py out.ipynb -f params/fbeta.yaml
#
# Takes a minute where the runs are there; else, with `quick` on two CPU cores, some five minutes a run, two at a time;
# `lite` needs a GPU, and trains all twenty runs in seven minutes of one NVIDIA H200.  Run i has the same initial
# weights and training rows in every experiment: differences between losses are paired.

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
numbers = by_model(table) | {c: at_own[c] for c in ("difference", "low", "high", "verdict") if c in at_own}
filled(
    """At p = 0.5 the soft F_beta loss has a precision of {precision[F_beta Soft Loss]:.3f} at a recall of
{recall[F_beta Soft Loss]:.3f}, and binary cross-entropy {precision[Binary Cross Entropy]:.3f} at
{recall[Binary Cross Entropy]:.3f} (thesis: 0.979 at 0.713, and 0.948 at 0.924).  Where the threshold of cross-entropy
is moved until it finds as many lenses, the precision of the soft F_beta loss less its own is
{difference[F_beta Soft Loss]:+.3f} ({low[F_beta Soft Loss]:+.3f} to {high[F_beta Soft Loss]:+.3f}, 95 %):
**{verdict[F_beta Soft Loss]}**.  (`{profile}`: {n} of {images:,} images each.)""",
    **numbers, profile=p.profile, n=style.number_of(made["runs"], "run"), images=p.images,
)  # fmt: skip

# %% [markdown]
# ## The losses
#
# A network gives each image $i$ of a batch a probability $\hat y_i$ of being a lens; $y_i$ is 1 for a lens and 0 for a
# negative.
#
# **Binary cross-entropy** looks at one image at a time, and takes the mean:
#
# $$ \mathrm{BCE} = -\frac{1}{N} \sum_{i=1}^{N} \left[ y_i \log \hat y_i + (1 - y_i) \log (1 - \hat y_i) \right]
# \qquad (3.5) $$
#
# It is lowest where $\hat y_i$ is the true probability.  It does not know what a candidate list is: an error among many
# negatives costs what it costs among few.
#
# **Precision** is the share of lenses among what is accepted, **recall** the share of lenses that are accepted (Eqs.
# 3.6, 3.7).  Both are counts, which have no gradient.

# %% [markdown]
# **Soft counts.** Each image is counted with its probability (Eqs. 3.9 to 3.12), over the whole batch:
#
# $$ \mathrm{TP} = \hat{\mathbf{y}} \cdot \mathbf{y}, \quad \mathrm{FP} = \hat{\mathbf{y}} \cdot (1 - \mathbf{y}), \quad
# \mathrm{FN} = (1 - \hat{\mathbf{y}}) \cdot \mathbf{y}, \quad
# \mathrm{TN} = (1 - \hat{\mathbf{y}}) \cdot (1 - \mathbf{y}) $$
#
# **Soft F1** is one less the harmonic mean of precision and recall, of soft counts:
#
# $$ F^1_{1\,\mathrm{Soft}} = 1 - \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FN} + \mathrm{FP} + \epsilon}
# \qquad (3.14) $$
#
# **Double soft F1** asks the same of the negatives, with TN in the place of TP (Eq. 3.15), and takes the mean:
#
# $$ F_{1\,\mathrm{DoubleSoft}} = \frac{F^0_{1\,\mathrm{Soft}} + F^1_{1\,\mathrm{Soft}}}{2} \qquad (3.17) $$
#
# **Soft F_beta** weighs recall $\beta$ times as much as precision; $\beta = 0.17$ puts precision first:
#
# $$ F_\beta = 1 - (1 + \beta^2) \frac{\mathrm{Pr} \cdot \mathrm{Re}}{\beta^2\,\mathrm{Pr} + \mathrm{Re}}
# \qquad (3.19) $$
#
# The thesis has $\epsilon = 10^{-16}$, which vanishes beside 1 in single precision; here it is $10^{-7}$
# (`lensdet.network.losses`).

# %% [markdown]
# ### What a soft loss pulls at
#
# The derivative of cross-entropy with respect to a logit is $(\hat y_i - y_i)/N$: the more wrong, the stronger.  That
# of a soft loss has a factor $\hat y_i (1 - \hat y_i)$: an image that is wrong beyond doubt pulls no more.

# %%
style.publish(gradients.loss_gradients(p.beta), "02_gradients", p, data="a computed batch")

# %% [markdown]
# **Figure 02_gradients.** The size of the gradient of each loss for one image of a batch of 64 lenses and 64 negatives
# that has a soft recall and precision of 0.8.  At a lens with a logit of −6 cross-entropy pulls with all its strength,
# and the soft losses hardly.  Soft F_beta pulls harder at negatives than at lenses, soft F1 the other way round.

# %% [markdown]
# ### Where the best F_beta cuts
#
# Put precision and recall into Eq. 3.19, for a set of accepted images of which each is a lens with probability $p_i$:
#
# 1. $F_\beta = (1 + \beta^2)\,\mathrm{TP} / D$ with $D = \beta^2 (\mathrm{TP} + \mathrm{FN}) + \mathrm{TP} +
#    \mathrm{FP}$.  TP + FN is the number of lenses, which no choice changes.
# 2. Accept one image more: the numerator grows by $(1 + \beta^2)\,p_i$ on average, $D$ by 1.
# 3. A ratio $a/b$ grows by going to $(a + c)/(b + d)$ where $c/d > a/b$: here where $(1 + \beta^2)\,p_i > F_\beta$.
# 4. At the best $F_\beta$, called $F^*$, no such step is left: exactly the images with $p_i > F^*/(1 + \beta^2)$ are
#    accepted.
# 5. It is the same with soft counts, which are linear in each $\hat y_i$: the best $\hat y_i$ is 0 or 1.
#
# So the best of all soft networks is cross-entropy's, cut at $F^*/(1 + \beta^2)$: nearly $F^*$ for $\beta = 0.17$, and
# $F^*/2$ for soft F1 (Lipton et al. 2014).  And point 5 is why soft networks answer 0 or 1, and little between.

# %% [markdown]
# ### Selection of checkpoints
#
# Rows 1 to 3 of Table 5.1 are one training, of which another checkpoint is kept: that of lowest loss, that of the
# highest mean of F_beta over $S$ thresholds,
#
# $$ I_{AUC} = \frac{1}{S} \sum_{i=0}^{S} (1 + \beta^2)
# \frac{\mathrm{Pr} \cdot \mathrm{Re}}{\beta^2\,\mathrm{Pr} + \mathrm{Re}} \qquad (3.21) $$
#
# and that of the highest soft F_beta.

# %% [markdown]
# ## The network
#
# ResNet18 of the pre-activation form, drawn from the network itself (section 4.3; the thesis draws the first form, its
# runs used this one).

# %%
schematics.save(p)

# %% [markdown]
# **Figures 3.1, 3.2 and 4.3.** What the network hands on (width: pixels a side; height: square root of the channels),
# the two forms of its residual blocks, and every layer with its parameters.

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
# a million images.  What the losses differ by is one.

# %% [markdown]
# ## Thresholds and predictions

# %%
read = {model: study.scores(model) for model in study.models}
read = {model: s for model, s in read.items() if s is not None}
figure = figures.figure_5_1(read, p.selection_beta)
style.publish(figure, figures.figure_5_1, p, **headline)

# %% [markdown]
# **Figure 5.1.** F_beta, precision and recall of each model against the decision threshold; means over runs.  The band
# of F_beta is one standard deviation from seed to seed (of two runs, what lies between them); diamonds are the thesis'
# Table 5.1.  Rows that chose the same checkpoint lie on top of each other.  Curves of soft losses are flat: few
# predictions lie between the thresholds.

# %%
bold = {model: (s.labels, s.logits, study.median_run(model, s)) for model, s in read.items()}
shown = {model: (labels, logits[k], read[model].runs[k]) for model, (labels, logits, k) in bold.items()}
figure = figures.figure_5_2(shown)
style.publish(figure, figures.figure_5_2, p, **made)

# %% [markdown]
# **Figure 5.2.** Predictions on the test set, lenses filled and negatives as a line, of the run of median validation
# loss of each model (the thesis does not say which of the ten it shows).  Each title has the share of predictions
# beyond 0.01 or 0.99: what point 5 above says, measured.

# %% [markdown]
# The same, a model a figure, as in the thesis' appendix:

# %%
for model, draw in figures.PREDICTIONS.items():
    if model in shown:
        style.publish(draw(shown), draw, p, **made)

# %% [markdown]
# **Figures 7.1 to 7.6.** Predictions of each model on the test set.

# %%
histories = {experiment: [run.history for run in runs] for experiment, runs in found.items()}
style.publish(figures.training_curves(histories), "02_training", p, **headline)

# %% [markdown]
# **Figure 02_training.** Loss on training chunks and on the validation set; thin: runs, bold: their mean.  With a
# cosine the learning rate falls to nothing at the end, which flattens every curve: whether more images would change a
# claim is seen in `figures/comparison.md`.

# %% [markdown]
# ## Is the loss doing more than moving the threshold?
#
# If a soft loss were all that the derivation says, cross-entropy read at $F^*/(1 + \beta^2)$ would do the same.  So
# each soft loss is compared with cross-entropy *at the recall that it has itself*.  The thesis never looks.

# %%
style.save_table(matched, "02_matched", p, threshold_control.readable(matched), **made)
figure = figures.precision_recall(bold, own)
style.publish(figure, "02_control", p, **headline)

# %% [markdown]
# **Figure 02_control.** Left: precision against recall on the test set, of the run of median validation loss; points
# are single runs at p = 0.5, diamonds the thesis' Table 5.1.  Right: the precision of each model at its own recall,
# less that of cross-entropy at the same recall, with the 95 % interval over runs and images.

# %%
rounded(own.drop(columns=["matched", "at"], errors="ignore"))

# %% [markdown]
# **Table 02_own.** The numbers of the right panel.  *Higher* or *lower*: the difference is shown, corrected for the
# number of models; *equivalent*: it is within 0.01 of 0; *open*: neither, or fewer than five runs.

# %%
threshold_control.readable(matched)

# %% [markdown]
# **Table 02_matched.** Precision at matched recall, recall at matched precision, on the test curves, with ties
# interpolated as if a random part of them were accepted.  A diagnosis: the threshold is chosen with the test labels at
# hand.

# %%
deployed = threshold_control.deployed(study, weights)
wide = tables.readable(deployed)
style.save_table(deployed, "02_own_thresholds", p, wide, **made)
wide

# %% [markdown]
# **Table 02_own_thresholds.** What a user would do: every model at the threshold of its best F_beta on the calibration
# set, read on the test set.

# %%
style.publish(figures.roc(bold), "02_roc", p, **made)

# %% [markdown]
# **Figure 02_roc.** Completeness against the false-positive rate, on a logarithmic axis, as the sky needs it.

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
# has at p = 0.5, on the calibration set, against what the derivation predicts; one point a run.  The table has means
# over the runs where it is between 0 and 1; `outside` runs accept all lenses or none, and cut beyond what can be told.

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
style.publish(figures.reliability(curves), "02_reliability", p, **made)
rounded(errors.groupby("model", sort=False).mean(numeric_only=True).drop(columns="run").reset_index())

# %% [markdown]
# **Figure 02_reliability.** The share of lenses among images of like prediction, before and after temperature scaling
# fitted on the calibration set (Guo et al. 2017), for the run of median validation loss; the table has the expected
# calibration error and the Brier score, means over runs.  The test set is half lenses: a sky with few of them needs the
# prior as well.

# %% [markdown]
# ### On the sky

# %%
wrong = threshold_control.false_positives(study)
style.save_table(wrong, "02_false_positives", p, **made)
style.publish(figures.false_positive_rates(wrong), "02_false_positives", p, **made)

# %% [markdown]
# **Figure 02_false_positives.** False positives by kind of negative, with 95 % Clopper-Pearson intervals, for the run
# of median validation loss.  For this mix of negatives, which is simulated.

# %%
contaminant = (study.truth()["host"] == "contaminant").to_numpy()
figure = figures.inspected(bold, contaminant, p.sky_contaminants, p.lens_prior)
style.publish(figure, "02_inspected", p, **made)
sky = threshold_control.on_the_sky(wrong, p.lens_prior, p.sky_contaminants)
style.save_table(sky, "02_sky", p, **made)
rounded(sky, 4)

# %% [markdown]
# **Figure 02_inspected.** How many candidates a person looks at for each lens that is found, where few objects are
# lenses (`lens_prior`).  The columns `worst` and `best` take all rates at the ends of their intervals: rates as low as
# the sky needs can hardly be told from the negatives at hand.

# %% [markdown]
# ## How the published checkpoints were chosen
#
# The published runs validated on batches sorted by class, drawn anew for every chunk, with the L2 penalty in the loss;
# the "soft F_beta metric" row was chosen by accuracy; thresholds and β differ a little (`metrics.PROTOCOLS`).

# %%
both = tables.protocols(study, weights)
style.save_table(both, "02_protocols", p, **made)
rounded(both)

# %% [markdown]
# **Table 02_protocols.** Table 5.1 under both protocols, from the same trainings.  (What the published trainings did
# otherwise, such as shrinking instead of enlarging, has switches of its own: `redraw_validation`, `zoom_direction`,
# `interpolation`.)

# %%
selected = threshold_control.selection(study, weights)
rounded(selected)

# %% [markdown]
# **Table 02_selection.** Is the high recall of soft F1 its loss, or its selection?  Recalls at p = 0.5, paired by run:
# `loss` is soft F1 less cross-entropy, both selected on the whole validation set; `selection` is soft F1 as the
# published runs selected it less soft F1 as here; `both` is soft F1 less cross-entropy as the published runs selected.
# (Theirs redrew the validation set for every chunk; ours is frozen unless `redraw_validation` says otherwise.)  Empty
# without bce and f1.

# %% [markdown]
# ## Discussion
#
# The thesis explains the polarised predictions of soft losses by a learner that has "learned not to hesitate": any
# value between 0 and 1 "would result in a loss" (section 5.6).  Cross-entropy has a loss there, too.  What differs is
# the shape: a soft loss is a ratio of sums that are linear in each prediction, so that its best prediction is 0 or 1
# however unsure the network is, and its gradient fades on both sides.

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
    """**But p = 0.5 is a choice, not a property.**  At equal recall the precision of soft F_beta less that of
cross-entropy is {difference[F_beta Soft Loss]:+.3f} ({low[F_beta Soft Loss]:+.3f} to {high[F_beta Soft Loss]:+.3f};
{verdict[F_beta Soft Loss]}), that of soft F1 {difference[F_1 Soft loss]:+.3f} ({low[F_1 Soft loss]:+.3f} to
{high[F_1 Soft loss]:+.3f}; {verdict[F_1 Soft loss]}).  So compare with a threshold before choosing a loss for its
precision.  With flat curves a threshold "is less critical" (thesis), and there is also little left to choose.""",
    **numbers,
)

# %%
gain = selected.set_index("of")["difference"] if len(selected) else {}
filled(
    """**Loss or selection?**  The recall of soft F1 less that of cross-entropy is {gain[loss]:+.3f} where both are
selected alike, and {gain[both]:+.3f} where both are selected as the published runs were: the difference between the
two is what the choice of the checkpoint adds.""",
    gain=gain,
)

# %% [markdown]
# **How far this holds.**  On a simulated survey of half lenses, with one schedule of the learning rate, after as many
# images as each figure says; the thesis' networks saw up to 32.8 million.  What that number changes is in
# `figures/comparison.md`.
