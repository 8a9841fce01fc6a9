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
# Does it help a network if all is blacked out that is neither the lens nor close to it?  (Van Lohuizen 2021, sections
# 4.7 and 5.5.)  Table 5.3, Figures 5.19 and 5.20, and what the thesis does not ask: what does the mask do to the lenses
# themselves?  Of mock lenses arc and neighbours are known pixel by pixel, so that this can be counted without training.
#
#     papermill notebooks/06_maxtree.py out.ipynb -p profile quick
#
# What is missing is trained first, on plain and on segmented stamps; run i of both has the same initial weights and
# training rows.

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
from lensdet.data import frozen_sets, maxtree, mocklens, stamps
from lensdet.network import training
from lensdet.study import Study

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
losses = list(p.experiments) if experiments else ["bce"]
preset = p.protocol if p.segmentation == "none" else p.segmentation
study = Study(p)
plain, segmented = (study.changed(segmentation=s, experiments=tuple(losses)) for s in ("none", preset))
own = segmented.parameters.maxtree()
asked = preset if own == maxtree.PRESETS[preset] else f"{preset}, modified"
settings = {**maxtree.PRESETS, asked: own}
print(training.banner(plain.parameters, losses), training.banner(segmented.parameters, losses), sep="\n")

# %% [markdown]
# ## Figure 5.19: what each step does
#
# What the last step leaves is a mask, laid on the stamp itself.  By rule: the clearest mock lens of the test set (the
# largest area above the noise among Einstein radii between 1.5 and 2.5 arcsec), the LRG with the largest area of
# neighbours, and the spiral of the brightest surroundings (1.5 to 6 arcsec).  Below them, in a figure of its own, the
# first real galaxy by name, where there are any.

# %%
lenses = effect.lenses(p, "test")
truth, beside = lenses.truth, lenses.neighbours
clear = truth[truth.einstein_radius.between(1.5, 2.5)] if "einstein_radius" in truth else truth
i = (clear if len(clear) else truth).area_fraction.idxmax()
bank, rows = frozen_sets.frozen_bank(p, "test")
lrg = rows[rows["label"] == 1][[0 if beside is None else beside.sum((1, 2)).argmax()]]
lrg["alpha"] = 0  # the LRG of a mock lens, without its arc
kind = frozen_sets.truth(bank, "test", rows).get("kind", np.array(""))
spirals = mocklens.images(bank, "test", rows[np.broadcast_to(kind == "spiral", len(rows))])[..., 0]
radius = 0.2 * np.hypot(*(np.indices(stamps.SHAPE) - 50))
around = spirals[:, (radius > 1.5) & (radius < 6)].mean(1)
shown = {
    "mock lens": lenses.images[i],
    "LRG with neighbours" if beside is not None else "LRG": mocklens.images(bank, "test", lrg)[0, ..., 0],
    "spiral": spirals[around.argmax()] if len(spirals) else None,
}
style.publish(figures.figure_5_19(shown, settings[asked]), figures.figure_5_19, p)

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
# ## Other settings
#
# Share of arc pixels kept against share of neighbours' pixels removed, on the validation set, without training.  An arc
# pixel is one where the lensed source is above twice the noise; a neighbour's pixel likewise, outside the arc and the
# central galaxy.  Beside the settings: plain discs about the centre, which need no tree.  Best is what has the highest
# Youden index, share of arc kept less share of neighbours kept.  In the table `beaten` counts the settings that keep
# more of the arcs and remove as many neighbours or more.

# %%
grid = sweep.grid()
grid += [s for s in settings.values() if s not in grid]
grid += sweep.RADII
swept = sweep.kept(study, grid)
style.save_table(swept, "06_sweep", p)
best = sweep.best(swept)
if best is None:
    figure = style.empty("Neighbours are known pixel by pixel in the embedded survey alone.")
else:
    figure = figures.sweep(swept, best)
style.publish(figure, "06_sweep", p)
sweep.presets_and_best(swept).round(3)

