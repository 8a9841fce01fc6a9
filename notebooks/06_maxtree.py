# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Max-Tree segmentation
#
# Does it help a network if everything is blacked out except the lens and what is close to it?  (Van Lohuizen 2021,
# sections 4.7 and 5.5.)  This notebook trains networks on segmented stamps, and draws Table 5.3 and Figures 5.19 and
# 5.20.  Then it asks what the thesis does not: what does the mask do to the lenses themselves?  In mock lenses the
# pixels of arcs and neighbours are known, so that this can be counted without training.
#
#     papermill notebooks/06_maxtree.py out.ipynb -p profile quick
#
# Takes a few minutes on two CPU cores where the runs are there; else, with `quick`, some five minutes for each run,
# five on plain stamps and five of each segmentation.  Run i has the same initial weights and training images in all.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
experiments: list = None  # losses; None: ["bce"], as in the thesis
runs: int = None  # of each experiment
protocol: str = None  # text (default) or code
segmentation: str = None  # text: the thesis' prose; code: as the published runs; None: as the protocol
maxtree_area: int = None  # pixels; None: the preset's
maxtree_decay: float = None  # pixels; None: the preset's
maxtree_tolerance: int = None  # grey levels; None: the preset's
data: str = None  # folder in the thesis' layout; None: the embedded survey
real_stamps: str = None  # folder whose galaxies/ has the real galaxy of Figure 5.19
workers: int = None  # processes that make stamps; None: all cores

# %%
import numpy as np

from lensdet import notebook, storage
from lensdet.chapters import style
from lensdet.chapters.losses.tables import readable
from lensdet.chapters.maxtree import effect, figures, summary, sweep
from lensdet.chapters.prose import filled, rounded
from lensdet.data import maxtree, stamps
from lensdet.experiments import BCE
from lensdet.network import training
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)

# %%
losses = list(p.experiments) if experiments else ["bce"]
preset = p.protocol if p.segmentation == "none" else p.segmentation
study = Study(p)
plain, segmented = (study.changed(segmentation=s, experiments=tuple(losses)) for s in ("none", preset))
own = segmented.parameters.maxtree()
asked = preset if own == maxtree.PRESETS[preset] else f"{preset}, modified"
settings = {**maxtree.PRESETS, asked: own}
print(training.banner(plain.parameters, losses), training.banner(segmented.parameters, losses), sep="\n")

# %% [markdown]
# ## Train what is missing
#
# On plain stamps, on segmented ones, and on stamps segmented with the best settings of a sweep (below), which needs no
# training.

# %%
grid = sweep.settings_and_discs(settings)
swept = sweep.kept(study, grid)
plain.train_missing(losses)
segmented.train_missing(losses)
tuned = sweep.train_best(plain, losses, settings, swept, grid)
ways = summary.studies(plain, segmented, asked) | tuned
made = {"runs": p.runs}

# %%
weights = plain.resamples()
found = summary.load_scores(ways)
differences = summary.differences(p, found, weights)
lenses = effect.lenses(p, "test")
compared = sweep.shown(settings, swept, grid)
removed = {name: effect.arc_removed(lenses, how) for name, how in compared.items()}
drawn = effect.resamples(lenses.truth, seed=p.data_seed)
total = effect.totals(removed, drawn)

# %% [markdown]
# ## The answer

# %%
change, gone = summary.by_measure(differences, asked), effect.by_settings(total)
filled(
    """A network that is trained and tested on segmented stamps (settings: `{asked}`) has an area under the ROC curve of
{change.segmented[area under the ROC curve]:.3f}, and one on plain stamps {change.plain[area under the ROC curve]:.3f}:
a difference of {change.difference[area under the ROC curve]:+.3f} ({change.low[area under the ROC curve]:+.3f} to
{change.high[area under the ROC curve]:+.3f}, 95 %): **{change.verdict[area under the ROC curve]}**.  The mask removes
{beside:.0%} of the pixels of neighbours, as it should, and {arcs:.0%} of those of the arcs; a plain disc that removes
as many of the neighbours takes {disc:.0%} of the arcs.  (`{profile}`: {n} of {images:,} images each; thesis: every
measure falls.)""",
    change=change, asked=asked, arcs=gone["pixels"][asked], beside=gone["neighbours"][asked],
    disc=gone["pixels"].get(sweep.disc_name(asked), np.nan), profile=p.profile,
    n=style.number_of(p.runs, "run"), images=p.images,
)  # fmt: skip

