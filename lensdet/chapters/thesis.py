"""The published numbers of the thesis, its figures, tables and claims, as data.

``(mean, spread)`` over about ten runs; the spread is the standard deviation with n, not n - 1, of single runs on one
test set of 551 lenses and 551 negatives.  F_beta, precision and recall are in truth at p = 0.49 with beta^2 = 0.03,
the accuracy of Table 5.1 at p > 0.5 (`metrics.PROTOCOLS`, ``code``).
"""

from typing import NamedTuple

from lensdet.experiments import (
    BCE,
    BY_F_BETA,
    BY_SOFT_F_BETA,
    ENSEMBLES,
    F_1,
    F_1_DOUBLE,
    F_BETA,
    MAX_TREE,
    NETWORKS,
)


def _table(rows):
    metrics = ("accuracy", "f_beta", "precision", "recall")
    return {row: dict(zip(metrics, values, strict=True)) for row, values in rows.items()}


# Table 5.1 (section 5.1): losses and model selection.
TABLE_5_1 = _table(
    {
        BCE: ((0.937, 0.005), (0.947, 0.006), (0.948, 0.007), (0.924, 0.016)),
        BY_F_BETA: ((0.929, 0.005), (0.930, 0.009), (0.930, 0.009), (0.927, 0.013)),
        BY_SOFT_F_BETA: ((0.935, 0.005), (0.947, 0.009), (0.948, 0.009), (0.921, 0.014)),
        F_BETA: ((0.849, 0.008), (0.969, 0.007), (0.979, 0.008), (0.713, 0.014)),
        F_1: ((0.892, 0.015), (0.854, 0.029), (0.852, 0.030), (0.951, 0.015)),
        F_1_DOUBLE: ((0.917, 0.008), (0.927, 0.012), (0.927, 0.012), (0.904, 0.013)),
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
TABLE_5_3 = _table({MAX_TREE: ((0.898, 0.008), (0.918, 0.014), (0.919, 0.015), (0.874, 0.015))})

# Colours of Fig. 5.1 (matplotlib's names), which `figure_5_1` draws with where it is given them.
COLOURS = {
    BCE: "red",
    BY_F_BETA: "cyan",
    BY_SOFT_F_BETA: "green",
    F_BETA: "blue",
    F_1: "orange",
    F_1_DOUBLE: "lawngreen",
}

# Mean weights of the Nelder-Mead ensembles (captions of Figs. 5.15 and 5.16), in the order of
# `experiments.MEMBERS`.
WEIGHTS = {"NM_3": (0.55, 0.22, 0.23), "NM_6": (0.20, 0.13, 0.13, 0.20, 0.13, 0.19)}


class Shown(NamedTuple):
    """A figure or table of the thesis, and where ours comes from."""

    title: str  # in our own words
    notebook: str | None  # number of the notebook that draws it; None for an illustration of others
    outside: str = ""  # why an illustration of others is not drawn


# Every figure of the thesis by number; ours is the file fig_5_1 for Figure 5.1, drawn by the function figure_5_1.
FIGURES = {
    "1.1": Shown("Galaxies of five shapes", None, "an illustration with images of Galaxy Zoo 2, not of this work"),
    "1.2": Shown("Three known lenses (the thesis: in gri colour)", "01"),
    "2.1": Shown("A lens with long arcs", None, "a photograph of the Hubble Space Telescope (ESA/Hubble, NASA)"),
    "3.1": Shown("A convolutional network, schematically", "02"),
    "3.2": Shown("A residual block", "02"),
    "4.1": Shown("An LRG, a lensed source, and the mock lens that they make", "01"),
    "4.2": Shown("Three contaminants", "01"),
    "4.3": Shown("The layers of ResNet18", "02"),
    "5.1": Shown("F_beta, precision and recall against the threshold, six models", "02"),
    "5.2": Shown("Predictions on the test set, six models", "02"),
    "5.3": Shown("Grad-CAM at add_4 to add_7: a true positive", "03"),
    "5.4": Shown("Grad-CAM at add_4 to add_7: a true negative", "03"),
    "5.5": Shown("Grad-CAM at add_4 to add_7: a true negative whose maps are empty", "03"),
    "5.6": Shown("Grad-CAM at add_4 to add_7: a spiral that is taken for a lens", "03"),
    "5.7": Shown("Grad-CAM at add_4 to add_7: a faint arc that is missed", "03"),
    "5.8": Shown("Grad-CAM at add_4 to add_7: a lens among neighbours that is missed", "03"),
    "5.9": Shown("Lenses found by Einstein radius and alpha, Binary Cross Entropy", "04"),
    "5.10": Shown("Lenses found and missed by the area above the noise, Binary Cross Entropy", "04"),
    "5.11": Shown("Lenses found by Einstein radius and alpha, F_beta Soft Loss", "04"),
    "5.12": Shown("Lenses found and missed by the area above the noise, F_beta Soft Loss", "04"),
    "5.13": Shown("Lenses found by Einstein radius and alpha, F_1 Soft loss", "04"),
    "5.14": Shown("Lenses found and missed by the area above the noise, F_1 Soft loss", "04"),
    "5.15": Shown("F_beta against the threshold, NM_3", "05"),
    "5.16": Shown("F_beta against the threshold, NM_6", "05"),
    "5.17": Shown("F_beta against the threshold, IDE_3", "05"),
    "5.18": Shown("F_beta against the threshold, IDE_6", "05"),
    "5.19": Shown("A mock lens before and after Max-Tree segmentation", "06"),
    "5.20": Shown("F_beta against the threshold, Max-Tree segmentation", "06"),
    "7.1": Shown("Predictions on the test set, Binary Cross Entropy", "02"),
    "7.2": Shown("Predictions on the test set, F_beta metric", "02"),
    "7.3": Shown("Predictions on the test set, Soft F_beta metric", "02"),
    "7.4": Shown("Predictions on the test set, F_beta Soft Loss", "02"),
    "7.5": Shown("Predictions on the test set, F_1 Soft loss", "02"),
    "7.6": Shown("Predictions on the test set, F_1 Double Soft loss", "02"),
    "7.7": Shown("Grad-CAM at add_4 to add_7: true positive", "03"),
    "7.8": Shown("Grad-CAM at add_4 to add_7: true positive", "03"),
    "7.9": Shown("Grad-CAM at add_4 to add_7: true positive", "03"),
    "7.10": Shown("Grad-CAM at add_4 to add_7: true negative", "03"),
    "7.11": Shown("Grad-CAM at add_4 to add_7: true negative", "03"),
    "7.12": Shown("Grad-CAM at add_4 to add_7: true negative", "03"),
    "7.13": Shown("Grad-CAM at add_4 to add_7: true negative", "03"),
    "7.14": Shown("Grad-CAM at add_4 to add_7: true negative", "03"),
    "7.15": Shown("Grad-CAM at add_4 to add_7: false positive", "03"),
    "7.16": Shown("Grad-CAM at add_4 to add_7: false positive", "03"),
    "7.17": Shown("Grad-CAM at add_4 to add_7: false positive", "03"),
    "7.18": Shown("Grad-CAM at add_4 to add_7: false negative", "03"),
    "7.19": Shown("Grad-CAM at add_4 to add_7: false negative", "03"),
    "7.20": Shown("Grad-CAM at add_4 to add_7: false negative", "03"),
    "7.21": Shown("Grad-CAM at add_4 to add_7: false negative", "03"),
    "7.22": Shown("Predictions against the area above the noise, Binary Cross Entropy", "04"),
    "7.23": Shown("Predictions against the Einstein radius, Binary Cross Entropy", "04"),
    "7.24": Shown("Mean prediction by Einstein radius and alpha, Binary Cross Entropy", "04"),
    "7.25": Shown("Predictions against the area above the noise, F_1 Soft loss", "04"),
    "7.26": Shown("Predictions against the Einstein radius, F_1 Soft loss", "04"),
    "7.27": Shown("Mean prediction by Einstein radius and alpha, F_1 Soft loss", "04"),
    "7.28": Shown("Predictions against the area above the noise, F_beta Soft Loss", "04"),
    "7.29": Shown("Predictions against the Einstein radius, F_beta Soft Loss", "04"),
    "7.30": Shown("Mean prediction by Einstein radius and alpha, F_beta Soft Loss", "04"),
}

# Every table likewise: the file table_5_1, and the function table_5_1.
TABLES = {
    "3.1": Shown("The confusion matrix", "02"),
    "5.1": Shown("Losses and selection: accuracy, F_beta, precision, recall", "02"),
    "5.2": Shown("Ensembles: accuracy, F_beta, precision, recall", "05"),
    "5.3": Shown("After Max-Tree segmentation: accuracy, F_beta, precision, recall", "06"),
}


# Section 1.3, in short.
QUESTIONS = {
    1: "Which losses and selections are best?",
    2: "Which lensing parameters matter?",
    3: "Are ensembles better than members?",
    4: "Does segmentation help?",
}


class Claim(NamedTuple):
    """A claim of the thesis that a paired comparison can decide: sign (a - b) > 0 in a metric."""

    section: str
    a: str  # a row of Tables 5.1 to 5.3
    b: str  # such a row, `BEST_MEMBER` or `SMALLER`
    metric: str  # of `claims.METRICS`
    sign: int  # 1 if a is said to have more of it, -1 if less

    @property
    def question(self) -> int:
        """The research question that it belongs to, of `QUESTIONS`."""
        if MAX_TREE in (self.a, self.b):
            return 4
        if self.b == SMALLER:
            return 2
        return 3 if {self.a, self.b} & ENSEMBLES.keys() else 1


BEST_MEMBER = "its best member"  # of an ensemble, in the metric of the claim
LARGE_RADIUS = 2.5  # arcsec, of "Einstein radii above approximately 2.5" (section 5.3)
SMALLER = f"its recall below {LARGE_RADIUS} arcsec"  # of the same model on the other mock lenses
_HIGH = ("f_beta_high", "precision_high")


def _above_all(section, a, metric, others):
    return [Claim(section, a, b, metric, 1) for b in others if b != a]


CLAIMS = (
    # Table 5.1 and the answer to the first research question
    *_above_all("5.1, 6.1", BCE, "accuracy", NETWORKS),
    *_above_all("5.1, 6.1", F_BETA, "f_beta", NETWORKS),
    *_above_all("5.1, 6.1", F_BETA, "precision", NETWORKS),
    *_above_all("5.1, 6.1", F_1, "recall", NETWORKS),
    # Figures 5.1 and 5.2: soft losses push predictions to 0 and 1, so that their curves are flat
    *(Claim("5.1, 5.6", soft, BCE, "saturated", 1) for soft in (F_BETA, F_1, F_1_DOUBLE)),
    *(Claim("5.1, 5.6", soft, BCE, "f_beta_over_thresholds", -1) for soft in (F_BETA, F_1, F_1_DOUBLE)),
    # what the precision of one and the recall of the other cost
    Claim("5.1, 5.3", F_BETA, BCE, "recall", -1),
    Claim("5.3", F_BETA, BCE, "false_positive_rate", -1),
    Claim("5.3", F_1, BCE, "false_positive_rate", 1),
    # ensembles at high thresholds, and at others
    *(Claim("5.4, 6.1", e, BEST_MEMBER, metric, 1) for e in ("NM_3", "NM_6") for metric in _HIGH),
    *(claim for metric in _HIGH for claim in _above_all("5.4, 6.1", "NM_6", metric, TABLE_5_2)),
    *(Claim("5.4", e, BEST_MEMBER, "f_beta_low", -1) for e in ("NM_3", "NM_6")),
    # no ensemble has the highest value of anything at p = 0.5
    *(Claim("5.4, 6.1", best, ensemble, metric, 1)
      for metric, best in (("accuracy", BCE), ("f_beta", F_BETA), ("precision", F_BETA), ("recall", F_1))
      for ensemble in TABLE_5_2),
    # input-dependent ensembles beside Nelder-Mead
    *(Claim("5.4", f"IDE_{m}", f"NM_{m}", metric, sign)
      for metric, sign in (("f_beta", -1), ("precision", -1), ("recall", 1), ("f_beta_over_thresholds", -1))
      for m in (3, 6)),
    Claim("5.4", "IDE_6", "IDE_3", "f_beta_over_runs", -1),
    # Max-Tree segmentation does not help
    *(Claim("5.5, 6.1", BCE, MAX_TREE, metric, 1) for metric in ("accuracy", "f_beta", "precision", "recall")),
    # said of soft F_1, beside its accuracy below that of cross-entropy above; Table 5.1 has soft F_beta lower still
    *(Claim("5.3", F_1, row, "accuracy", -1) for row in NETWORKS if row not in (BCE, F_1)),
    Claim("5.3", F_BETA, SMALLER, "recall_large", 1),
    # of checkpoints that are selected by a metric: they have more of it on the validation set, by construction, and are
    # said not to on the test set; contradicted where they have
    Claim("5.6", BY_F_BETA, BCE, "mean_f_beta", -1),
    Claim("5.6", BY_SOFT_F_BETA, BCE, "soft_f_beta", -1),
)  # fmt: skip


class Unpaired(NamedTuple):
    """A claim that no paired comparison decides, and where it is looked into."""

    section: str
    words: str
    notebook: str


UNPAIRED = (
    Unpaired("5.6", "selection by F_beta or soft F_beta does as well as by loss (equal: no sign to test)", "02"),
    Unpaired("1.3", "segmentation shortens the training (asked, and not answered)", "06"),
    Unpaired("5.2, 6.1", "networks look at the arcs, and ignore neighbours", "03"),
    Unpaired("5.6", "empty heat maps come from a product of feature maps, and more often from soft losses", "03"),
    Unpaired("5.3, 6.1", "low alpha and a small area above the noise explain most misses, Einstein radii fewer", "04"),
    Unpaired("5.3", "no lens is missed above an area of 0.043 (BCE), 0.074 (F_beta) and 0.017 (F_1)", "04"),
    Unpaired("5.6", "the bumps in the curves of NM_3 and NM_6 come from weighing members that are saturated", "05"),
)
