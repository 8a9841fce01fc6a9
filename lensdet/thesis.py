"""The published numbers of the thesis, as data.

``(mean, spread)`` over about ten runs; the spread is the standard deviation with n, not n - 1, of single runs on one
test set of 551 lenses and 551 negatives.  F_beta, precision and recall are in truth at p = 0.49 with beta^2 = 0.03,
the accuracy of Table 5.1 at p > 0.5 (`lensdet.metrics.PROTOCOLS`, ``code``).
"""


def _table(rows):
    metrics = ("accuracy", "f_beta", "precision", "recall")
    return {row: dict(zip(metrics, values, strict=True)) for row, values in rows.items()}


# Table 5.1 (section 5.1): losses and model selection.
TABLE_5_1 = _table(
    {
        "Binary Cross Entropy": ((0.937, 0.005), (0.947, 0.006), (0.948, 0.007), (0.924, 0.016)),
        "F_beta metric": ((0.929, 0.005), (0.930, 0.009), (0.930, 0.009), (0.927, 0.013)),
        "Soft F_beta metric": ((0.935, 0.005), (0.947, 0.009), (0.948, 0.009), (0.921, 0.014)),
        "F_beta Soft Loss": ((0.849, 0.008), (0.969, 0.007), (0.979, 0.008), (0.713, 0.014)),
        "F_1 Soft loss": ((0.892, 0.015), (0.854, 0.029), (0.852, 0.030), (0.951, 0.015)),
        "F_1 Double Soft loss": ((0.917, 0.008), (0.927, 0.012), (0.927, 0.012), (0.904, 0.013)),
    }
)

# Table 5.2 (section 5.4): ensembles, Nelder-Mead and input-dependent, of three and six members.  Its accuracy is the
# mean and spread over all 99 thresholds and all runs, not the accuracy at 0.5.
TABLE_5_2 = _table(
    {
        "NM_3": ((0.890, 0.043), (0.946, 0.005), (0.947, 0.006), (0.921, 0.014)),
        "NM_6": ((0.903, 0.037), (0.957, 0.005), (0.959, 0.005), (0.915, 0.009)),
        "IDE_6": ((0.912, 0.014), (0.913, 0.010), (0.913, 0.011), (0.928, 0.008)),
        "IDE_3": ((0.904, 0.014), (0.898, 0.022), (0.897, 0.023), (0.935, 0.016)),
    }
)

# Table 5.3 (section 5.5): BCE after Max-Tree segmentation.
TABLE_5_3 = _table({"Max-Tree Seg.": ((0.898, 0.008), (0.918, 0.014), (0.919, 0.015), (0.874, 0.015))})

# Each row of Table 5.1: the loss that is trained, and what its checkpoint is selected by under each protocol
# (`lensdet.selection.selectors`).  The first three are one training.  The published runs chose the third by accuracy.
ROWS = {
    "Binary Cross Entropy": ("bce", {"text": "loss", "code": "code_loss"}),
    "F_beta metric": ("bce", {"text": "f_beta", "code": "code_f_beta"}),
    "Soft F_beta metric": ("bce", {"text": "soft_f_beta", "code": "code_accuracy"}),
    "F_beta Soft Loss": ("fbeta", {"text": "loss", "code": "code_loss"}),
    "F_1 Soft loss": ("f1", {"text": "loss", "code": "code_loss"}),
    "F_1 Double Soft loss": ("f1_double", {"text": "loss", "code": "code_loss"}),
}

# Colours of Fig. 5.1 (matplotlib's names).
COLOURS = {
    "Binary Cross Entropy": "red",
    "F_beta metric": "cyan",
    "Soft F_beta metric": "green",
    "F_beta Soft Loss": "blue",
    "F_1 Soft loss": "orange",
    "F_1 Double Soft loss": "lawngreen",
}

# Members of the ensembles (section 4.6), in the order of the published files, which the captions of Figs. 5.15 to 5.18
# keep but for the last three (thesis: F_beta metric, double F_1, soft F_beta metric; 0.20 and 0.19 may be swapped).
MEMBERS = {
    3: ("Binary Cross Entropy", "F_beta Soft Loss", "F_1 Soft loss"),
    6: (
        "Binary Cross Entropy",
        "F_beta Soft Loss",
        "F_1 Soft loss",
        "Soft F_beta metric",
        "F_1 Double Soft loss",
        "F_beta metric",
    ),
}


def members(ensemble):
    """Rows of Table 5.1 that are members of ``NM_3``, ``NM_6``, ``IDE_3`` or ``IDE_6``."""
    return MEMBERS[int(ensemble[-1])]


# Mean weights of the Nelder-Mead ensembles (captions of Figs. 5.15 and 5.16), in the order of `MEMBERS`.
WEIGHTS = {"NM_3": (0.55, 0.22, 0.23), "NM_6": (0.20, 0.13, 0.13, 0.20, 0.13, 0.19)}