# %% [markdown]
# ## Train what is missing
#
# On plain stamps, on segmented ones, and on stamps segmented with the best settings of the sweep, which are chosen
# without a training.

# %%
plain.train_missing(losses)
segmented.train_missing(losses)
unaltered = {"maxtree_area": None, "maxtree_decay": None, "maxtree_tolerance": None}
ways = {how: plain.changed(segmentation=how, **unaltered) for how in maxtree.PRESETS}
ways = {"none": plain, **ways, asked: segmented}
chosen = None if best is None else sweep.trained_with(plain, grid[best])
if chosen is not None and grid[best] not in settings.values():
    chosen.train_missing(losses)
    ways[sweep.describe(swept.loc[best])] = chosen
elif best is not None:
    reason = "are a preset" if grid[best] in settings.values() else "leave a step out, which no training can"
    print(f"no training with the best settings: they {reason}")
weights = plain.resamples()
made = {"runs": p.runs}

# %% [markdown]
# ## Table 5.3
#
# Each cell: mean over runs, seed-to-seed spread, the 95 % interval that the test images leave, the thesis' mean.  Runs
# with the other preset stand there where they have been trained.

# %%
found = summary.load_scores(ways)
table = summary.table_5_3(p, found, weights)
wide = readable(table)
style.save_table(table, "table_5_3", p, wide, **made)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# ### Differences
#
# Segmented less plain, run i against run i, on the same test images.  F_beta at its own threshold, from the calibration
# set, and the area under the ROC curve do not mind where p = 0.5 happens to lie.  The verdict is on the fourth research
# question, whether segmentation helps: *higher* or *lower* where the difference is shown, corrected for the number of
# rows; *equivalent* within 0.01 of 0; *open* where neither is, or with fewer than five runs.

# %%
differences = summary.differences(p, found, weights)
style.save_table(differences, "06_differences", p, summary.to_rows(differences), **made)
differences.round(3)

# %% [markdown]
# Does segmentation shorten the training?  All trainings have the same number of chunks; after how many came the lowest
# validation loss, mean over runs:

# %%
summary.training_time(ways).round(1)

# %% [markdown]
# ## Figure 5.20
#
# F_beta with a band of one seed spread, precision (dotted) and recall (dashed).

# %%
style.publish(figures.figure_5_20(found, p.selection_beta), figures.figure_5_20, p, **made)

# %% [markdown]
# ## What is removed of an arc
#
# On the test set, for both presets, for the best settings of the sweep, and for plain discs that remove as many
# neighbours as each of them (on the validation set).

# %%
compared = sweep.shown(settings, swept, grid)
removed = {name: effect.arc_removed(lenses, how) for name, how in compared.items()}
drawn = effect.resamples(truth, seed=p.data_seed)
total, binned = effect.totals(removed, drawn), effect.by_radius(removed, drawn)
style.save_table(total, "06_removed", p)
style.save_table(binned if len(binned) else total, "06_arc_removed", p)
if len(binned):
    figure = figures.arc_removed(binned)
else:
    figure = style.empty("Einstein radii are not known.")
style.publish(figure, "06_arc_removed", p)
total.round(3)

# %% [markdown]
# Does the tree do better than a plain disc that removes as many neighbours?  Settings less their disc, on the test set,
# with 95 % intervals over LRGs.

# %%
summary.against_discs(removed, drawn).round(3)

# %% [markdown]
# ## The disc
#
# The sky is not black: its level follows from the stamp's minimum and the square root.  After the decay it fades
# outwards, and the flood fill stops where it is brighter than the tolerance.  What decay and flood fill leave without
# the filters is a disc, predicted to reach to decay x ln(sky / tolerance); below: how far it does.

# %%
discs = {name: effect.disc(lenses.images, each) for name, each in settings.items()}
levels = effect.by_sky(discs)
style.save_table(levels, "06_disc", p)
style.publish(figures.disc(discs, settings), "06_disc", p)
levels.round(1)
