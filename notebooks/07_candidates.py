# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Your own survey
#
# Which stamps of a survey to look at first, and how many lenses to expect among them?  This notebook takes a folder of
# stamps, or a catalogue and tiles, and writes a ranked list of lens candidates and a page to look through:
#
#     papermill notebooks/07_candidates.py out.ipynb -f params/candidates.yaml -p survey FOLDER
#     papermill notebooks/07_candidates.py out.ipynb -f params/candidates.yaml -p catalogue FILE -p tiles FILE
#
# or, in JupyterLab, give `survey` in the cell below and run all cells.
#
# `ranked.ecsv`, `ranked.fits`, `rejected.csv` and `page/index.html` go to `output`.  A finder is a trained network; the
# file of its weights says what it takes: stamps of 101 x 101 pixels at 0.2 arcsec, r band.  Stamps that cannot be used
# are left out, and listed with the reason; an interrupted ranking resumes.  Without a notebook:
# `lensdet rank --help`.
#
# Takes 87 seconds for 50,000 stamps on two CPU cores (12 minutes with the thesis' finders), and once half an hour to
# compute what to expect of the list, if that is not there for these finders.  Without a survey a simulated one is
# ranked, whose lenses are known.

# %% tags=["parameters"]
profile: str = None  # None: finder, which ranks by broad, with a survey of your own; else lite, of the thesis' finders
survey: str = None  # folder of FITS stamps to rank
catalogue: str = None  # table with RA and Dec (FITS, ECSV, CSV), for stamps that are cut from tiles
tiles: list = None  # FITS images with WCS, or folders of them
columns: dict = None  # id, ra, dec: columns of the catalogue, where their names are not the usual ones
pixel_scale: float = None  # arcsec, of stamps whose headers do not say
band: str = None  # of stamps and tiles, where their headers name none that is understood
plane: int = None  # of cubes, from 0, where their headers do not name the bands
max_filled: float = None  # share of a stamp's pixels that may be missing
keep: list = None  # columns of the catalogue that go into the ranked list
finders: list = None  # names in weights/, or files; None: those of the thesis with lite, else broad
rank_by: str = None  # ensemble, or the name of a finder
page_size: int = None  # candidates on the page
published: str = None  # catalogue of known lenses to match with
match_radius: float = None  # arcsec
output: str = None  # folder for list and page; None: build/candidates/<survey>, build/demonstration/<profile>
grader: str = None  # your name, to grade the list by keys below; None: no grading
on_bad: str = None  # at a stamp that cannot be used: quarantine (default, leave it out) or raise
real_stamps: str = None  # folder with galaxies/ and lens_candidates/ for the last section
workers: int = None  # processes that read and simulate; None: all cores

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import lensdet
from lensdet import notebook, storage
from lensdet.chapters import style
from lensdet.chapters.candidates import demonstration, domain_shift, expectation, independent_test, real_hosts
from lensdet.chapters.candidates import figures as candidates_figures
from lensdet.chapters.candidates import literature as publications
from lensdet.chapters.prose import filled, rounded
from lensdet.data import stamps
from lensdet.evaluation import statistics
from lensdet.survey import candidate_list, quality, ranking

mine = bool(survey or catalogue)
# what to expect of a list is of the survey that the finders were trained on
p = notebook.parameters(globals() | {"profile": profile or ("finder" if mine else "lite")})
style.plt.rcParams.update(style.STYLE)

# %% [markdown]
# ## Rank

# %%
found = ranking.load_finders(p.finders)
digests = {name: finder.digest for name, finder in found.items()}
asked, about = (p, {}) if mine else (demonstration.parameters_of(p), demonstration.about(p))
outcome = ranking.run(asked, found, **about)
print(f"{len(outcome.ranked):,} ranked; left out: {ranking.counted(outcome.rejections)}")
print(f"The page to look through: {outcome.page}")

# %% [markdown]
# What to expect of such a list is computed from negatives and mock lenses that are simulated only for this: no network
# was trained, selected or tested on any of them.

