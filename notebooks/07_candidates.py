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
# From a folder of stamps, or from a catalogue and tiles, to a ranked list of lens candidates and a page to look
# through:
#
#     papermill notebooks/07_candidates.py out.ipynb -f params/candidates.yaml -p survey FOLDER
#     papermill notebooks/07_candidates.py out.ipynb -f params/candidates.yaml -p catalogue FILE -p tiles FILE
#
# `ranked.ecsv`, `ranked.fits`, `rejected.csv` and `page/index.html` go to `output`.  What a finder takes travels with
# its weights: stamps of 101 x 101 pixels at 0.2 arcsec, r band.  A stamp that is none of that is left out by name and
# reason, and the rest goes on; interrupted, it resumes.  The same without a notebook:
# `lensdet rank --help`.
#
# Without a survey a simulated one is ranked, in which it is known what is a lens.  Then: how many lenses to expect
# among the first N, the field's metrics, and what becomes of the scores on real pixels.

# %% tags=["parameters"]
profile: str = "lite"  # whose survey is simulated: that which the finders in weights/ were trained on
survey: str = None  # folder of FITS stamps to rank
catalogue: str = None  # table with RA and Dec (FITS, ECSV, CSV), for stamps that are cut from tiles
tiles: list = None  # FITS images with WCS, or folders of them
columns: dict = None  # id, ra, dec: columns of the catalogue, where their names are not the usual ones
pixel_scale: float = None  # arcsec, of stamps whose headers do not say
band: str = None  # of stamps and tiles, where their headers name none that is understood
plane: int = None  # of cubes, from 0, where their headers do not name the bands
max_filled: float = None  # share of a stamp's pixels that may be missing
keep: list = None  # columns of the catalogue that go into the ranked list
finders: list = None  # bce and fbeta; names in weights/, or files
rank_by: str = None  # ensemble, or the name of a finder
page_size: int = None  # candidates on the page
published: str = None  # catalogue of known lenses to match with
match_radius: float = None  # arcsec
output: str = None  # folder for list and page; None: build/candidates/<survey>, build/demonstration/<profile>
on_bad: str = None  # quarantine (default) or raise, at a stamp that cannot be used
real_stamps: str = None  # folder with galaxies/ and lens_candidates/ for the last section
workers: int = None  # processes that read and simulate; None: all cores

# %%

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from lensdet import notebook, storage
from lensdet.chapters import style
from lensdet.chapters.candidates import demonstration, domain_shift, expectation, independent_test
from lensdet.chapters.candidates import figures as candidates_figures
from lensdet.chapters.candidates import literature as publications
from lensdet.data import stamps
from lensdet.evaluation import statistics
from lensdet.survey import candidate_list, ranking

p = notebook.parameters(globals())
style.plt.rcParams.update(style.STYLE)
found = ranking.load_finders(p.finders)
pd.DataFrame({name: ranking.about(finder) for name, finder in found.items()}).T

# %% [markdown]
# ## Ranked
#
# Each finder's logit is divided by its temperature (fitted on the calibration set); the ensemble is their mean, each
# clipped to what that set had.  What is unlike the training set, such as noise, is flagged and listed last.  A score
# ranks; it is no probability that a galaxy of the sky is a lens, as half of the stamps that it was calibrated on are.

# %%
mine = bool(p.survey or p.catalogue)
asked, about = (p, {}) if mine else (demonstration.parameters_of(p), demonstration.about(p))
outcome = ranking.run(asked, found, **about)
outcome.ranked.drop(columns=["tile", "hdu", "x", "y"]).head(20).round(3)

# %%
print(f"{len(outcome.ranked):,} ranked; left out: {ranking.counted(outcome.rejections)}")
print(f"The page to look through: {outcome.page}")
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

# %%
if not mine:  # of the simulated lenses, how many stand among the first
    display(demonstration.recovered(outcome.ranked, asked.survey).round(1))