# %% [markdown]
# ## What a Max-Tree is
#
# Take an image in whole grey levels, 0 to 255, and keep the pixels at or above a level $h$.  They fall apart into
# *components*: groups of pixels that touch, by side or corner.  Raise $h$: each component shrinks, splits or vanishes,
# and each lies within one of the level below.  So all components of all levels make a tree.  Its root is the whole
# image, its leaves are the peaks.  To filter, ask each component a question: where the answer is no, its pixels fall to
# the level of the nearest component around it that stays.
#
# Section 4.7 keeps a component of area $a$ (in pixels), with a bounding box of $d_x$ by $d_y$, where
#
# $$ a \ge 45, \quad 3 \le d_x \le 60, \quad 3 \le d_y \le 60, \quad \frac{a}{d_x\,d_y} \ge 0.45 $$
#
# Components that are small, thin, or as large as the frame are removed.  (A side is the last column or row minus the
# first.)

# %% [markdown]
# ### From stamp to mask
#
# 1. Make the stamp 8-bit, and smooth it with a 5 x 5 Gaussian.
# 2. Build its Max-Tree, and filter it as above.
# 3. Dim each pixel by its distance from the centre.
# 4. Flood fill from a corner: what touches it through pixels that differ from it by 20 levels at most is background.
# 5. Set the background to black in the stamp; all other pixels keep their values.
#
# In step 3 a pixel of level $I$ at a distance of $d$ pixels becomes, with $\alpha = 20$ pixels (4 arcsec),
#
# $$ I_\mathrm{new} = I \, e^{-d/\alpha} \qquad (4.3) $$
#
# These are the settings `text`.  The published runs (`code`) built the tree from the image before smoothing, with a
# minimum area of 25 and a tolerance of 15, and their test of the ratio used the minimum area in the place of $a$, which
# nearly all components pass.

# %% [markdown]
# ## Figure 5.19: what each step does

# %%
shown = effect.examples(p, lenses)
style.publish(figures.figure_5_19(shown, settings[asked]), figures.figure_5_19, p)

# %% [markdown]
# **Figure 5.19.** A mock lens, an LRG with neighbours, and a spiral of the test set, after each step; the last column
# is the mask, laid on the stamp itself.  Dimmed and flood-filled images are stretched to their own maximum.  The stamps
# are chosen by rule: the lens of the largest area above the noise among Einstein radii between 1.5 and 2.5 arcsec, the
# LRG with the largest area of neighbours, and the spiral of the brightest surroundings.  The thesis shows one lens.

# %%
galaxies = stamps.fits_below(storage.real_stamps(p) / "galaxies")[:1]
real = stamps.read_stamps(galaxies, "quarantine", 1, description=None)
if real.paths:  # the default folder's first is of KiDS
    title = f"{real.paths[0].stem}{', KiDS/ESO' if p.real_stamps is None else ''}\n(real galaxy)"
    figure = figures.figure_5_19({title: np.sqrt(stamps.normalise(real.pixels))[0]}, settings[asked])
    style.publish(figure, "06_real_galaxy", p, data="a real galaxy")
else:
    style.keep("06_real_galaxy", p, "no real stamps; set real_stamps to a folder with galaxies/*.fits")

# %% [markdown]
# **Figure 06_real_galaxy.** The same for a real galaxy, the first by name, where there are any.

# %% [markdown]
# ## Table 5.3

# %%
table = summary.table_5_3(p, found, weights)
wide = readable(table)
style.save_table(table, "table_5_3", p, wide, **made)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# **Table 5.3.** Accuracy, F_beta, precision and recall at p = 0.5, on plain and on segmented stamps.  Each cell: the
# mean over runs; the spread from seed to seed (standard deviation with n − 1); the 95 % interval that the sample of
# test images leaves to the mean of these very runs; the thesis' mean.  Runs with other settings stand there where they
# have been trained.

# %%
style.save_table(differences, "06_differences", p, summary.to_rows(differences), **made)
rounded(differences)

# %% [markdown]
# **Table 06_differences.** Segmented minus plain, run i against run i, on the same test images; `low` and `high` are
# the 95 % interval over runs and images.  F_beta at its own threshold, from the calibration set, and the area under the
# ROC curve do not depend on p = 0.5.  *Higher* or *lower*: significant, corrected for the number of rows; *equivalent*:
# within 0.01 of 0; *open*: neither, or fewer than five runs.

# %%
style.publish(figures.figure_5_20(found, p.selection_beta), figures.figure_5_20, p, **made)

# %% [markdown]
# **Figure 5.20.** F_beta, precision and recall against the decision threshold on the test set, on plain and on
# segmented stamps; means over runs.  The band is one standard deviation of F_beta from seed to seed (of two runs, the
# range between them); diamonds, with one standard deviation at p = 0.49, are the thesis' Table 5.3, whose
# settings were those of `code`.

