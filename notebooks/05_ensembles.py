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
# metrics?  (Van Lohuizen 2021, sections 3.6, 4.6 and 5.4.)  This notebook makes the thesis' four ensembles from the
# networks of notebook 02, and draws Table 5.2 and Figures 5.15 to 5.18.  Then it asks what the thesis does not: are the
# weights still optimal after a softmax?  Do plain means, stacking, or several runs of one loss do as well?  What does
# an input-dependent ensemble learn?  Last comes the cascade that section 6.2 recommends.
#
#     papermill notebooks/05_ensembles.py out.ipynb -f params/nm.yaml
#
# Takes a minute or two on two CPU cores where the runs are there: everything is computed from saved logits.  What is
# missing is trained first, as in notebook 02: members, and the network of an input-dependent ensemble, which needs its
# members' weights.  Run i of an ensemble is made of run i of each member.

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
from IPython.display import display

from lensdet import notebook
from lensdet.chapters import style, thesis
from lensdet.chapters.ensembles import figures, summary, tables
from lensdet.chapters.losses.tables import best_models, readable, table_5_1
from lensdet.chapters.prose import by_model, filled, rounded
from lensdet.evaluation import ensembles as methods
from lensdet.evaluation import statistics
from lensdet.experiments import BCE, ENSEMBLES, NETWORKS, same_loss
from lensdet.network import training
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)

# %% [markdown]
# ## Train what is missing

# %%
chosen, dynamic = methods.possible(p), methods.dynamic(p)
losses = sorted({loss for ensemble in chosen for loss in ENSEMBLES[ensemble].losses})
print(training.banner(p, [*losses, *dynamic]))
study = Study(p)
study.train_missing([*losses, *dynamic])
made = {"runs": p.runs}

# %%
weights = study.resamples()
found = tables.load_scores(study)
measured = tables.measure(p, found, weights)
compared = tables.compare_with_baselines(p, found, measured)
best = compared[(compared.against == "best member") & compared.ensemble.isin(chosen)]
high, own, half = (tables.by_ensemble(best, m) for m in ("f_beta_high", "f_beta_own", "f_beta"))

# %% [markdown]
# ## The answer

# %%
words = best.verdict.value_counts().reindex(["higher", "lower", "equivalent", "open"], fill_value=0)
filled(
    """Above p = 0.75, where the thesis finds ensembles better, the mean F_beta of NM_6 minus that of its best member is
{high.difference[NM_6]:+.3f} ({high.low[NM_6]:+.3f} to {high.high[NM_6]:+.3f}, 95 %): **{high.verdict[NM_6]}**; with a
threshold of its own for each, {own.difference[NM_6]:+.3f} ({own.low[NM_6]:+.3f} to {own.high[NM_6]:+.3f}):
**{own.verdict[NM_6]}**.  Of all {all} differences between an ensemble and the member that is best at that measure,
{words[higher]} are shown to be higher, {words[lower]} lower, {words[equivalent]} equivalent (within 0.01 of 0), and
{words[open]} are open.  (`{profile}`: {n} of {images:,} images each.)""",
    high=high, own=own, words=words, all=len(best), profile=p.profile, n=style.number_of(p.runs, "run"),
    images=p.images,
)  # fmt: skip

# %% [markdown]
# ## A weighted mean
#
# Member $j$ gives image $i$ a probability $X_{ij}$ of being a lens.  Write these in a matrix $\mathbf{X}$ with a row
# for each of $N$ images and a column for each of $M$ members.  The ensemble's prediction is a weighted mean:
#
# $$ \mathbf{y}_\mathrm{pred} = \mathbf{X} \cdot \mathbf{w} \qquad (3.22) $$
#
# The members of NM_3 and IDE_3 are trained with cross-entropy, soft F_beta and soft F1.  NM_6 and IDE_6 have these, one
# trained with double soft F1, and the two of cross-entropy whose checkpoint is selected by F_beta or by soft F_beta.

