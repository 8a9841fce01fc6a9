"""Negatives of the broad survey, by named class: what makes a stamp one that a finder must not take for a lens."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = {"empty": 1.0}


class Structure(NamedTuple):
    """What is added to a galaxy, or put in its place."""

    kind: str
    light: NDArray | float = 0.0  # (101, 101), unconvolved; 1 is the galaxy's peak after the PSF
    host: float = 1.0  # brightness of the central galaxy; 0 where there is none
    brightness: float = 1.0  # peak of the whole over that drawn for the galaxy; small for faint sources
    defect: Callable[[NDArray], NDArray] = staticmethod(lambda pixels: pixels)  # of the detector or the reduction


def draw(rng: np.random.Generator, galaxy: dict[str, float], psf: NDArray, scale: float) -> Structure:
    """A contaminant around (or in the place of) a galaxy."""
    return Structure("empty", host=0.0)