# %% [markdown]
# ## How many lenses to expect among the first N
#
# From negatives and mock lenses that are simulated for this alone: no network was trained, selected or tested on any of
# them.  **Tail of our simulator, not of the sky**: real contaminants are of more kinds than ours, real lenses are not
# our mock lenses, and what becomes of the scores on real pixels is the last section.  Where fewer than ten negatives
# stand above, only a bound can be given.  The first time the set is simulated and scored:
# half an hour on two cores.

# %%
digests = {name: finder.digest for name, finder in found.items()}
path = independent_test.score(p, found, digests, p.independent_negatives, p.independent_lenses)
tail = independent_test.load(path)
lens = tail.rows["label"] == 1
scores = {name: (x[~lens], x[lens]) for name, x in ranking.calibrated(tail.logits, found).items()}
print(f"{(~lens).sum():,} negatives, {lens.sum():,} mock lenses: {path.relative_to(storage.results_dir())}")

# %%
ranked = len(outcome.ranked) if mine else 50_000
expected = expectation.expected_table(scores, ranked)
style.save_table(expected, "07_expected", p, expectation.readable(expected))
expectation.readable(expected)

# %%
figure = candidates_figures.lenses_found(expected[expected["finder"] == p.rank_by])
style.publish(figure, "07_expected", p)

# %% [markdown]
# ## The field's metrics
#
# TPR0 and TPR10 are the shares of lenses found before the first and the tenth false positive (Metcalf et al. 2019):
# both fall as a set of negatives grows, so that values of sets of other sizes cannot be compared.

# %%
figure = candidates_figures.roc(scores)
style.publish(figure, "07_roc", p)

# %%
kinds = independent_test.kinds(tail)[~lens]
above = pd.DataFrame({name: expectation.highest(negatives, 1000) for name, (negatives, _) in scores.items()})
# of all negatives, and of the 1,000 that are ranked highest
pd.crosstab(kinds, "all").join(above.groupby(kinds).sum()).rename_axis("kind")

# %%
metrics = expectation.metrics_table(scores, p.lens_prior)
style.save_table(metrics, "07_metrics", p)
metrics.drop(columns="set").round(5)

# %% [markdown]
# What others published, each on the data that it was measured on.  Those are other images, bands, lenses and negatives,
# and no verdict follows.

# %%
published_values = publications.table()
style.save_table(published_values, "07_published", p)
published_values

# %% [markdown]
# ## On real pixels
#
# The same sources and alphas on simulated LRGs and on real galaxies, beside real candidates.  The public stamps that
# are looked for by default (credit: KiDS/ESO, DES; CFHTLS, NDWFS, Space Warps) hold unvetted galaxies of all kinds and
# few confirmed lenses; pictures that were recovered from colour PNGs, whose sky is cut off, are a group of their own.
#
# The table has each step's difference from the step before, with the 95 % interval over galaxies and where it lies.

# %%
by_finder, logits = domain_shift.score(p, found, digests), {}
if by_finder:
    groups = next(iter(by_finder.values()))
    scored = {g: ranking.calibrated({name: x[g] for name, x in by_finder.items()}, found) for g in groups}
    logits = {name: {group: x[name] for group, x in scored.items()} for name in scored[domain_shift.REAL]}
    figure = candidates_figures.logits(logits)
    style.publish(figure, "07_real_pixels", p, data="simulated survey and real stamps")
else:
    style.keep("07_real_pixels", p, "no real stamps; set real_stamps to a folder with galaxies/*.fits")

# %%
if logits:
    steps = {name: domain_shift.steps(x) for name, x in logits.items()}
    every = pd.concat([table.assign(finder=name) for name, table in steps.items()], ignore_index=True)
    style.save_table(every, "07_real_pixels", p)
    display(every.assign(interval=statistics.side_of_zero(every["low"], every["high"])).round(3))

# %%
if logits:
    display(pd.concat([domain_shift.accepted(x).assign(finder=name) for name, x in logits.items()]).round(3))