# %% [markdown]
# ### NM: one weight for each member, by Nelder-Mead
#
# The weights minimise the mean squared error on the calibration set, which no network was trained or selected on:
#
# $$ \mathrm{MSE}(\mathbf{w}) = \frac{1}{N} \sum_{i=1}^{N} \left( y_i - \sum_{j=1}^{M} X_{ij} w_j \right)^2 $$
#
# The method of Nelder & Mead (1965) needs no gradient: $M + 1$ points, a simplex, move downhill by replacing the worst
# of them with its mirror image in the others, or by shrinking, until all agree within $10^{-6}$, or after $200\,M$
# steps.  It takes no constraints.  So it optimises a free vector $\mathbf{v}$, from a random start, and the weights are
#
# $$ w_j = \frac{v_j^2}{\sum_{k=1}^{M} v_k^2} $$
#
# Whatever $\mathbf{v}$ is, no weight is negative and their sum is 1, so that the prediction is between 0 and 1.
#
# The published runs (`protocol: code`) left $\mathbf{v}$ free, fitted it on a training chunk, and took a softmax of the
# optimum afterwards.  More on that below.

# %% [markdown]
# ### IDE: weights that depend on the image
#
# A network, DE_m, gets stamp $i$ and returns a weight for each member, by a softmax:
#
# $$ \hat y_i = \mathbf{X}_i \cdot \mathbf{w}_i \quad \forall\, i \qquad (3.23) $$
#
# It is trained by categorical cross-entropy to name the member whose prediction is closest to the label:
#
# $$ t_i = \mathrm{arg\,min}_j \, | X_{ij} - y_i | $$
#
# For a lens that is the member with the highest prediction, for a negative that with the lowest.  So DE_m cannot know
# the closest member without knowing the label, which the members themselves try to predict.

# %% [markdown]
# ## Table 5.2

# %%
table = tables.table_5_2(measured, found)
wide = readable(table)
style.save_table(table, "table_5_2", p, wide, **made)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# **Table 5.2.** Accuracy, F_beta, precision and recall of the ensembles.  Each cell: the mean over runs; the spread
# from seed to seed (standard deviation with n − 1); the 95 % interval that the sample of test images leaves to the mean
# of these very runs; the thesis' mean.  The accuracy in the thesis' table is the mean over all 99 thresholds, with the
# spread over thresholds and runs together; so is ours in that column.  Beside ours at p = 0.5 is the accuracy that the
# thesis' precision and recall imply.

# %% [markdown]
# ### Which members?
#
# By the rule of section 4.6 NM_x has the models that are best on accuracy, F_beta, precision and recall.

# %%
single = table_5_1(study, weights)
by_rule = pd.DataFrame({"here": best_models(single), "thesis": best_models(single.assign(mean=single.thesis))})
style.save_table(by_rule.rename_axis("measure").reset_index(), "05_best", p, **made)
by_rule

# %% [markdown]
# **Table 05_best.** The best models here, by mean over runs at p = 0.5, and by the thesis' numbers.  The ensembles here
# nevertheless have the members of the thesis, so that they can be compared with it.

# %% [markdown]
# ## Against the threshold

# %%
member_weights = tables.weights_table(tables.used_weights(study, chosen))
for ensemble in chosen:
    draw = figures.CURVES[ensemble]
    style.publish(draw(found, p.selection_beta, member_weights), draw, p, **made)

# %% [markdown]
# **Figures 5.15 to 5.18.** Left: F_beta against the decision threshold on the test set, means over runs.  Black: the
# ensemble, with a band of one standard deviation from seed to seed (of two runs, the range between them); coloured: its
# members, with their mean weights, ours and the thesis'.  Right: precision and recall of the ensemble.  Look where
# black is above all colours, and where it makes a step.

# %% [markdown]
# ## The weights

# %%
style.save_table(member_weights, "05_weights", p, **made)
sizes = sorted({ENSEMBLES[ensemble].size for ensemble in chosen})
for size in sizes:
    print("{} of {} members are copies of another, in ensembles of {}".format(*tables.copies(study, size), size))
rounded(member_weights)

# %% [markdown]
# **Table 05_weights.** Mean weights over runs and their spread from seed to seed; for an input-dependent ensemble the
# mean over the test images.  Two members from one training may be the same checkpoint: the second of such copies has no
# weight in a Nelder-Mead ensemble, nor in a plain mean.