# %% [markdown]
# ### Does segmentation shorten the training?

# %%
duration = summary.training_time(ways)
style.save_table(duration, "06_time", p, **made)
rounded(duration, 1)

# %% [markdown]
# **Table 06_time.** After how many chunks came the lowest validation loss, mean over runs.  All trainings have the same
# number of chunks.  Where the lowest is near the last, the number says little: the loss may still have been falling.

# %% [markdown]
# ## What is removed of an arc
#
# Pixels of an arc are those where the lensed source is above twice the noise, pixels of neighbours those where their
# light is, outside the arc and the central galaxy.  Keeping a plain disc about the centre needs no tree: what does the
# tree do better than a disc that removes as many pixels of neighbours?

# %%
style.save_table(total, "06_removed", p)
rounded(total)

# %% [markdown]
# **Table 06_removed.** Removed shares of the arc's pixels, of the source's light in them, and of neighbours' pixels:
# means over the n mock lenses of the test set that have any, with 95 % intervals over LRGs.  Each disc removes as many
# pixels of neighbours as its settings do on the validation set.

# %%
binned = effect.by_radius(removed, drawn)
style.save_table(binned if len(binned) else total, "06_arc_removed", p)
figure = figures.arc_removed(binned) if len(binned) else style.empty("Einstein radii are not known.")
style.publish(figure, "06_arc_removed", p)

# %% [markdown]
# **Figure 06_arc_removed.** Mean share of arc pixels removed against Einstein radius, with 95 % intervals over LRGs;
# the number of mock lenses in each bin stands above.  A large arc lies further out, where the mask ends.

# %%
against = summary.against_discs(removed, drawn)
style.save_table(against, "06_discs", p)
rounded(against)

# %% [markdown]
# **Table 06_discs.** Settings minus their disc, on the test set, with 95 % intervals over LRGs and on which side of 0
# they lie.

# %% [markdown]
# ### Are these the lenses that networks lose?

# %%
lost = summary.by_arc_removed(found, removed, weights)
style.save_table(lost, "06_lost", p, **made)
rounded(lost)

# %% [markdown]
# **Table 06_lost.** The area under the ROC curve of n mock lenses against all negatives of the test set, on plain and
# on segmented stamps, by the share of the arc's pixels that the mask removes; `low`, `high` and the verdict as in Table
# 06_differences.

# %% [markdown]
# ## What decay and flood fill do by themselves
#
# The sky of a stamp is not black: its grey level $S$ follows from the stamp's minimum and the square root.  After the
# decay it is $S\,e^{-d/\alpha}$, and nearly 0 in the corner.  The flood fill comes in from the corner, and stops where
# the sky is brighter than the tolerance $T$, at
#
# $$ d = \alpha \, \ln \frac{S}{T} $$
#
# So decay and flood fill alone, without any filter, leave a disc, whose radius depends on the brightness of the sky.

# %%
discs = {name: effect.disc(lenses.images, each) for name, each in settings.items()}
style.publish(figures.disc(discs, settings), "06_disc", p)

# %% [markdown]
# **Figure 06_disc.** The radius of what decay and flood fill leave without the filters, against the level of the sky;
# each point is a mock lens of the test set, the line the formula.

# %%
levels = effect.by_sky(discs)
style.save_table(levels, "06_disc", p)
rounded(levels, 1)

# %% [markdown]
# **Table 06_disc.** The same in bins of the sky level: median radius in pixels of 0.2 arcsec, where 68 % of them lie,
# and the formula.

# %% [markdown]
# ## Other settings

# %%
style.save_table(swept, "06_sweep", p)
best = sweep.best(swept)
if best is None:
    figure = style.empty("Neighbours are known pixel by pixel in the embedded survey alone.")
else:
    figure = figures.sweep(swept, best)
style.publish(figure, "06_sweep", p)

# %% [markdown]
# **Figure 06_sweep.** Share of arc pixels kept against share of neighbours' pixels removed; each point is one setting,
# a mean over mock lenses of the validation set, without training.  The best setting has the highest Youden index: share
# of arc kept minus share of neighbours kept.  The line is for plain discs, with their radii in pixels.

# %%
rounded(sweep.presets_and_best(swept))

# %% [markdown]
# **Table 06_settings.** The presets and the best settings; `beaten` counts the settings that keep more of the arcs and
# remove as many neighbours or more.

# %% [markdown]
# ## Discussion

