# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. The data
#
# What are the networks trained on?  (Van Lohuizen 2021, section 4.2.)  Stamps of 101 x 101 pixels at 0.2 arcsec:
# luminous red galaxies (LRGs), lensed sources and contaminants; and the mock lenses that are made of the first two.  By
# default they come from the embedded survey, which is simulated; with `data`, a folder in the thesis' layout,
# everything below is drawn from that.
#
#     papermill notebooks/01_data.py out.ipynb
#
# Takes half a minute on two CPU cores, and some seconds more the first time, when the test set is simulated.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
data: str = None  # folder in the thesis' layout; None: the embedded survey
on_bad: str = None  # at a FITS file that cannot be used: quarantine (default, leave it out) or raise
real_stamps: str = None  # folder whose galaxies/ are shown beside the simulated ones
data_seed: int = None  # of the survey
hardness: float = None  # how much contaminants look like lenses, 0 to 1
workers: int = None  # processes; None: all cores

# %%
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from lensdet import notebook, storage
from lensdet.chapters import style
from lensdet.chapters.data import examples, figures
from lensdet.chapters.prose import filled
from lensdet.data import frozen_sets, mocklens, stamps
from lensdet.data.bank import CLASSES, SPLITS, split_sizes

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
bank, rows = frozen_sets.frozen_bank(p, "test")
truth = frozen_sets.truth(bank, "test", rows)
mocks = mocklens.images(bank, "test", rows, p.renormalise)[..., 0]
positive, contaminant = np.flatnonzero(truth["label"] == 1), np.flatnonzero(truth["host"] == "contaminant")
kinds = truth["kind"] if "kind" in truth else truth["host"]
bank

# %% [markdown]
# ## The answer

# %%
lenses = truth.iloc[positive]
filled(
    """Of {n:,} images of the test set {lenses:,} are mock lenses, {contaminants:,} contaminants and {lrgs:,} LRGs
without a source.  Half of the mock lenses have an Einstein radius below {radius:.2f} arcsec and a source whose peak is
below {alpha:.2f} of the LRG's; half show the source above twice the noise in less than {fraction:.1%} of the stamp.""",
    n=len(truth), lenses=len(lenses), contaminants=len(contaminant), lrgs=len(truth) - len(lenses) - len(contaminant),
    radius=lenses.get("einstein_radius", pd.Series(dtype=float)).median(), alpha=lenses["alpha"].median(),
    fraction=lenses["area_fraction"].median(),
)  # fmt: skip

# %% [markdown]
# ## Counts

# %%
if p.data is None:
    counts = pd.DataFrame({cls: split_sizes(getattr(p, f"n_{cls}")) for cls in CLASSES})
else:
    counts = pd.DataFrame({cls: {split: bank.count(cls, split) for split in SPLITS} for cls in CLASSES})
counts = counts.rename_axis("split")
style.save_table(counts.reset_index(), "01_counts", p, counts)
counts

# %% [markdown]
# **Table 01_counts.** Stamps of each class and split.  The thesis: 4,411 LRGs, 80,000 sources and 4,867 contaminants to
# train on, 80/10/10.  Calibration is ours: thresholds and temperatures are fitted on it, never on validation or test.

# %% [markdown]
# ## How a mock lens is made
#
# Each stamp is normalised by its own lowest and highest pixel:
#
# $$ f(x) = \frac{x - \min(x)}{\max(x) - \min(x)} \qquad (4.1) $$
#
# A lensed source $s$, convolved with the point spread function of the r band, is scaled to a share $\alpha$ of the peak
# of an LRG $l$ and added; $\alpha$ is drawn uniformly from 0.02 to 0.30:
#
# $$ m = l + \frac{s \cdot \max(l) \cdot \alpha}{\max(s)} \qquad (4.2) $$
#
# Last, a square root makes faint features easier to see, in mock lenses and negatives alike.  As in the thesis, the sum
# is not normalised again: a mock lens may exceed 1.  A fifth of the negatives are LRGs, the others contaminants; half
# of every batch are mock lenses.

# %%
i = examples.clear_lens(truth)
lrg, source = bank.pixels("lrg", "test")[rows["stamp"][i]], bank.pixels("source", "test")[rows["source"][i]]
figure = figures.figure_4_1(lrg.astype(float), source.astype(float), mocks[i])
style.publish(figure, figures.figure_4_1, p)
truth.loc[i, [c for c in ("alpha", "einstein_radius", "area_fraction") if c in truth]]

# %% [markdown]
# **Figure 4.1.** An LRG, a lensed source, and the mock lens made of them: a clear case, the one with the largest area
# above the noise among Einstein radii between 1.5 and 2.5 arcsec.

# %%
chosen = contaminant[examples.bright_surroundings(mocks[contaminant], kinds.iloc[contaminant], 3)]
figure = figures.figure_4_2(mocks[chosen], list(kinds[chosen]))
style.publish(figure, figures.figure_4_2, p)

# %% [markdown]
# **Figure 4.2.** Three contaminants, of three kinds: those with the brightest surroundings, 1.5 to 6 arcsec from the
# centre.

# %% [markdown]
# ## As the network sees them

# %%
figure = style.stamps(
    mocks[positive[:30]], [f"α {truth.alpha[j]:.2f}, θ {truth.einstein_radius[j]:.1f}″" for j in positive[:30]]
)
style.publish(figure, "01_mock_lenses", p)