# %% [markdown]
# ### Before and after the softmax
#
# The published weights went through a softmax *after* the optimum was found:
#
# $$ w_j = \frac{e^{v_j}}{\sum_{k=1}^{M} e^{v_k}} $$
#
# The result is no longer the optimum: 1, 0, 0 becomes 0.58, 0.21, 0.21, and two members that had no weight have two
# fifths of it.  The thesis' own weights, before this softmax:

# %%
for ensemble, theirs in thesis.WEIGHTS.items():
    both = {"published": theirs, "before the softmax": tables.before_softmax(theirs)}
    display(pd.DataFrame(both, index=list(ENSEMBLES[ensemble].members)).round(2))

# %% [markdown]
# **Table 05_undone.** The thesis' mean weights (captions of its Figures 5.15 and 5.16), and the weights of which a
# softmax makes them, if those had a sum of 1, as an optimum nearly has (`raw` in 05_raw_weights).

# %% [markdown]
# **Two bumps.**  The thesis sees them in its curves, and takes them for a property of weighted means.  A member that
# predicts 0 or 1 makes two *steps*: at its weight $w$, below which its 1 alone is enough to accept, and at $1 - w$,
# above which its 0 alone is enough to reject.

# %%
nelder_mead = [ensemble for ensemble in chosen if ensemble not in dynamic]
code = study.changed(protocol="code")
rows, curves = summary.around_softmax(code, nelder_mead)
if nelder_mead:
    style.save_table(pd.concat(rows.values()), "05_raw_weights", p, protocol="code", **made)
    figure = figures.raw_weights(rows, curves)
else:
    figure = style.empty("No Nelder-Mead ensemble among those asked for.")
style.caption(figure, code.parameters, **made)
style.save(figure, "05_raw_weights", p)

# %% [markdown]
# **Figure 05_raw_weights.** Left: mean weights as the optimiser left them, after the softmax, and the thesis'.  Right:
# F_beta with each, and with the softmax and the predictions of soft-loss members rounded to 0 or 1; vertical lines are
# the steps.  Means over runs of the `code` protocol: its checkpoints, weights fitted on a training chunk.

# %%
bands = summary.bands(curves)
if len(bands):
    style.save_table(bands, "05_bands", p, protocol="code", **made)
rounded(bands)

# %% [markdown]
# **Table 05_bands.** Mean F_beta below, above and between the two steps of the member of the largest weight among those
# trained with a soft loss; `votes` is the largest change of the curve there when soft members are rounded to 0 or 1.

# %% [markdown]
# ## What an input-dependent ensemble learns

# %%
known = ["set", "ensemble", "by_label", "named", "most_frequent"]
learned = pd.concat([summary.targets(study, e) for e in dynamic]) if dynamic else pd.DataFrame(columns=known)
if len(learned):
    style.save_table(learned, "05_targets", p, **made)
rounded(learned)

# %% [markdown]
# **Table 05_targets.** One row a run and set.  `ties`: images for which several members are equally close to the label
# in float32 probability, where the published rule took the first.  The others are shares of images.  `by_label`: the
# closest member is the one that is most often closest for their label; near 1 the target is the label under another
# name.  `named`: DE_m names the closest member; `most_frequent`: the closest member is the one that is most often
# closest.

# %% [markdown]
# ## Against what an ensemble has to beat
#
# A plain mean of the members; stacking, a logistic regression on their logits; the best member; and the mean of several
# runs of one loss, without any other loss.

# %%
means = tables.summary(measured)
style.save_table(means, "05_baselines", p, **made)
style.publish(figures.compared(means, summary.SHOWN), "05_baselines", p, **made)

# %% [markdown]
# **Figure 05_baselines.** F_beta at p = 0.5, F_beta at a threshold from the calibration set, and the area under the ROC
# curve, which needs none; means over runs, with the 95 % interval that the test images leave.  Stacking is fitted, and
# the best member chosen, on the calibration set.  The oracle takes for each image the member closest to its label: it
# **uses the labels and cannot be attained**.  Ensembles of several runs of one loss share runs.

# %% [markdown]
# ### The third research question

# %%
style.save_table(compared, "05_against", p, **made)
rounded(best.drop(columns=["against", "test_low", "test_high"]))