# %%
path = independent_test.score(p, found, digests, p.independent_negatives, p.independent_lenses)
tail = independent_test.load(path)
lens = tail.rows["label"] == 1
scores = {name: (x[~lens], x[lens]) for name, x in ranking.calibrated(tail.logits, found).items()}
expected = expectation.expected_table(scores, len(outcome.ranked) if mine else 50_000)
metrics = expectation.metrics_table(scores, p.lens_prior)
logits = domain_shift.calibrated(domain_shift.score(p, found, digests), found)
steps = domain_shift.all_steps(logits)
print(f"{(~lens).sum():,} negatives, {lens.sum():,} mock lenses: {path.relative_to(storage.results_dir())}")

# %% [markdown]
# ## The answer

# %%
first = expected[(expected.finder == p.rank_by) & (expected.prior == 1e-3)]
first = first[first.inspected <= max(500, first.inspected.min())].iloc[-1]
real = steps[(steps.finder == p.rank_by) & (steps.quantity == domain_shift.QUANTITIES.recall)].set_index("step")
filled(
    """Of {ranked:,} galaxies with one lens in 1,000, the first {inspected:,} of the list hold {lenses:.0f} lenses
({low:.1f} to {high:.1f}, 95 %), and {inspected:,} at random hold {random:.2g}: that is the **tail of our simulator, not
of the sky**.  On real pixels, of mock lenses with the very same sources {real[mocks as trained on]:.0%} have p of 0.5
or more where these are added to simulated galaxies, and {real[mocks on real galaxies]:.0%} where they are added to real
ones.  (Ranked by {rank_by}; {negatives:,} negatives, {mock_lenses:,} mock lenses.)""",
    real=real.value, rank_by=p.rank_by, **first.drop(["set", "finder", "prior"]),
)  # fmt: skip

# %% [markdown]
# ## The list

# %%
pd.DataFrame({name: ranking.about(finder) for name, finder in found.items()}).T

# %% [markdown]
# **Table 07_finders.** What the finders were trained on, and which run they are.

# %%
rounded(outcome.ranked.drop(columns=["tile", "hdu", "x", "y"]).head(20).dropna(axis=1, how="all"))

# %% [markdown]
# **Table 07_ranked.** The first 20.  A column with the name of a finder is its logit divided by its temperature, and
# `ensemble` their mean (below); `centre_snr` is the signal-to-noise of the centre.  All columns of the files are listed
# in [docs/reference/formats.md](../docs/reference/formats.md#a-ranked-list).

# %%
if outcome.rejections:
    display(pd.DataFrame(outcome.rejections, columns=["stamp", "reason", "detail"]).head(20))
    display(Markdown("\n".join(f"- {words}" for words in ranking.advice(outcome.rejections))))

# %%
top = outcome.ranked.head(24)
titles = [f"{k}: {i}\n{score:.2f}" for k, i, score in zip(top["rank"], top["id"], top[p.rank_by], strict=True)]
pixels = candidate_list.read_again(outcome.plan, top["id"].tolist())
plain = [title.replace("$", r"\$") for title in titles]  # names are no formulas
figure = style.stamps(np.sqrt(stamps.normalise(pixels)), plain, columns=8)
figure.suptitle("the first of the list; above each its rank, its id and its calibrated logit", fontsize=8)
name = ranking.survey_name(p).replace("$", r"\$") if mine else "simulated survey of its own"
style.publish(figure, "07_candidates", p, data=name)

# %% [markdown]
# **Figure 07_candidates.** The first 24 of the list, as a network sees them (Eq. 4.1, square root); above each its
# rank, its id and the logit that it is ranked by.  Look for those that are no lenses.

# %%
if not mine:
    display(rounded(demonstration.recovered(outcome.ranked, asked.survey), 1))

# %% [markdown]
# **Table 07_recovered.** For a simulated survey: how many of its lenses are among the first of the list, and how many
# would be by chance.

# %% [markdown]
# ## Grade
#
# With your name as `grader` the list is shown here, to be graded by keys (`?` shows them); each grade is on the disk
# before the next picture shows ([grading](../docs/how-to/grading.md)).

