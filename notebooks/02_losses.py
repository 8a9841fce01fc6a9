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
# trains what is missing, or loads it, and draws the rows of Table 5.1 with the thesis' beside them, Figure 5.1 (F_beta,
# precision and recall against the threshold), Figure 5.2 (predictions), and the training curves.  At the end it scores
# real stamps.
#
#     papermill notebooks/02_losses.py out.ipynb -f params/fbeta.yaml
#
# Run i has the same initial weights and training rows in every experiment: differences between losses are paired.
# `quick` takes some minutes a run on two cores, and has **not converged**: no claim of the thesis is judged from it.

# %% tags=["parameters"]
profile: str = None  # smoke, quick (default), lite, thesis
experiments: list = None  # of bce, fbeta, f1, f1_double; None: all
runs: int = None  # of each experiment
beta: float = None  # of the soft F_beta loss
protocol: str = None  # text (default): as described; code: as the published runs computed
data: str = None  # folder in the thesis' layout; None: the embedded survey
real_stamps: str = None  # folder of FITS stamps to score at the end
workers: int = None  # processes that make stamps; None: all cores

# %%
import numpy as np
import pandas as pd

from lensdet import figures, metrics, parameters, results, stamps, tables, thesis, training

p = parameters.from_notebook(globals())
figures.plt.rcParams.update(figures.STYLE)
print(training.banner(p))

# %% [markdown]
# ## Train what is missing

# %%
key = training.train_missing(p)
folders = {loss: results.complete_runs(p, loss, key) for loss in p.experiments}
pd.DataFrame({loss: {"folder": f[0].parent.name, "runs": len(f)} for loss, f in folders.items()}).T

# %% [markdown]
# ## Table 5.1
#
# Each cell: the mean over runs; the seed-to-seed spread (standard deviation with n − 1); the 95 % interval that the
# sample of test images leaves (stratified bootstrap of the mean, runs fixed); the thesis' mean.  Rows 1 to 3 are one
# training, read at three checkpoints.  Collapsed runs (everything accepted, or nothing) stay in every mean.

# %%
table = tables.table_5_1(p, key)
wide = tables.readable(table)
figures.save_table(table, "table_5_1", p, wide)
wide.style.set_properties(**{"white-space": "normal", "text-align": "left"})

# %% [markdown]
# ## Figure 5.1
#
# Rows that chose the same checkpoint lie on top of each other.

# %%
rows = {row: tables.test_logits(p, key, row) for row in tables.rows_of(p)}
rows = {row: pair for row, pair in rows.items() if pair is not None}
figure = figures.f_beta_curves(rows, p.selection_beta)
figures.face(figure, p, p.runs)
figures.save(figure, "fig_5_1", p)

# %% [markdown]
# ## Figure 5.2
#
# The run of median validation loss of each row (the thesis does not say which of the ten it shows).

# %%
shown = {}
for row, (labels, _) in rows.items():
    median = results.median_run(folders[thesis.ROWS[row][0]])
    run = int(median.name[4:])
    shown[row] = labels, results.load_logits(median, thesis.ROWS[row][1][p.protocol], "test")[1], run
figure = figures.histograms(shown)
figures.face(figure, p, p.runs)
figures.save(figure, "fig_5_2", p)

# %% [markdown]
# ## Training curves
#
# Thin: runs; bold: their mean.

# %%
figure = figures.training_curves({loss: [results.load_history(f) for f in found] for loss, found in folders.items()})
figures.face(figure, p, p.runs)
figures.save(figure, "02_training", p)

# %% [markdown]
# ## Real stamps, ranked
#
# Public stamps of galaxies and lens candidates (credit: KiDS/ESO, CFHTLS, HSC, DES, NDWFS, DESI Legacy), scored by
# the run of median validation loss of each loss, sorted by the first.  So few and so mixed a set shows that reading and
# scoring work, and how foreign real pixels are to a network that learnt from simulated ones.  It measures neither
# completeness nor purity: few candidates are confirmed, and the galaxies are unvetted.

# %%
folder = results.real_stamps(p)
files = stamps.fits_below(folder)
scores = {}
if files:
    left_out = results.build_dir() / "real_rejected.csv"
    real = stamps.read_stamps(files, p.on_bad, p.workers, rejected=left_out, description=None)
    for loss, found in folders.items():
        logits = training.score_stamps(results.median_run(found), folder, real.paths, real.pixels)
        if logits is not None:
            scores[loss] = metrics.probability(logits)
if scores:
    first = next(iter(scores))
    order = np.argsort(-scores[first], kind="stable")[:48]
    candidate = ["lens_candidates" in path.relative_to(folder).parts for path in real.paths]
    numbers = [" ".join(f"{s[i]:.2f}" for s in scores.values()) for i in order]
    titles = [f"{'candidate' * candidate[i]}\n{text}" for i, text in zip(order, numbers, strict=True)]
    figure = figures.stamps(np.sqrt(stamps.normalise(real.pixels[order])), titles, columns=8, size=1.15)
    words = (
        f"{len(order)} of {len(real.paths)} real stamps, by the probability of {first}; above each: {', '.join(scores)}"
    )
    figure.suptitle(words, fontsize=9)
elif files:
    figure = figures.empty("No scores: none of these stamps can be used, or there are no weights to score them with.")
else:
    figure = figures.empty("No real stamps here: set the parameter real_stamps to a folder of FITS stamps.")
figures.face(figure, p, p.runs)
figures.save(figure, "02_real_stamps", p)
