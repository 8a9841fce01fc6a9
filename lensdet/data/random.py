"""Counter-based random streams, keyed by what they are for."""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator that depends on its key alone, not on what was drawn before or by which worker.

    Parameters
    ----------
    seed : int
        The seed of the survey or of the training.
    purpose : str
        What the draws are for, such as ``"lrg/noise"``: streams of different purposes are independent.
    *key : int
        Which one: an object's id; a run and a chunk.

    Returns
    -------
    numpy.random.Generator
        On Philox 4x64 (Salmon et al. 2011), a counter-based generator.
    """
    words = [seed, zlib.crc32(purpose.encode()), len(key), *(int(k) for k in key)]  # SeedSequence drops trailing zeros
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
