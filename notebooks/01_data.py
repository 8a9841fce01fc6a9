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
# Stamps of 101 x 101 pixels at 0.2 arcsec: luminous red galaxies (LRGs), lensed sources, contaminants; and the mock
# lenses that Eq. 4.2 makes of the first two (van Lohuizen 2021, section 4.2).  By default they come from the embedded
# survey; point `data` at a folder in the thesis' layout and everything below is drawn from that.
#
# Draws Figures 4.1 and 4.2, contact sheets of each class, parameter distributions, and counts.  The first time the
# stamps of the test set are simulated, which takes some seconds.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), evening, overnight, lite, thesis
data: str = None  # folder in the thesis' layout; None: the embedded survey
on_bad: str = None  # quarantine (default) or raise, at a FITS file that cannot be used
real_stamps: str = None  # folder whose galaxies/ are shown beside the simulated ones
data_seed: int = None  # of the survey
hardness: float = None  # how much contaminants look like lenses, 0 to 1
workers: int = None  # processes; None: all cores

# %%
import numpy as np
import pandas as pd

from lensdet import notebook, storage
from lensdet.chapters import style
from lensdet.chapters.data import figures
from lensdet.data import frozen_sets, mocklens, stamps
from lensdet.data.bank import CLASSES, SPLITS, split_sizes

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
bank, rows = frozen_sets.frozen_bank(p, "test")
bank

# %% [markdown]
# ## Counts
#
# The thesis: 4,411 LRGs, 80,000 sources and 4,867 contaminants to train on, 80/10/10.  Calibration is ours: thresholds
# and temperatures are fitted on it, never on validation or test.

# %%
if p.data is None:
    counts = pd.DataFrame({cls: split_sizes(getattr(p, f"n_{cls}")) for cls in CLASSES})
else:
    counts = pd.DataFrame({cls: {split: bank.count(cls, split) for split in SPLITS} for cls in CLASSES})
counts = counts.rename_axis("split")
style.save_table(counts.reset_index(), "01_counts", p, counts)
counts

# %% [markdown]
# ## Figure 4.1: an LRG, a lensed source, a mock lens

# %%
truth = frozen_sets.truth(bank, "test", rows)
mocks = mocklens.images(bank, "test", rows)[..., 0]
positive, negative = np.flatnonzero(rows["label"] == 1), np.flatnonzero(rows["label"] == 0)
# a clear case: the largest area above the noise among Einstein radii between 1.5 and 2.5 arcsec
clear = truth[(truth.label == 1) & truth.einstein_radius.between(1.5, 2.5)]
i = (clear if len(clear) else truth[truth.label == 1]).area_fraction.idxmax()
lrg, source = bank.pixels("lrg", "test")[rows["stamp"][i]], bank.pixels("source", "test")[rows["source"][i]]
figure = figures.figure_4_1(lrg.astype(float), source.astype(float), mocks[i])
style.publish(figure, figures.figure_4_1, p)
truth.loc[i, [c for c in ("alpha", "einstein_radius", "area_fraction") if c in truth]]

# %% [markdown]
# ## Figure 4.2: three contaminants

# %%
contaminant = np.flatnonzero(truth.host == "contaminant")
kinds = truth.kind if "kind" in truth else truth.host
# by rule: the brightest surroundings (1.5 to 6 arcsec), of three kinds where kinds are known
x = 0.2 * (np.arange(101) - 50)
radius = np.hypot(x, x[:, None])
around = mocks[contaminant][:, (radius > 1.5) & (radius < 6)].mean(1)
brightest = contaminant[np.argsort(-around, kind="stable")]
different = (~kinds[brightest].duplicated()).to_numpy()
chosen = brightest[np.argsort(~different, kind="stable")[:3]]
figure = figures.figure_4_2(mocks[chosen], list(kinds[chosen]))
style.publish(figure, figures.figure_4_2, p)

# %% [markdown]
# ## Contact sheets
#
# As the network sees them: normalised (Eq. 4.1), merged (Eq. 4.2), square root.

# %%
figure = style.stamps(
    mocks[positive[:30]], [f"α {truth.alpha[j]:.2f}, θ {truth.einstein_radius[j]:.1f}″" for j in positive[:30]]
)
style.publish(figure, "01_mock_lenses", p)

# %%
figure = style.stamps(mocks[contaminant[:30]], list(kinds[contaminant[:30]]))
style.publish(figure, "01_contaminants", p)

# %%
bare = rows[positive[:30]]
bare["alpha"] = 0  # the same LRGs without their arcs
over_noise = (truth.maximum / truth.noise)[positive[:30]]
figure = style.stamps(mocklens.images(bank, "test", bare)[..., 0], [f"peak {x:.0f} σ" for x in over_noise])
style.publish(figure, "01_lrgs", p)

# %% [markdown]
# ### Real galaxies beside them
#
# KiDS and DES galaxies from public test data (credit: KiDS/ESO, DES).  They were not used to draw the survey; the eye
# should need a second look to tell them from the LRGs and contaminants above.

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
# ### Figure 1.2: three lenses
#
# The thesis shows three known lenses of its sample in colour (gri).  Of the public candidates at hand there is one band
# each, so that these are grey: three whose arcs are seen (credit: CFHTLS and Space Warps).

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
# ## Distributions
#
# Of the stamps that the test set is made of, each once; the other sets are drawn as it is.  Noise and the ratio of peak
# to noise are measured on the stamps, alike for simulated and real ones.

# %%
hosts = truth.drop_duplicates(["host", "stamp_id"])
hosts = hosts.assign(
    peak_over_noise=np.log10((hosts.maximum / hosts.noise).clip(1)),
    sky=-hosts.minimum / (hosts.maximum - hosts.minimum),
)
by_class = {cls: hosts[hosts.host == cls] for cls in ("lrg", "contaminant")}
labels = {
    "peak_over_noise": "log10 of peak over noise",
    "sky": "normalised zero level",
    "neighbours": "bright neighbours",
    "seeing": "seeing [arcsec]",
}
known = {column: label for column, label in labels.items() if column in hosts}
figure = figures.distributions(by_class, known)
style.publish(figure, "01_stamp_parameters", p)

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