# %%
if p.grader:
    display(lensdet.grade(outcome.folder, p.grader))

# %% [markdown]
# ## From stamp to score
#
# Each stamp $x$ is scaled by its own darkest and brightest pixel,
#
# $$ f(x) = \frac{x - \min(x)}{\max(x) - \min(x)} \qquad (4.1) $$
#
# and the square root of that is what a network sees, as in its training.  So units, zero points and exposure times do
# not matter; but one dead pixel, or a bright star in a corner, spoils the scale.  Flags mark such stamps.

# %%
pd.Series(quality.reasons(found), name="what it means, and what to do").to_frame().style.set_properties(
    **{"white-space": "normal", "text-align": "left"}
)

# %% [markdown]
# **Table 07_flags.** The flags of the ranked list.  A stamp that has one is unlike the training set, and is listed
# after all that have none.

# %% [markdown]
# The output of a finder is a logit $z$.  Divided by the finder's temperature $T$, which was fitted on its calibration
# set, it gives a probability:
#
# $$ p = \frac{1}{1 + e^{-z/T}} $$
#
# The ensemble is the mean of $z/T$ over the finders, each clipped to the range of its calibration set; the list is
# sorted by it.  This $p$ is not the probability that a galaxy on the sky is a lens, as half of the stamps of the
# calibration set are lenses.

# %% [markdown]
# ## Purity on the sky
#
# Let a threshold accept a share $c$ of the lenses (the completeness, or recall) and a share $f$ of the other galaxies
# (the false-positive rate).  Both are properties of the finder.  Where a share $\pi$ of the galaxies are lenses, Bayes'
# rule gives the share of lenses among what is accepted, the purity or precision:
#
# $$ \mathrm{purity} = \frac{\pi\,c}{\pi\,c + (1 - \pi)\,f} $$
#
# A test set of as many lenses as negatives has $\pi = 1/2$, the sky perhaps 1/1,000: there a high purity needs an $f$
# well below $\pi\,c$.  Likewise for F_beta, with $\mathrm{TP} = \pi\,c$, $\mathrm{FP} = (1 - \pi)\,f$ and
# $\mathrm{TP} + \mathrm{FN} = \pi$:
#
# $$ F_\beta = \frac{(1 + \beta^2)\,\pi\,c}{\beta^2\,\pi + \pi\,c + (1 - \pi)\,f} $$

# %%
skies = expectation.on_skies(scores, p.selection_beta)
rounded(skies, 4)

# %% [markdown]
# **Table 07_skies.** Purity and F_beta of each finder at p = 0.5, from the same completeness and false-positive rate on
# the simulated set, for four shares of lenses (`prior`).  Only the first is like the test sets of notebook 02.

# %% [markdown]
# ## How many lenses to expect among the first N
#
# Real contaminants are of more kinds than ours, and real lenses are not our mock lenses.

# %%
shown = expectation.readable(expected)
style.save_table(expected, "07_expected", p, shown)
rounded(shown)

# %% [markdown]
# **Table 07_expected.** Lenses among the first N, for four shares of lenses, with the 95 % interval that the finite
# simulated sets leave.  Where fewer than ten negatives rank above, only a bound can be given.

# %%
figure = candidates_figures.lenses_found(expected[expected["finder"] == p.rank_by])
style.publish(figure, "07_expected", p)

# %% [markdown]
# **Figure 07_expected.** The same for the ranking by `rank_by`, with the 95 % interval as a band (alone where only
# bounds can be given); dashed: N taken at random.  Where a line flattens, inspecting more stamps finds few more lenses.

# %% [markdown]
# ## The field's metrics

# %%
figure = candidates_figures.roc(scores)
style.publish(figure, "07_roc", p)

# %% [markdown]
# **Figure 07_roc.** Completeness against the false-positive rate, on a logarithmic axis: on the sky the far left
# matters, which the area under the curve hardly shows.  Left of the grey edge fewer than ten negatives are accepted,
# and the rate is not known.