# %% [markdown]
# **Table 05_against.** Each ensemble minus the member that is best at that measure on the calibration set: the
# difference on the test set with its 95 % interval over runs and images, and the verdict.  *Higher* or *lower*:
# significant, corrected for the number of all differences to a best member, those of means and stacking among them;
# *equivalent*: within 0.01 of 0; *open*: neither, or fewer than five runs.

# %% [markdown]
# ### Diverse losses, or just several networks?
#
# The thesis asks for members that bring "a unique perspective".  Networks of one loss differ only in their initial
# weights and training images.

# %%
seeds = compared[compared.against.isin([same_loss(BCE, n) for n in sizes]) & compared.measure.isin(summary.FAIR)]
seeds = seeds.assign(interval=statistics.side_of_zero(seeds.test_low, seeds.test_high))
rounded(seeds.drop(columns=["against", "low", "high", "verdict"]))

# %% [markdown]
# **Table 05_seeds.** Ensembles minus the mean of as many runs of cross-entropy, where there are enough.  Intervals are
# over images alone, as ensembles of one loss share runs, some of which are not members.  So there is no verdict for
# other seeds.

# %%
gains = tables.gains(measured, sizes)
style.save_table(gains, "05_gains", p, **made)
rounded(gains)

# %% [markdown]
# **Table 05_gains.** A plain mean minus the average of its members: for different losses, and for as many runs of
# cross-entropy; with the 95 % interval over images alone, and on which side of 0 it lies.

# %% [markdown]
# ## A cascade
#
# Section 6.2 recommends members that work one after the other.  Here the soft F1 member comes first, which should miss
# few; the soft F_beta member judges what passes.  Both thresholds are from the calibration set.

# %%
cascade = summary.cascades(p, found, weights)
style.save_table(cascade, "05_cascade", p, **made)
style.publish(figures.cascade(cascade), "05_cascade", p, **made)

# %% [markdown]
# **Figure 05_cascade.** Precision on the test set of the cascade, and of single models read at the recall that the
# cascade then has; means over runs with the 95 % interval that the test images leave.  One panel for each way to choose
# the two thresholds.

# %%
rounded(cascade)

# %% [markdown]
# **Table 05_cascade.** The numbers of the figure; `cascade_minus_it` is the precision of the cascade minus that of the
# model, with the interval over runs and images, and the verdict as above.  There is no precision where some run accepts
# nothing.

# %% [markdown]
# ## Discussion

# %%
at = {m: tables.by_ensemble(best, m) for m in ("accuracy", "precision", "recall")}
filled(
    """**At p = 0.5** the thesis finds that each metric has a single model that does better than all four ensembles
(section 5.4).  Here NM_6 minus its best member is {accuracy.difference[NM_6]:+.3f} in accuracy
({accuracy.verdict[NM_6]}), {half.difference[NM_6]:+.3f} in F_beta ({half.verdict[NM_6]}),
{precision.difference[NM_6]:+.3f} in precision ({precision.verdict[NM_6]}) and {recall.difference[NM_6]:+.3f} in recall
({recall.verdict[NM_6]}).  Those members are: {accuracy.which[NM_6]}, {half.which[NM_6]}, {precision.which[NM_6]}, and
{recall.which[NM_6]}.  p = 0.5 has another meaning for each loss, and for a weighted mean one in between.""",
    **at, half=half,
)  # fmt: skip

# %%
filled(
    """**Above p = 0.75** the thesis prefers an ensemble, NM_6 before NM_3 (sections 5.4, 6.1).  Here the mean F_beta
there, minus that of the best member, is {high.difference[NM_3]:+.3f} for NM_3 ({high.low[NM_3]:+.3f} to
{high.high[NM_3]:+.3f}; {high.verdict[NM_3]}) and {high.difference[NM_6]:+.3f} for NM_6 ({high.low[NM_6]:+.3f} to
{high.high[NM_6]:+.3f}; {high.verdict[NM_6]}).  A range of p is no fair comparison either: who can choose the threshold
of the ensemble can choose that of the member.  With a threshold of its own for each, the difference is
{own.difference[NM_3]:+.3f} for NM_3 ({own.verdict[NM_3]}) and {own.difference[NM_6]:+.3f} for NM_6
({own.verdict[NM_6]}).""",
    high=high, own=own,
)  # fmt: skip

