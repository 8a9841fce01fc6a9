"""The engine: a network, its optimiser and its stamps on the device; one compiled call a chunk, one a validation.

The host sends rows of numbers, some 100 kB a chunk (and masks, where stamps are segmented), and receives losses and
selectors.  What must differ in training between TensorFlow and JAX stands in `_TensorFlow` and `_Jax`, nowhere else.
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lensdet import storage
from lensdet.data import augmentation, mocklens
from lensdet.data.augmentation import Tensor
from lensdet.network import checkpoints, losses, resnet
from lensdet.parameters import Parameters

PREDICT_BATCH = 128
WARM_UP = 0.02  # of all steps, with the cosine schedule


class Learner:
    """A network with its optimiser and the stamps it learns from, all on the device.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    experiment : str
        As in `lensdet.parameters.Parameters.experiments`: which loss.
    run : int
        Decides the initial weights, with the seed.
    hosts, sources : float16 arrays or tensors (n, 101, 101)
        As from `mocklens.device_bank`, of the training split; tensors, as from `on_device`, are shared.
    """

    selectors = checkpoints.SELECTORS  # what `validate` returns, and whether the best is the smallest or the largest
    made_from = ()  # fingerprints of the networks that went into it

    def __init__(self, parameters: Parameters, experiment: str, run: int, hosts: Tensor, sources: Tensor) -> None:
        p = self.parameters = parameters.model_copy(update={"learning_rate": parameters.rate(experiment)})
        self.model = resnet.resnet18(p.width, p.momentum, p.l2, precision=p.precision)  # what is kept
        self.network = self.validated = resnet.logit_model(self.model)  # what is computed
        self.loss = losses.make_loss(**p.loss(experiment))
        self._begin(hosts, sources, run)

    def _begin(self, hosts, sources, run):
        p = self.parameters
        self.optimizer = keras.optimizers.Adam(learning_rate(p), beta_1=0.9, beta_2=0.999, epsilon=1e-7)
        self.optimizer.build(self.network.trainable_variables)
        self.bank = on_device(hosts, sources)
        self._backend = {"tensorflow": _TensorFlow, "jax": _Jax}[keras.backend.backend()](self)
        self._untrained = self.get(every=True)
        self._initialise(run)

    def restart(self, run: int) -> None:
        """Begin another run: its initial weights, fresh moving averages and optimiser; what was compiled stays."""
        self.set(self._untrained)
        self._initialise(run)

    def go_on_from(self, network: keras.Model) -> None:
        """Take the weights of another network, as from `finders.load`, in the place of random ones.

        ValueError where it has another width.
        """
        self.set([keras.ops.convert_to_numpy(variable) for variable in network.variables])

    def _initialise(self, run):
        resnet.initialise(self.model, self.parameters.seed, run)
        self._backend.refresh()

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a training changes: weights, moving averages, the optimiser's moments and step.

        On JAX they lag behind: `get` has what they are now, and `set` puts it into them.
        """
        return [*self.model.variables, *self.optimizer.variables]

    def objective(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """The loss of a batch, without the L2 penalty: labels (N,) and what the network leaves (N, 1)."""
        return self.loss(labels, outputs[:, 0])

    def merged(self, bank: tuple[Tensor, ...], batch: dict[str, Tensor]) -> Tensor:
        """Stamps (N, 101, 101, 1) of a batch on the device, zero outside their masks where it has any."""
        columns = batch["stamp"], batch["source"], batch["alpha"]
        images = mocklens.merge(*bank, *columns, self.parameters.renormalise)
        return images * keras.ops.cast(batch["mask"][..., None], images.dtype) if "mask" in batch else images

    def augmented(self, bank: tuple[Tensor, ...], batch: dict[str, Tensor]) -> Tensor:
        """Merged and warped stamps (N, 101, 101, 1) of a training batch, on the device."""
        return augmentation.warp(self.merged(bank, batch), batch["warp"], self.parameters.interpolation)

    def train_chunk(self, rows: np.ndarray, warps: NDArray, masks: NDArray | None = None) -> ArrayLike:
        """Train on a chunk in batches.

        Parameters
        ----------
        rows, warps : arrays (chunk_size,) and (chunk_size, 6)
            From `mocklens.training_rows`.
        masks : bool array (chunk_size, 101, 101), optional
            From `mocklens.masker`; so for `validate` and `logits`.

        Returns
        -------
        float32 array (steps,)
            Losses of the steps, with the L2 penalty.  On JAX it is on the device, and perhaps not there yet.
        """
        return self._backend.train(_batches({**_columns(rows, masks), "warp": warps}, self.parameters.batch_size))

    def average_statistics(self, rows: np.ndarray, warps: NDArray, masks: NDArray | None = None) -> None:
        """Give batch normalisation the mean and variance that the weights of now have on some training images.

        Its moving averages are of the last steps, whose weights were others: where the rate is high, a validation with
        them measures the lag as well (Wu & Johnson 2021).  Means and variances of batches are averaged.  Training goes
        on as it would without: there each batch has its own.

        Parameters
        ----------
        rows, warps, masks
            As for `train_chunk`; whole batches.
        """
        self._backend.average(_batches({**_columns(rows, masks), "warp": warps}, self.parameters.batch_size))

    def averages(self) -> list[keras.Variable]:
        """The variables of the model that hold the averages of batch normalisation."""
        layers = [layer for layer in self.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return [variable for layer in layers for variable in layer.non_trainable_variables]

    def validate(self, rows: np.ndarray, bank: tuple[Tensor, ...], masks: NDArray | None = None) -> ArrayLike:
        """The values of `selectors` on a validation set, a float32 array as from `train_chunk`.

        Forward passes, selectors and penalty are one compiled call.  Parameters are those of `logits`.
        """
        n = len(rows)
        chosen = np.minimum(np.arange(-(-n // PREDICT_BATCH) * PREDICT_BATCH), n - 1)
        padded = _columns(rows, masks, chosen)
        if (known := self.known(rows, bank, masks)) is not None:
            padded["known"] = known[chosen]
        return self._backend.validate(rows["label"], _batches(padded, PREDICT_BATCH), bank)

    def known(
        self, rows: np.ndarray, bank: tuple[Tensor, ...], masks: NDArray | None = None
    ) -> NDArray[np.float32] | None:
        """Outputs (N, m) that no training changes, to stand behind those of `validated` on this set; or None."""
        return None

    def select(self, labels: Tensor, outputs: Tensor, penalty: float | Tensor) -> Tensor:
        """What `validate` makes of labels (n,) and outputs (B, PREDICT_BATCH, 1), those after n being padding."""
        p, n = self.parameters, labels.shape[0]
        logits = keras.ops.reshape(outputs, (-1,))[:n]
        return checkpoints.selectors(labels, logits, self.loss, p.selection_beta, penalty, p.batch_size)

    def logits(self, rows: np.ndarray, bank: tuple[Tensor, ...], masks: NDArray | None = None) -> NDArray[np.float32]:
        """Logits of rows without augmentation, float32 (N,), or (N, m) of a DE_m.

        Parameters
        ----------
        rows : structured array (N,) of dtype `mocklens.ROW`
        bank : tensors
            LRGs with contaminants, and sources, that the rows are of; as from `on_device`.
        masks : bool array (N, 101, 101), optional
        """
        return self.logits_of(self.outputs(rows, bank, masks))

    def outputs(self, rows: np.ndarray, bank: tuple[Tensor, ...], masks: NDArray | None = None) -> NDArray[np.float32]:
        """All that the network leaves of rows, float32 (N, outputs), as `logits`."""
        n, found = len(rows), []
        for i in range(0, n, PREDICT_BATCH):
            # always the same shape: one compilation, and the same sums whatever the number of rows
            part = _columns(rows, masks, np.minimum(np.arange(i, i + PREDICT_BATCH), n - 1))
            found.append(self._backend.score(self.merged(bank, part)))  # not waited for, where the backend runs ahead
        return np.concatenate(found)[:n]

    def logits_of(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits among what the network leaves, (N, 1)."""
        return outputs[:, 0]

    def get(self, every: bool = False) -> list[Tensor]:
        """The network's variables, or with ``every`` also the optimiser's: arrays that do not change any more."""
        return self._backend.get(len(self.variables) if every else len(self.model.variables))

    def set(self, values: Sequence[Tensor]) -> None:
        """Set the network's variables, or all of them, from what `get` returned; the others stay as they are."""
        self._backend.set(values)


def learning_rate(p: Parameters) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """What Adam is given: a number, or the schedule over all steps of a training."""
    if p.schedule == "constant":
        return p.learning_rate
    steps = p.chunks * (p.chunk_size // p.batch_size)
    up = max(1, round(WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(0.0, steps - up, warmup_target=p.learning_rate, warmup_steps=up)


def on_device(*arrays: ArrayLike) -> tuple[Tensor, ...]:
    """Tensors of some arrays, where the backend computes."""
    return tuple(keras.ops.convert_to_tensor(x) for x in arrays)


def _columns(rows, masks=None, chosen=slice(None)):
    found = {name: np.ascontiguousarray(rows[name][chosen]) for name in rows.dtype.names}
    return found if masks is None else {**found, "mask": masks[chosen]}


def _batches(columns, size):
    return {name: a.reshape(-1, size, *a.shape[1:]) for name, a in columns.items()}


class _TensorFlow:
    def __init__(self, learner):
        import tensorflow as tf

        gpu = bool(tf.config.list_physical_devices("GPU"))
        if not gpu:  # on a GPU XLA has no deterministic gradient of max-pooling, and stops
            tf.config.experimental.enable_op_determinism()
            # It makes one sum of several additions, as in a soft loss, whose order depends on which buffer is free to
            # be written over: another one after some ninety steps, when cheap operations are no longer queued.
            tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
        network, optimizer = learner.network, learner.optimizer
        trainable, self.learner = network.trainable_variables, learner

        def penalty():
            return tf.add_n(network.losses) if network.losses else 0.0

        @tf.function(jit_compile=gpu)  # on a CPU XLA's convolutions are the slower ones
        def step(images, labels):
            with tf.GradientTape() as tape:
                total = learner.objective(labels, network(images, training=True)) + penalty()
            optimizer.apply(tape.gradient(total, trainable), trainable)
            return total

        @tf.function
        def train(chunk):
            steps = len(chunk["label"])
            found = tf.TensorArray(tf.float32, steps)
            for i in tf.range(steps):
                batch = {name: array[i] for name, array in chunk.items()}
                found = found.write(i, step(learner.augmented(learner.bank, batch), batch["label"]))
            return found.stack()

        averages = [variable.value for variable in learner.averages()]

        @tf.function
        def average(chunk):
            steps = len(chunk["label"])
            sums = [tf.zeros_like(variable) for variable in averages]
            for i in tf.range(steps):
                for variable in averages:  # so that they leave the step with its own mean or variance alone
                    variable.assign(tf.zeros_like(variable))
                network(learner.augmented(learner.bank, {name: a[i] for name, a in chunk.items()}), training=True)
                sums = [total + variable for total, variable in zip(sums, averages, strict=True)]
            for variable, total in zip(averages, sums, strict=True):
                variable.assign(total / (steps * (1 - learner.parameters.momentum)))

        @tf.function
        def validate(labels, batches, bank):
            n = len(batches["label"])
            found = tf.TensorArray(tf.float32, n)
            for i in tf.range(n):
                batch = {name: array[i] for name, array in batches.items()}
                outputs = learner.validated(learner.merged(bank, batch), training=False)
                found = found.write(i, tf.concat([outputs, batch["known"]], -1) if "known" in batch else outputs)
            return learner.select(labels, found.stack(), penalty())

        self.train = lambda chunk: train(chunk).numpy()
        self.average = average
        self.validate = lambda labels, batches, bank: validate(tf.constant(labels), batches, bank).numpy()
        self.score = tf.function(lambda images: network(images, training=False))

    def get(self, n: int) -> list[Tensor]:
        return [v.value.numpy().copy() for v in self.learner.variables[:n]]

    def set(self, values: Sequence[Tensor]) -> None:
        for variable, value in zip(self.learner.variables[: len(values)], values, strict=True):
            variable.value.assign(value)  # Keras' own assign takes several times as long

    def refresh(self) -> None:
        """Nothing to do: the variables are the state."""


class _Jax:
    def __init__(self, learner):
        import jax

        # a network is compiled once for all runs, and for those of later processes
        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", str(storage.build_dir() / "jax"))
        network, self.learner = learner.network, learner
        self.refresh()
        train, average, validate = self._training(), self._averaging(), self._validation()
        score = jax.jit(lambda state, images: network.stateless_call(*state[:2], images, training=False)[0])

        def train_chunk(chunk):
            self.state, found = train(self.state, learner.bank, jax.device_put(chunk))
            return found

        def average_chunk(chunk):
            self.state = average(self.state, learner.bank, jax.device_put(chunk))

        self.train = train_chunk
        self.average = average_chunk
        self.validate = lambda labels, batches, bank: validate(self.state, bank, *jax.device_put((labels, batches)))
        self.score = lambda images: score(self.state, images)

    def _training(self):
        """Compiled: the state after a chunk, and the losses of its steps."""
        import jax

        learner, network, optimizer = self.learner, self.learner.network, self.learner.optimizer

        def objective(trainable, rest, bank, batch):
            with jax.default_matmul_precision("float32"):  # Keras finds the warp's coordinates by a matrix product
                images = learner.augmented(bank, batch)
            found = network.stateless_call(trainable, rest, images, training=True, return_losses=True)
            outputs, rest, penalties = found
            return learner.objective(batch["label"], outputs) + sum(penalties), rest

        @jax.jit
        def train(state, bank, chunk):  # the bank as an argument: closed over, it would become part of the program
            def step(state, batch):
                trainable, rest, moments = state
                (total, rest), gradient = jax.value_and_grad(objective, has_aux=True)(trainable, rest, bank, batch)
                trainable, moments = optimizer.stateless_apply(moments, gradient, trainable)
                return (trainable, rest, moments), total

            return jax.lax.scan(step, state, chunk)

        return train

    def _averaging(self):
        """Compiled: the state with what `Learner.average_statistics` makes of a chunk."""
        import jax

        learner, network = self.learner, self.learner.network
        averages = {id(variable) for variable in learner.averages()}
        places = [k for k, variable in enumerate(network.non_trainable_variables) if id(variable) in averages]

        @jax.jit
        def average(state, bank, chunk):
            trainable, rest, moments = state
            none = [jax.numpy.zeros_like(x) if k in places else x for k, x in enumerate(rest)]

            def step(_, batch):  # from nothing, so that it leaves the batch's own mean and variance alone
                with jax.default_matmul_precision("float32"):
                    images = learner.augmented(bank, batch)
                found = network.stateless_call(trainable, none, images, training=True)[1]
                return None, [found[k] for k in places]

            found = [x.mean(0) / (1 - learner.parameters.momentum) for x in jax.lax.scan(step, None, chunk)[1]]
            new = dict(zip(places, found, strict=True))
            return trainable, [new.get(k, x) for k, x in enumerate(rest)], moments

        return average

    def _validation(self):
        """Compiled: the selectors on a validation set."""
        import jax

        learner, network = self.learner, self.learner.network

        @jax.jit
        def validate(state, bank, labels, batches):
            own = self._of(state, learner.validated)

            def outputs(batch):
                found = learner.validated.stateless_call(*own, learner.merged(bank, batch), training=False)[0]
                return jax.numpy.concatenate([found, batch["known"]], -1) if "known" in batch else found

            first = jax.numpy.zeros((1, *network.input_shape[1:]))
            penalties = network.stateless_call(*state[:2], first, return_losses=True)[2]
            return learner.select(labels, jax.lax.map(outputs, batches), sum(penalties))

        return validate

    def get(self, n: int) -> list[Tensor]:
        """References, not copies: JAX' arrays do not change."""
        values = self._values(self.state)
        return [values[id(v)] for v in self.learner.variables[:n]]

    def set(self, values: Sequence[Tensor]) -> None:
        variables = self.learner.variables
        now = self.get(len(variables))
        for variable, value in zip(variables, [*values, *now[len(values) :]], strict=True):
            variable.assign(value)
        self.refresh()

    def _values(self, state):
        groups = zip(self._groups(), state, strict=True)
        return {id(v): x for vs, xs in groups for v, x in zip(vs, xs, strict=True)}

    def _of(self, state, network):
        """What of the state belongs to a part of the network."""
        values = self._values(state)
        return [[values[id(v)] for v in vs] for vs in (network.trainable_variables, network.non_trainable_variables)]

    def refresh(self) -> None:
        """Take the state from the Keras variables."""
        self.state = tuple([v.value for v in group] for group in self._groups())

    def _groups(self):
        network = self.learner.network
        return network.trainable_variables, network.non_trainable_variables, self.learner.optimizer.variables
