"""What a checkpoint is selected by, under both protocols (section 3.5): `keras.ops`, so that it runs on the device.

The scores of the tables, in NumPy and float64, are in `lensdet.evaluation.metrics`.
"""

import math
from collections.abc import Callable

import numpy as np
from keras import ops

from lensdet.data.augmentation import Tensor
from lensdet.evaluation.metrics import OF_THE_MEAN
from lensdet.network.losses import f_beta_loss, soft_counts

# What a training can be selected by, and whether the best value is the smallest or the largest; see `selectors`.
SELECTORS = {
    "loss": "min",
    "f_beta": "max",
    "soft_f_beta": "max",
    "code_loss": "min",
    "code_f_beta": "max",
    "code_accuracy": "max",
}


def mean_f_beta(labels: Tensor, logits: Tensor, beta: float = 0.17) -> Tensor:
    """Mean of F_beta over thresholds, the stand-in for the area under its curve (Eq. 3.21).

    Eq. 3.21 sums S + 1 terms and divides by S; like the published code this is the mean over S = 50 thresholds,
    `metrics.OF_THE_MEAN`, so that a perfect model has 0.99.

    Parameters
    ----------
    labels, logits : float32 tensors (N,)

    Returns
    -------
    scalar tensor
    """
    odds = OF_THE_MEAN / (1 - OF_THE_MEAN)
    limits = np.log(odds).astype(np.float32)[:, None]  # of the logit, which does not saturate
    accepted = ops.cast(logits >= limits, "float32")  # (S, N)
    tp, fp = ops.sum(accepted * labels, -1), ops.sum(accepted * (1 - labels), -1)
    return ops.mean(1 - f_beta_loss(tp, fp, ops.sum(labels) - tp, beta))


def selectors(
    labels: Tensor,
    logits: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    beta: float = 0.17,
    l2_penalty: float | Tensor = 0.0,
    batch_size: int = 64,
) -> Tensor:
    """What a checkpoint can be selected by, under both protocols, from the logits of a validation set.

    ``text``: the training loss, Eq. 3.21 and the soft F_beta score (section 3.5.2), each on the whole set at once.
    ``code``: means over the batches that the published runs saw, which were in order (lenses first) and so nearly
    all of one class.  There soft F1, soft F_beta and the F_beta metric are constant on batches of negatives, and
    selection is almost blind to false positives.  Its loss includes the L2 penalty; what it called soft F_beta was
    the accuracy.

    Parameters
    ----------
    labels, logits : float32 tensors (N,)
        Lenses first, then negatives.
    loss : callable
        The loss in training, of labels and logits, from `losses.make_loss`.
    beta : float
        Of the F_beta selectors.
    l2_penalty : float or scalar tensor
        The L2 term of the training loss, for ``code_loss``.
    batch_size : int
        Images in a batch, for ``code``; the last may be smaller and weighs as much.

    Returns
    -------
    float32 tensor (6,)
        The values of `SELECTORS`, in that order; all not-a-number where a logit is.
    """
    starts = range(0, labels.shape[0], batch_size)
    batches = [(labels[i : i + batch_size], logits[i : i + batch_size]) for i in starts]

    def over_batches(score):
        return ops.mean(ops.stack([score(y, z) for y, z in batches]))

    tp, fp, fn, _ = soft_counts(labels, logits, from_logits=True)
    values = [
        loss(labels, logits),
        mean_f_beta(labels, logits, beta),
        1 - f_beta_loss(tp, fp, fn, beta),
        over_batches(loss) + l2_penalty,
        over_batches(lambda y, z: mean_f_beta(y, z, beta)),
        over_batches(lambda y, z: ops.mean(ops.cast((z > 0) == (y > 0), "float32"))),  # Keras' accuracy: p > 0.5
    ]
    return ops.where(ops.any(ops.isnan(logits)), math.nan, ops.stack(values))