# %%
kinds = independent_test.kinds(tail)[~lens]
above = pd.DataFrame({name: expectation.highest(negatives, 1000) for name, (negatives, _) in scores.items()})
pd.crosstab(kinds, "all").join(above.groupby(kinds).sum()).rename_axis("kind")

# %% [markdown]
# **Table 07_kinds.** Numbers of negatives by kind: of all, and of the 1,000 that each finder ranks highest.

# %%
style.save_table(metrics, "07_metrics", p)
rounded(metrics.drop(columns="set"), 5)

# %% [markdown]
# **Table 07_metrics.** TPR0 and TPR10 are the shares of lenses found before the first and the tenth false positive
# (Metcalf et al. 2019): both fall as the number of negatives grows, so that values from sets of different size cannot
# be compared.  Intervals are 95 %, over simulated stamps; each of the thesis' finders is one network.

# %%
published_values = publications.table()
style.save_table(published_values, "07_published", p)
rounded(published_values, 4)

# %% [markdown]
# **Table 07_published.** Published values, each with the data that it was measured on.  Those are other images, bands,
# lenses and negatives, so that no verdict follows.

# %% [markdown]
# ## On real pixels
#
# The same sources and alphas on simulated LRGs and on real galaxies, beside real candidates.  The public stamps that
# are looked for by default (credit: KiDS/ESO, DES; CFHTLS, NDWFS, Space Warps) hold unvetted galaxies of all kinds and
# few confirmed lenses; pictures recovered from colour PNGs, whose sky is cut off, are a separate group.

# %%
if logits:
    figure = candidates_figures.logits(logits)
    style.publish(figure, "07_real_pixels", p, data="simulated survey and real stamps")
else:
    style.keep("07_real_pixels", p, "no real stamps; set real_stamps to a folder with galaxies/*.fits")

# %% [markdown]
# **Figure 07_real_pixels.** Logits divided by the temperature, of each group, by finder; 0 is p = 0.5.  Each point is a
# stamp; boxes show the median and quartiles; the axis is linear near 0 and logarithmic beyond.

# %%
if logits:
    style.save_table(steps, "07_real_pixels", p)
    display(rounded(steps.assign(interval=statistics.side_of_zero(steps["low"], steps["high"]))))

# %% [markdown]
# **Table 07_real_pixels.** Each step, and its difference from the step before, with the 95 % interval over galaxies and
# on which side of 0 it lies.

# %%
if logits:
    display(rounded(pd.concat([domain_shift.accepted(x).assign(finder=f) for f, x in logits.items()])))

# %% [markdown]
# **Table 07_accepted.** How many of each group have p of 0.5 or more, with 95 % Clopper-Pearson intervals.  Mock lenses
# of one galaxy are not independent: their intervals are too narrow, those of the steps are not.

# %% [markdown]
# ### What each change of the simulation does
#
# The thesis' finders learnt from the thesis' survey.  Those for other surveys learn from a broader one ([the
# simulation](../docs/why/simulation.md#the-broad-survey)); `broad` is the mean of two networks of width 16 that saw
# 524,000 images each, the thesis' finders have width 64 and saw 852,000.  Each step is one network of width 16 that saw
# 262,000 images, and has what the step before it has.  All score the same stamps: real galaxies of KiDS, DES and
# Pan-STARRS1 without a visible arc, each as it is and with eight painted arcs as blurred as its survey (`python
# benchmarks/simulation_steps.py`).

# %%
measured = real_hosts.read()
on_both = measured[(measured["arcs"] == "matched") & (measured["set"] == "both")]
if len(on_both):
    names = {name: label for name, label in real_hosts.LABELS.items() if name in set(on_both["finder"])}
    style.publish(candidates_figures.real_hosts(on_both, names), "07_real_hosts", p, data="real stamps, painted arcs")

# %% [markdown]
# **Figure 07_real_hosts.** Finders on real galaxies with and without painted arcs; lines: 95 % intervals over galaxies,
# each drawn again with all its arcs.

# %%
if len(on_both):
    style.save_table(on_both[on_both["finder"].isin(names)], "07_real_hosts", p)
    others = measured[measured["arcs"].isna() & measured["finder"].isin(names)]
    display(rounded(others.pivot_table(index=["set", "quantity"], columns="finder", values="value", sort=False)))