# %% [markdown]
# **Figure 01_mock_lenses.** The first 30 mock lenses of the test set, with alpha and the Einstein radius.

# %%
figure = style.stamps(mocks[contaminant[:30]], list(kinds[contaminant[:30]]))
style.publish(figure, "01_contaminants", p)

# %% [markdown]
# **Figure 01_contaminants.** The first 30 contaminants, with their kind where it is known.

# %%
bare = rows[positive[:30]]
bare["alpha"] = 0  # the same LRGs without their arcs
over_noise = (truth.maximum / truth.noise)[positive[:30]]
lrgs = mocklens.images(bank, "test", bare, p.renormalise)[..., 0]
figure = style.stamps(lrgs, [f"peak {x:.0f} σ" for x in over_noise])
style.publish(figure, "01_lrgs", p)

# %% [markdown]
# **Figure 01_lrgs.** The LRGs of the mock lenses above, without their sources.

# %% [markdown]
# ### Real galaxies beside them

# %%
folder = storage.real_stamps(p) / "galaxies"
files = stamps.fits_below(folder)
files = files[:: max(1, len(files) // 30)][:30]
real = stamps.read_stamps(files, p.on_bad, p.workers, description=None)
if real.paths:
    figure = style.stamps(np.sqrt(stamps.normalise(real.pixels)), figures.origins(real.paths))
    style.below(figure, "real galaxies, unvetted, not simulated; credit: KiDS/ESO, DES and the others named above")
    style.save(figure, "01_real_galaxies", p)
else:
    style.keep("01_real_galaxies", p, "no real stamps; set real_stamps to a folder with galaxies/*.fits")

# %% [markdown]
# **Figure 01_real_galaxies.** KiDS and DES galaxies from public test data (credit: KiDS/ESO, DES).  They were not used
# to simulate the survey; by eye they should be hard to tell from the LRGs and contaminants above.

# %%
titles = figures.clear_candidates(stamps.fits_below(storage.real_stamps(p) / "lens_candidates"))
candidates = stamps.read_stamps([*titles], p.on_bad, p.workers, description=None)
if candidates.paths:
    figure = figures.figure_1_2(np.sqrt(stamps.normalise(candidates.pixels)), [titles[c] for c in candidates.paths])
    style.below(figure, "real lens candidates, one band, 20 arcsec a side")
    style.save(figure, figures.figure_1_2, p)
else:
    style.keep(figures.figure_1_2, p, "no real stamps; set real_stamps to a folder with lens_candidates/*.fits")

# %% [markdown]
# **Figure 1.2.** Three lens candidates with visible arcs.  The thesis shows three known lenses of its sample in colour
# (gri); of the public candidates at hand there is one band each (credit: CFHTLS and Space Warps).

# %% [markdown]
# ## Distributions

# %%
galaxies = truth.drop_duplicates(["host", "stamp_id"])
galaxies = galaxies.assign(
    peak_over_noise=np.log10((galaxies.maximum / galaxies.noise).clip(1)),
    sky=-galaxies.minimum / (galaxies.maximum - galaxies.minimum),
)
by_class = {cls: galaxies[galaxies.host == cls] for cls in ("lrg", "contaminant")}
axis_labels = {
    "peak_over_noise": "log10 of peak over noise",
    "sky": "normalised zero level",
    "neighbours": "bright neighbours",
    "seeing": "seeing [arcsec]",
}
known = {column: label for column, label in axis_labels.items() if column in galaxies}
figure = figures.distributions(by_class, known)
style.publish(figure, "01_stamp_parameters", p)

# %% [markdown]
# **Figure 01_stamp_parameters.** LRGs and contaminants of the test set, each once; the other sets have the same
# distributions.  Noise and the ratio of peak to noise are measured on the stamps, alike for simulated and real ones.

# %%
units = {
    "einstein_radius": "Einstein radius [arcsec]",
    "lens_axis_ratio": "axis ratio of the lens",
    "lens_angle": "angle of the lens [deg]",
    "shear": "external shear",
    "shear_angle": "angle of the shear [deg]",
    "source_radius": "source radius [arcsec]",
    "source_axis_ratio": "axis ratio of the source",
    "source_angle": "angle of the source [deg]",
    "source_sersic": "Sérsic index",
    "source_x": "source x [arcsec]",
    "source_y": "source y [arcsec]",
}
figure = figures.distributions({"source": truth[truth.label == 1].drop_duplicates("source_id")}, units)
style.publish(figure, "01_source_parameters", p)

# %% [markdown]
# **Figure 01_source_parameters.** Parameters of the lensed sources of the test set, as they were drawn.

# %% [markdown]
# ## Discussion
#
# The thesis trains on KiDS LRGs and on contaminants that experts had selected.  These stamps are simulated, so that
# anyone can make them again, and the truth of each is known.  So patterns can be compared with the thesis, values
# cannot; how well the networks do on real pixels is measured in notebook 07.

# %%
lowest = mocks.min((1, 2))
negative = np.flatnonzero(truth["label"] == 0)
above = mannwhitneyu(lowest[positive], lowest[negative]).statistic / (len(positive) * len(negative))
filled(
    """**A shortcut.**  A network could learn a feature that no lens on the sky has.  One is the lowest pixel, as the
sum of Eq. 4.2 is not normalised again: alone it tells mock lenses from negatives with an area under the ROC curve of
{auc:.2f} (0.5 would be chance).  The thesis' mock lenses are made by the same equation.""",
    auc=max(above, 1 - above),
)
