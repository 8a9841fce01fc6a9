"""DE_m, the network of an input-dependent ensemble (sections 3.6.2 and 4.6): which member is closest to the label?

It looks at a stamp and leaves one logit for each member; their softmax weighs the members' predictions (Eq. 3.23).
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from lensdet.data.augmentation import Tensor
from lensdet.evaluation.metrics import Protocol
from lensdet.network import resnet
from lensdet.network.engine import Learner
from lensdet.parameters import Parameters

ops = keras.ops
SELECTORS = {"loss": "min", "accuracy": "max"}  # the checkpoints of the text protocol and of the code protocol


def closest(labels: Tensor, logits: Tensor, protocol: Protocol = "text") -> Tensor:
    """The member whose prediction is closest to the label.

    Parameters
    ----------
    labels : tensor or array (N,)
    logits : float32 tensor or array (N, m)
        Of the members.
    protocol : {"text", "code"}
        text: by logit, which does not saturate.  code: by probability in float32, as the published runs had it, where
        several are often exactly 0 or 1.  The first of those that tie.

    Returns
    -------
    int tensor (N,)
    """
    scores = ops.sigmoid(logits) if protocol == "code" else logits
    return ops.where(ops.convert_to_tensor(labels) > 0, ops.argmax(scores, -1), ops.argmin(scores, -1))


class DynamicEnsembler(Learner):
    """DE_m and its members, frozen: one network on the device that leaves DE_m's logits, then the members'.

    Training is that of a `engine.Learner`, without augmentation; the targets are made from the members' logits
    in the compiled step, and nothing of the members is changed or kept.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        From `lensdet.parameters.Parameters.dynamic`.
    members : list of keras.Model
        As from `training.load_network`.
    run : int
        Decides the initial weights, with the seed.
    hosts, sources : float16 arrays or tensors (n, 101, 101)
        As from `mocklens.device_bank`, of the training split.
    """

    selectors = SELECTORS

    def __init__(
        self, parameters: Parameters, members: Sequence[keras.Model], run: int, hosts: Tensor, sources: Tensor
    ) -> None:
        p, self.m = parameters, len(members)
        self.parameters = parameters
        self.model = resnet.resnet18(p.width, p.momentum, p.l2, self.m, "softmax", p.precision)
        stamp = self.model.input
        frozen = [resnet.logit_model(member, f"member_{i}") for i, member in enumerate(members)]
        for member in frozen:
            member.trainable = False  # batch normalisation too then keeps its averages, and uses them
        self.validated, self._known = resnet.logit_model(self.model), (None, None)
        outputs = [self.validated(stamp), *(member(stamp) for member in frozen)]
        self.network = keras.Model(stamp, ops.concatenate(outputs, axis=-1), name=f"DE_{self.m}")
        self._begin(hosts, sources, run)

    def augmented(self, bank: tuple[Tensor, ...], batch: dict[str, Tensor]) -> Tensor:
        """Merged stamps (N, 101, 101, 1) of a training batch, as they are."""
        return self.merged(bank, batch)

    def objective(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """Categorical cross-entropy of labels (N,) and what the network leaves, (N, 2 m)."""
        target = closest(labels, outputs[:, self.m :], self.parameters.protocol)
        return ops.mean(keras.losses.sparse_categorical_crossentropy(target, outputs[:, : self.m], from_logits=True))

    def known(self, rows: np.ndarray, bank: tuple[Tensor, ...], masks: NDArray | None = None) -> NDArray[np.float32]:
        """The members' logits (N, m), computed once for the same rows: on a frozen set they do not change."""
        if self._known[0] != (key := rows.tobytes()):
            self._known = key, self.outputs(rows, bank, masks)[:, self.m :]
        return self._known[1]

    def select(self, labels: Tensor, outputs: Tensor, penalty: float | Tensor) -> Tensor:
        """Loss, and the share of images for which the closest member is named, on a validation set."""
        outputs = ops.reshape(outputs, (-1, 2 * self.m))[: labels.shape[0]]
        target = closest(labels, outputs[:, self.m :], self.parameters.protocol)
        named = ops.cast(ops.argmax(outputs[:, : self.m], -1), "int32") == ops.cast(target, "int32")
        return ops.stack([self.objective(labels, outputs), ops.mean(ops.cast(named, "float32"))])

    def logits_of(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """DE_m's own logits (N, m) among what the network leaves."""
        return outputs[:, : self.m]