# %% [markdown]
# **Table 07_real_hosts.** Other stamps: shares that are accepted at p = 0.5, or that score above the median painted arc
# or above nine in ten of the galaxies; and the median share of galaxies that score higher.  Empty stamps should be low
# and candidates high.  The table's file has the numbers of the figure; all are in `results/real_hosts.csv`.

# %% [markdown]
# ## Discussion

# %%
# the thesis' finders; a survey of one's own is ranked by another unless they are named
losses = {"bce", "fbeta"} <= set(metrics.finder)
half, rare = (skies[skies.prior == share].set_index("finder").purity for share in (0.5, 1e-3))
balanced = filled(
    """**A balanced test set flatters.**  At p = 0.5 the finder trained with soft F_beta has a purity of
{half[fbeta]:.3f} among as many lenses as negatives, and of {rare[fbeta]:.3f} where one galaxy in 1,000 is a lens; the
one trained with cross-entropy {half[bce]:.3f}, and {rare[bce]:.3f}.  The thesis' precisions (0.979 and 0.948) are of
the first kind.  It recommends soft F_beta because the sky is imbalanced (section 6.1); but the loss does not see that
imbalance, as its batches are half lenses.""",
    half=half, rare=rare,
)  # fmt: skip
balanced if losses else None

# %%
at = metrics[metrics.metric == "TPR at FPR 0.001"].set_index("finder")
compared = filled(
    """**Which finder?**  With a threshold for a false-positive rate of 1 in 1,000, the finder trained with
cross-entropy finds a share of {value[bce]:.3f} of the simulated lenses ({low[bce]:.3f} to {high[bce]:.3f}), the one
trained with soft F_beta {value[fbeta]:.3f} ({low[fbeta]:.3f} to {high[fbeta]:.3f}), and their mean
{value[ensemble]:.3f} ({low[ensemble]:.3f} to {high[ensemble]:.3f}).  These are two networks; whether the losses differ
is asked in notebook 02.""",
    value=at["value"], low=at["low"], high=at["high"],
)  # fmt: skip
compared if losses else None

# %%
mix = expected[(expected.finder == p.rank_by) & (expected.prior == 1e-3)].set_index("inspected").lenses
filled(
    """**How long to look?**  Section 6.2 asks for the time that people spend on candidates.  With one lens in 1,000 the
first {few:,} hold {these:.0f} lenses, and the first {many:,} hold {those:.0f}: {more:,} more stamps for {gain:.0f} more
lenses.""",
    few=mix.index[0], many=mix.index[-1], these=mix.iloc[0], those=mix.iloc[-1], more=mix.index[-1] - mix.index[0],
    gain=mix.iloc[-1] - mix.iloc[0],
)  # fmt: skip

# %%
step = steps[(steps.finder == p.rank_by) & (steps.step == domain_shift.ON_REAL_GALAXIES)].set_index("quantity")
filled(
    """**Real data.**  Section 6.2 asks for them, too.  From simulated to real galaxies, with the same arcs, the share
of mock lenses with p of 0.5 or more changes by {difference[mock lenses found at p = 0.5]:+.3f}
({low[mock lenses found at p = 0.5]:+.3f} to {high[mock lenses found at p = 0.5]:+.3f}), that of negatives by
{difference[negatives accepted at p = 0.5]:+.3f} ({low[negatives accepted at p = 0.5]:+.3f} to
{high[negatives accepted at p = 0.5]:+.3f}), and the area under the ROC curve by
{difference[area under the ROC curve]:+.3f}.  Those are effects of the difference between our simulator and these real
stamps.  Where they are far from 0, train a network on a survey's own galaxies before searching it.""",
    difference=step.difference, low=step.low, high=step.high,
)  # fmt: skip

# %% [markdown]
# **How far this holds.**  The numbers of lenses are for simulated lenses among simulated contaminants; the real stamps
# are few and unvetted.  Neither is the completeness or purity of a search.