# %%
undone = {name: tables.before_softmax(theirs) for name, theirs in thesis.WEIGHTS.items()}
plain = [NETWORKS[member].loss == "bce" for member in ENSEMBLES["NM_6"].members]
mine = member_weights[member_weights.member == BCE].set_index("ensemble").weight
filled(
    """**The weights.**  The thesis reads from them that cross-entropy counts most, and both soft losses equally (0.55,
0.22, 0.23).  The softmax makes equal any two weights that were near 0.  Before it, cross-entropy has {of_3:.2f} of NM_3
in the thesis, and the three members of NM_6 that are trained with it have {of_6:.2f} together.  Here, with weights on
the simplex, cross-entropy has {mine[NM_3]:.2f} of NM_3.  How much of the bumps at low and high p is due to the 0 or 1
of soft members is in Table 05_bands.""",
    of_3=undone["NM_3"][0], of_6=undone["NM_6"][plain].sum(), mine=mine,
)  # fmt: skip

# %%
taught = learned[learned["set"] == "test"].groupby("ensemble")[["by_label", "named", "most_frequent"]].mean()
recall, spread = by_model(table)["recall"], by_model(table, "seed_spread")["F_beta"]
filled(
    """**Input-dependent ensembles** have more recall than NM in the thesis (0.935 and 0.928, against 0.921 and 0.915);
here IDE_3 has {recall[IDE_3]:.3f} and IDE_6 {recall[IDE_6]:.3f}, NM_3 {recall[NM_3]:.3f} and NM_6 {recall[NM_6]:.3f}.
IDE_6 varies less from run to run than IDE_3 there (0.010 and 0.022 in F_beta); here {spread[IDE_6]:.3f} and
{spread[IDE_3]:.3f}.  And what is there to learn?  The label alone tells the closest member for a share of
{by_label[IDE_3]:.2f} (three members) and {by_label[IDE_6]:.2f} (six) of the test images; DE_m names it for
{named[IDE_3]:.2f} and {named[IDE_6]:.2f}, and always naming the same member would be right for {always[IDE_3]:.2f} and
{always[IDE_6]:.2f}.""",
    recall=recall, spread=spread, by_label=taught.by_label, named=taught.named, always=taught.most_frequent,
)  # fmt: skip

# %%
fair = means[means.measure == tables.MEASURES["f_beta_own"]].set_index("model")["mean"]
filled(
    """**Diversity or number?**  F_beta of each at its own threshold, from the calibration set: NM_3 {fair[NM_3]:.3f}, a
plain mean of the same members {fair[mean of 3]:.3f}, stacking {fair[stacking of 3]:.3f}, and three runs of
cross-entropy {fair[3 runs of Binary Cross Entropy]:.3f}, where single ones have
{fair[single runs of Binary Cross Entropy]:.3f}.
Before training other losses for an ensemble, train one of them several times, and compare.""",
    fair=fair,
)

# %%
first = cascade[cascade.thresholds == cascade.thresholds.iloc[0]].set_index("model")
filled(
    """**A cascade** of soft F1 and soft F_beta (section 6.2), with the thresholds of the best F_beta, hands
{seen[cascade]:.0%} of the images to its second stage and has a precision of {precision[cascade]:.3f} at a recall of
{recall[cascade]:.3f}.  Minus that of cross-entropy at the same recall this is {less[Binary Cross Entropy]:+.3f}
({low[Binary Cross Entropy]:+.3f} to {high[Binary Cross Entropy]:+.3f}; {verdict[Binary Cross Entropy]}).""",
    seen=first.seen_by_second, precision=first.precision, recall=first.recall, less=first.cascade_minus_it,
    low=first.low, high=first.high, verdict=first.verdict,
)  # fmt: skip

# %% [markdown]
# **How far this holds.**  These are ensembles of networks that saw as many images as each figure says; the thesis' saw
# far more, and weak members make a weak mean.  Its members are one architecture, trained on one survey.  Other
# architectures, which section 6.2 proposes as well, are not tried here.
