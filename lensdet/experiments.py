"""The registry of experiments: each network and each ensemble that is compared, by the name that it has in tables.

An experiment is a network (a loss, and what its checkpoint is selected by), one on segmented stamps, or what is made of
the predictions of others.  `lensdet.chapters.thesis` has the published numbers under the same names.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal[
    "network",
    "segmented network",
    "Nelder-Mead",  # ensembles with weights of their own (section 3.6.1)
    "input-dependent",  # ensembles whose weights a network of their own finds for each image (section 3.6.2)
    "mean",  # what an ensemble is compared with: equal weights,
    "best member",  # the member of least error in each run,
    "stacking",  # logistic regression on logits,
    "oracle",  # the member that is closest to the label,
    "same loss",  # and the mean of several runs of one network
]


@dataclass(frozen=True)
class Experiment:
    """A row of a table, and what it is made of."""

    name: str
    kind: Kind
    loss: str = ""  # that a network is trained with
    checkpoint: dict[str, str] = field(default_factory=dict)  # its selector under each protocol
    members: tuple[str, ...] = ()  # names of the networks that it is made of, in order

    @property
    def size(self) -> int:
        """How many members it has; of a network 0."""
        return len(self.members)

    @property
    def losses(self) -> list[str]:
        """The losses that networks have to be trained with for it."""
        return [self.loss] if self.loss else sorted({NETWORKS[member].loss for member in self.members})


def _by_name(*experiments: Experiment) -> dict[str, Experiment]:
    return {experiment.name: experiment for experiment in experiments}


BY_LOSS = {"text": "loss", "code": "code_loss"}
BCE, BY_F_BETA, BY_SOFT_F_BETA = "Binary Cross Entropy", "F_beta metric", "Soft F_beta metric"
F_BETA, F_1, F_1_DOUBLE = "F_beta Soft Loss", "F_1 Soft loss", "F_1 Double Soft loss"
MAX_TREE = "Max-Tree Seg."

# Losses by the name that they are trained under (`lensdet.network.losses.make_loss`): the thesis', and those beyond it
# with the name that they have in tables.
LOSSES = ("bce", "fbeta", "f1", "f1_double")
FURTHER = {"focal": "Focal loss", "sigmoid_f1": "sigmoidF1 loss"}

# The rows of Table 5.1.  The first three are one training; the published runs chose the third by accuracy.
NETWORKS = _by_name(
    Experiment(BCE, "network", "bce", BY_LOSS),
    Experiment(BY_F_BETA, "network", "bce", {"text": "f_beta", "code": "code_f_beta"}),
    Experiment(BY_SOFT_F_BETA, "network", "bce", {"text": "soft_f_beta", "code": "code_accuracy"}),
    Experiment(F_BETA, "network", "fbeta", BY_LOSS),
    Experiment(F_1, "network", "f1", BY_LOSS),
    Experiment(F_1_DOUBLE, "network", "f1_double", BY_LOSS),
)

# Members of the ensembles (section 4.6), in the order of the published files, which the captions of Figs. 5.15 to 5.18
# keep but for the last three (thesis: F_beta metric, double F_1, soft F_beta metric; 0.20 and 0.19 may be swapped).
MEMBERS = {3: (BCE, F_BETA, F_1), 6: (BCE, F_BETA, F_1, BY_SOFT_F_BETA, F_1_DOUBLE, BY_F_BETA)}

# The rows of Table 5.2.
ENSEMBLES = _by_name(
    Experiment("NM_3", "Nelder-Mead", members=MEMBERS[3]),
    Experiment("NM_6", "Nelder-Mead", members=MEMBERS[6]),
    Experiment("IDE_6", "input-dependent", members=MEMBERS[6]),
    Experiment("IDE_3", "input-dependent", members=MEMBERS[3]),
)
INPUT_DEPENDENT = tuple(name for name, experiment in ENSEMBLES.items() if experiment.kind == "input-dependent")

# The row of Table 5.3.
SEGMENTED = _by_name(Experiment(MAX_TREE, "segmented network", "bce", BY_LOSS))


class Settings(NamedTuple):
    """The steps of Max-Tree segmentation (section 4.7); None (False for the Gaussian) leaves a step out.

    A component's extents dx, dy are last minus first column and row, one less than its width and height in pixels; its
    rectangularity, area / (dx dy), may thus exceed 1.
    """

    smooth: bool = True  # whether the tree is built from the image after the 5 x 5 Gaussian
    area: int | None = 45  # pixels: discard components of less
    box: tuple[int, int] | None = (3, 60)  # pixels: discard components with an extent of less, or of more
    rectangularity: float | None = 0.45  # discard components of less
    strict: bool = False  # whether to discard components at exactly one of these limits, too
    broken_rectangularity: bool = False  # discard components whose `area` limit / (dx dy) is in [0.9, 1.1]
    decay: float | None = 20.0  # pixels: alpha of Eq. 4.3
    tolerance: int | None = 20  # grey levels, inclusive: of the flood fill


# How a segmented network's stamps are segmented, by the value of the parameter ``segmentation``.
PRESETS = {
    # the thesis' prose, with the Gaussian really used
    "text": Settings(),
    # The published runs (December 2020): the tree is built from the image before the Gaussian, and the test of the
    # rectangularity takes the limit of the area for the area, which nearly all components pass.
    "code": Settings(False, 25, (3, 60), None, True, True, 20.0, 15),
}


def baseline(kind: Kind, size: int) -> str:
    """The name of what an ensemble of that many members has to beat, such as "mean of 3"."""
    return f"{kind} of {size}"


def same_loss(model: str, size: int) -> str:
    """The name of an ensemble of ``size`` runs of one network; of one run, its single runs."""
    return f"{size if size > 1 else 'single'} runs of {model}"


BASELINES = _by_name(
    *(Experiment(baseline(kind, size), kind, members=members)
      for size, members in MEMBERS.items() for kind in ("mean", "best member", "stacking", "oracle")),
    *(Experiment(same_loss(model, size), "same loss", members=(model,) * size)
      for model, network in NETWORKS.items() if network.checkpoint == BY_LOSS for size in (1, *MEMBERS)),
)  # fmt: skip
EXPERIMENTS = NETWORKS | ENSEMBLES | SEGMENTED | BASELINES