# %%
filled(
    """**Does it help?**  Not in the thesis: accuracy falls from 0.937 to 0.898, F_beta from 0.947 to 0.918, precision
from 0.948 to 0.919, recall from 0.924 to 0.874 (section 5.5).  Here the differences are
{change.difference[accuracy]:+.3f} in accuracy ({change.verdict[accuracy]}), {change.difference[F_beta]:+.3f} in F_beta
({change.verdict[F_beta]}), {change.difference[precision]:+.3f} in precision ({change.verdict[precision]}) and
{change.difference[recall]:+.3f} in recall ({change.verdict[recall]}).  Where p = 0.5 does not matter:
{change.difference[F_beta at its own threshold]:+.3f} in F_beta at its own threshold
({change.verdict[F_beta at its own threshold]}).""",
    change=change,
)

# %%
at = sweep.best(swept)
name = next(iter(tuned), "none" if at is None else sweep.describe(swept.loc[at]))
arcs, beside = (gone[share].get(name, np.nan) for share in ("pixels", "neighbours"))
filled(
    """**Other settings?**  The thesis finds it reasonable to assume that none would increase performance, and reports
no others (section 5.6).  Of {tried} settings, those with the highest Youden index are: {name}.  They remove {arcs:.0%}
of the arcs and {beside:.0%} of the neighbours.  On stamps that are segmented so, the area under the ROC curve minus
that on plain ones is {tuned.difference[area under the ROC curve]:+.3f} ({tuned.verdict[area under the ROC curve]}).""",
    tried=int(swept.disc.isna().sum()), name=name, arcs=arcs, beside=beside,
    tuned=summary.by_measure(differences, name),
)  # fmt: skip

# %%
worst = effect.hardest_bin(binned, asked)
filled(
    """**Why?**  The thesis suspects that networks ignore neighbours by themselves, and that the mask is "too aggressive
in pruning" lenses, though by eye "the algorithm works well" (sections 5.5, 5.6).  Counted by pixel, most is lost at
Einstein radii of {radius_low:.1f} to {radius_high:.1f} arcsec: {mean:.0%} of the arc on average, and more than half of
it in {gone:.0f} of {n:.0f} lenses.""",
    **worst,
)

# %%
bins = summary.of_settings(lost, asked)
filled(
    """**Which lenses?**  The area under the ROC curve changes by {bins.difference[3]:+.3f} ({bins.low[3]:+.3f} to
{bins.high[3]:+.3f}) with the {bins.n[3]:.0f} lenses that lose half of the arc or more, by {bins.difference[2]:+.3f}
with the {bins.n[2]:.0f} that lose 10 to 50 %, by {bins.difference[1]:+.3f} with the {bins.n[1]:.0f} that lose 1 to
10 %, and by {bins.difference[0]:+.3f} ({bins.low[0]:+.3f} to {bins.high[0]:+.3f}) with the {bins.n[0]:.0f} that lose
less.  Of the change over all of them {bins.part[3]:.0%} is of the first group and {bins.part[0]:.0%} of the last,
whose arcs are whole above twice the noise.  The groups differ in more than their masks (on whole stamps the areas are
{bins.plain[3]:.3f}, {bins.plain[2]:.3f}, {bins.plain[1]:.3f} and {bins.plain[0]:.3f}), and fainter light of a source
and the negatives are masked as well.""",
    bins=bins,
)  # fmt: skip

# %%
less = against[against.settings == asked].set_index("share")
filled(
    """**What does the tree do?**  Decay and flood fill make a disc by themselves, by the formula above.  The share of
the arcs that the settings `{asked}` keep, minus the share kept by a plain disc that removes as many pixels of
neighbours of the validation set, is {difference[arc kept]:+.3f} (95 %: {low[arc kept]:+.3f} to {high[arc kept]:+.3f})
of their pixels and {difference[light kept]:+.3f} ({low[light kept]:+.3f} to {high[light kept]:+.3f}) of their
light.""",
    asked=asked, difference=less.difference, low=less.low, high=less.high,
)  # fmt: skip

# %%
model = next(iter(found), (BCE, ""))[0]
chunk = duration.set_index("model").chunk
before, after = (chunk.get(summary.label(model, how), np.nan) for how in (summary.PLAIN, asked))
filled(
    """**Shorter training?**  Section 1.3 hopes for it.  Of {chunks} chunks the lowest validation loss came after
{before:.1f} on plain stamps and after {after:.1f} on segmented ones.""",
    chunks=p.chunks, before=before, after=after,
)  # fmt: skip

# %% [markdown]
# **How far this holds.**  For networks that saw as many images as each figure says, and neighbours as this survey
# simulates them: in crowded fields, or with brighter neighbours than here, a mask may have more to remove.
