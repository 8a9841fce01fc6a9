"""The losses of section 3.4, and two more, for Keras.

A soft loss replaces the counts of the confusion matrix by sums of probabilities (Eqs. 3.9-3.12) and looks at a whole
batch at once: its value is one number a batch, never a mean over images.  Plain losses, without warm-up or mixing.
The same quantities on whole arrays, without Keras, are in `lensdet.evaluation.metrics`.
"""

from functools import partial
from typing import Any

import keras
from keras import ops

from lensdet.data.augmentation import Tensor

# The thesis has 1e-16 (Eqs. 3.13-3.15), which vanishes beside 1 in float32; this does not, and keeps 0/0 at 0.
EPSILON = 1e-7


def soft_counts(
    y_true: Tensor, y_pred: Tensor, from_logits: bool = False, sample_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Soft true positives, false positives, false negatives and true negatives of a batch (Eqs. 3.9-3.12).

    Parameters
    ----------
    y_true : tensor
        Labels 0 or 1, (N,) or (N, 1), of a floating type.
    y_pred : tensor
        Probabilities in [0, 1], or logits, (N,) or (N, 1), of the same type.
    from_logits : bool
        Whether `y_pred` is logits.
    sample_weight : tensor, optional
        Weight of each image in the four sums, (N,) or (N, 1).

    Returns
    -------
    tuple of tensor
        Four scalars (TP, FP, FN, TN).

    Raises
    ------
    ValueError
        If a shape is neither (N,) nor (N, 1).
    """
    y, p = _vector(y_true), _vector(y_pred)
    # 1 - p as sigmoid(-z): near p = 1 the difference loses all its digits in float32, and its gradient with them.
    p, q = (ops.sigmoid(p), ops.sigmoid(-p)) if from_logits else (p, 1 - p)
    w = 1 if sample_weight is None else _vector(sample_weight)
    return ops.sum(w * y * p), ops.sum(w * (1 - y) * p), ops.sum(w * y * q), ops.sum(w * (1 - y) * q)


def f_beta_loss(tp: Tensor, fp: Tensor, fn: Tensor, beta: float) -> Tensor:
    """Soft F_beta loss (Eq. 3.19) from soft counts; with ``beta=1`` the soft F1 loss (Eq. 3.14).

    Written as ``1 - (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP + EPSILON)``: precision and recall put into Eq. 3.19
    and multiplied out, hence equal to it but for `EPSILON`, without the 0/0 on the way.  The published code has
    1e-7 in each of its three fractions.  In [0, 1]; 1 where there is no true positive.

    Parameters
    ----------
    tp, fp, fn : tensors of one shape
        Counts as from `soft_counts`, or hard ones.
    beta : float
    """
    gain = (1 + beta**2) * tp
    return 1 - gain / (gain + beta**2 * fn + fp + EPSILON)


def f1_double_loss(tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
    """Double soft F1 loss (Eq. 3.17) from soft counts: the mean of soft F1 (Eq. 3.14) of lenses and of negatives."""
    # For the negatives (Eq. 3.15) TN takes the place of TP, and the two errors change names.
    return (f_beta_loss(tp, fp, fn, 1) + f_beta_loss(tn, fn, fp, 1)) / 2


class _SoftLoss(keras.losses.Loss):
    # Half precision is too coarse for sums over a batch, whatever the network computes in.
    def __init__(self, from_logits: bool = False, name: str | None = None, dtype: str = "float32") -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras would multiply the finished loss by the weights; here they belong into the sums.
        given = (y_true, y_pred) if sample_weight is None else (y_true, y_pred, sample_weight)
        return self.call(*(ops.convert_to_tensor(x, self.dtype) for x in given))

    def call(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return self.from_counts(*soft_counts(y_true, y_pred, self.from_logits, sample_weight))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "from_logits": self.from_logits, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="lensdet")
class SoftF1(_SoftLoss):
    """Soft F1 loss (Eq. 3.14).  See `f_beta_loss`.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits (better in float32) rather than probabilities.
    name, dtype : str
        Of the loss and of its computation.

    Called with labels, predictions and perhaps sample weights, as `soft_counts` takes them; returns a scalar.
    """

    def from_counts(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return f_beta_loss(tp, fp, fn, 1)


@keras.saving.register_keras_serializable(package="lensdet")
class SoftFBeta(_SoftLoss):
    """Soft F_beta loss (Eq. 3.19), which weighs recall beta times as much as precision.  See `f_beta_loss`.

    Takes ``from_logits`` and the other arguments of `SoftF1`.
    """

    def __init__(
        self, beta: float = 0.17, from_logits: bool = False, name: str | None = None, dtype: str = "float32"
    ) -> None:
        super().__init__(from_logits, name, dtype)
        self.beta = beta

    def from_counts(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return f_beta_loss(tp, fp, fn, self.beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable(package="lensdet")
class DoubleSoftF1(_SoftLoss):
    """Double soft F1 loss (Eq. 3.17), with the arguments of `SoftF1`.  See `f1_double_loss`."""

    def from_counts(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return f1_double_loss(tp, fp, fn, tn)


@keras.saving.register_keras_serializable(package="lensdet")
class SigmoidF1(_SoftLoss):
    """sigmoidF1 (Bénédict et al. 2022, arXiv:2108.10566): soft F1 of ``sigmoid(slope * (logit + offset))``.

    With slope 1 and offset 0 it is `SoftF1`.  Predictions are logits.
    """

    def __init__(
        self, slope: float = 2.0, offset: float = 0.0, name: str | None = None, dtype: str = "float32"
    ) -> None:
        super().__init__(True, name, dtype)
        self.slope, self.offset = slope, offset

    def call(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return super().call(y_true, self.slope * (y_pred + self.offset), sample_weight)

    def from_counts(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return f_beta_loss(tp, fp, fn, 1)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "slope": self.slope, "offset": self.offset}


def make_loss(
    name: str, beta: float = 0.17, slope: float = 2.0, offset: float = 0.0, gamma: float = 2.0
) -> keras.losses.Loss:
    """The loss of an experiment, of labels and logits.

    Parameters
    ----------
    name : {"bce", "fbeta", "f1", "f1_double", "focal", "sigmoid_f1"}
        Binary cross-entropy (Eq. 3.5), soft F_beta (3.19), soft F1 (3.14), double soft F1 (3.17); beyond the thesis,
        Keras' focal loss (Lin et al. 2017) and `SigmoidF1`.
    beta : float
        Of soft F_beta.
    slope, offset : float
        Of sigmoidF1.
    gamma : float
        Of the focal loss.

    Raises
    ------
    ValueError
        If there is no loss of that name.
    """
    losses = {
        "bce": partial(keras.losses.BinaryCrossentropy, from_logits=True),
        "fbeta": partial(SoftFBeta, beta, from_logits=True),
        "f1": partial(SoftF1, from_logits=True),
        "f1_double": partial(DoubleSoftF1, from_logits=True),
        "focal": partial(keras.losses.BinaryFocalCrossentropy, gamma=gamma, from_logits=True),
        "sigmoid_f1": partial(SigmoidF1, slope, offset),
    }
    if name not in losses:
        raise ValueError(f"no loss named {name!r}; there are {', '.join(losses)}")
    return losses[name]()


def _vector(x):
    if len(x.shape) == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if len(x.shape) != 1:  # (N,) times (N, 1) would be (N, N), and (N, 2) two predictions an image
        raise ValueError(f"one value an image is needed, of shape (N,) or (N, 1), not {tuple(x.shape)}")
    return x
