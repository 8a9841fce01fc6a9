"""Which stamps of the test set notebook 01 shows, by rule."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CLEAR = (1.5, 2.5)  # Einstein radii in arcsec of a clear case
AROUND = (1.5, 6.0)  # arcsec from the centre, where a contaminant looks like a lens
PIXEL = 0.2  # arcsec


def clear_lens(truth: pd.DataFrame) -> int:
    """Index of the mock lens with the largest area above the noise, of those with an Einstein radius in `CLEAR`."""
    lenses = truth[truth["label"] == 1]
    clear = lenses[lenses["einstein_radius"].between(*CLEAR)]
    return int((clear if len(clear) else lenses)["area_fraction"].idxmax())


def bright_surroundings(images: NDArray, kinds: pd.Series, n: int) -> NDArray[np.int64]:
    """Indices of the n contaminants with the brightest surroundings, each of another kind where there are as many.

    Parameters
    ----------
    images : array (N, rows, columns)
    kinds : Series of N
    n : int
    """
    y, x = np.indices(images.shape[1:])
    radius = PIXEL * np.hypot(x - (images.shape[2] - 1) / 2, y - (images.shape[1] - 1) / 2)
    light = images[:, (radius > AROUND[0]) & (radius < AROUND[1])].mean(1)
    order = np.argsort(-light, kind="stable")
    different = (~kinds.iloc[order].duplicated()).to_numpy()
    return order[np.argsort(~different, kind="stable")[:n]]
