"""What a training has reached, saved so that it is taken up exactly where it was."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from lensdet import storage

if TYPE_CHECKING:
    from lensdet.network.engine import Learner


class State:
    """What a run has reached: history, the best chunk of each selector, the weights of those chunks."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []  # a row a chunk
        self.best: dict[str, tuple[float, int]] = {}  # value and chunk, by selector
        self.kept: dict[int, list[ArrayLike]] = {}  # the network's variables, by chunk
        self.seconds = 0.0

    def add(self, row: dict[str, float], learner: "Learner") -> None:
        """Take in a chunk, and fetch the network's variables where it is the best for some selector.

        Parameters
        ----------
        row : dict
            Of the history: ``chunk``, and a value of each of the learner's `selectors`.
        learner : lensdet.network.engine.Learner
        """
        self.history.append(row)
        weights = None  # fetched once, if any selector wants them
        for selector, direction in learner.selectors.items():
            sign = 1 if direction == "max" else -1
            value, _ = self.best.get(selector, (None, -1))
            # a number is better than none; of several that are none the first is kept, and patience runs out
            if value is None or np.isnan(value) > np.isnan(row[selector]) or sign * row[selector] > sign * value:
                self.best[selector] = (row[selector], row["chunk"])
                weights = learner.get() if weights is None else weights
                self.kept[row["chunk"]] = weights
        wanted = {chunk for _, chunk in self.best.values()}
        self.kept = {chunk: weights for chunk, weights in self.kept.items() if chunk in wanted}

    def stopped(self, patience: int) -> bool:
        """Whether the validation loss has not become better for ``patience`` chunks (section 4.4)."""
        return bool(self.history) and len(self.history) - 1 - self.best["loss"][1] >= patience

    def save(self, path: Path, learner: "Learner", seconds: float) -> None:
        """Save it, and all variables of the learner, atomically; ``seconds`` is the time that the run has taken."""
        arrays = {f"now/{i}": np.asarray(v) for i, v in enumerate(learner.get(every=True))}
        arrays |= {f"kept/{chunk}/{i}": w for chunk, weights in self.kept.items() for i, w in enumerate(weights)}
        text = json.dumps({"history": self.history, "best": self.best, "seconds": seconds})
        with storage.atomic(path) as beside:
            np.savez(beside, text=np.array(text), **arrays)

    @classmethod
    def load(cls, path: Path, learner: "Learner") -> Self:
        """The state that was saved, put into the learner; a fresh one where there is none."""
        state = cls()
        if not path.exists():
            return state
        with np.load(path, allow_pickle=False) as file:
            text = json.loads(str(file["text"]))
            state.history, state.seconds = text["history"], text["seconds"]
            state.best = {selector: tuple(pair) for selector, pair in text["best"].items()}
            learner.set([file[f"now/{i}"] for i in range(len(learner.variables))])
            n = len(learner.model.variables)
            for _, chunk in state.best.values():
                state.kept[chunk] = [file[f"kept/{chunk}/{i}"] for i in range(n)]
        return state
