"""A study: the runs of some parameters, and what they say of frozen sets.  Notebooks hold one."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lensdet import runs
from lensdet.data import bank, frozen_sets
from lensdet.evaluation import statistics
from lensdet.evaluation.metrics import Protocol
from lensdet.evaluation.scores import Scores, models
from lensdet.experiments import Experiment
from lensdet.parameters import Parameters, resolve
from lensdet.runs import Run


class Study:
    """The runs of some parameters.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
    key : str, optional
        Eight hexadecimal digits that name the data, where they are known already: of a folder of stamps all pixels
        have to be read for them.
    """

    def __init__(self, parameters: Parameters, key: str | None = None) -> None:
        self.parameters = parameters
        if key is not None:
            self.key = key

    @cached_property
    def key(self) -> str:
        """Eight hexadecimal digits that name the data."""
        return bank.data_key(self.parameters)

    def changed(self, **values: Any) -> "Study":
        """A study with some other parameters, such as ``protocol="code"``; of other data where those decide them.

        Raises
        ------
        ParameterError
            As `parameters.resolve`.
        """
        old, new = self.parameters, resolve({**self.parameters.model_dump(), **values})
        same = (old.data, old.survey_key()) == (new.data, new.survey_key())
        return Study(new, self.key if same else None)

    @property
    def models(self) -> dict[str, Experiment]:
        """Its networks by name: the rows of Table 5.1 in the thesis' order, then what is beyond."""
        return models(self.parameters)

    def train_missing(self, experiments: list[str] | None = None) -> None:
        """Train the runs that are not there yet: `training.train_missing`, which has more to choose."""
        from lensdet.network import training  # with Keras, which what is read here does not need

        training.train_missing(self.parameters, experiments=experiments)

    def runs(self, loss: str) -> list[Run]:
        """The complete runs of a loss."""
        return runs.complete_runs(self.parameters, loss, self.key)

    def scores(self, model: str, name: str = "test", protocol: Protocol | None = None) -> Scores | None:
        """What the complete runs of a model say of a frozen set; None without a run.

        A run that diverged (some logit of the calibration or test set is not finite) is named and left out, of all
        sets.

        Parameters
        ----------
        model : str
            Of `models`.
        name : {"validation", "calibration", "test", "large"}
        protocol : {"text", "code"}, optional
            Which checkpoint to take; without it, that of the parameters.
        """
        network = self.models[model]
        selector = network.checkpoint[protocol or self.parameters.protocol]
        labels, logits, numbers = None, [], []
        for run in self.runs(network.loss):
            sets = {each: run.logits(selector, each) for each in {"calibration", "test", name}}
            if not all(np.isfinite(found).all() for _, found in sets.values()):
                print(f"{model}: run {run.number} diverged (logits that are not finite) and is left out")
                continue
            labels, found = sets[name]
            logits.append(found)
            numbers.append(run.number)
        return Scores(labels, np.stack(logits), np.array(numbers)) if logits else None

    def truth(self, name: str = "test") -> pd.DataFrame:
        """The truth table of a frozen set, a row an image (see `frozen_sets.truth`).

        Raises
        ------
        FileNotFoundError
            Where it is not there, with the notebook that writes it.
        """
        if name == frozen_sets.LARGE:
            path = frozen_sets.large_folder(self.parameters) / "truth.parquet"
        else:
            path = frozen_sets.truth_folder(self.parameters, self.key) / f"{name}.parquet"
        if not path.exists():
            raise FileNotFoundError(f"{path}: no truth table; run notebooks/02_losses.py, which writes it")
        return pd.read_parquet(path)

    def resamples(self, name: str = "test", draws: int = 2000) -> np.ndarray:
        """Resamples (B, N) of a frozen set by LRG, contaminant and source, the same for every model."""
        truth = self.truth(name)
        source = truth["source_id"].fillna(-1).astype(int) if "source_id" in truth else np.full(len(truth), -1)
        stamp = pd.factorize(truth["host"] + truth["stamp_id"].astype(str))[0]
        seed = self.parameters.data_seed
        weights = statistics.resample(stamp, source.to_numpy(), truth["host"].to_numpy(), draws, seed)
        # in a set of a few stamps a draw may lose a class, and nothing is defined on it
        every = [weights @ (truth["label"] == label).to_numpy() > 0 for label in truth["label"].unique()]
        return weights[np.all(every, axis=0)]

    def median_run(self, model: str, read: Scores) -> int:
        """Index in `Scores` of the run of median validation loss; where that diverged, of the first that did not."""
        median = runs.median_run(self.runs(self.models[model].loss))
        found = np.flatnonzero(read.runs == median.number)
        return int(found[0]) if len(found) else 0
