"""Controls of grading: known lenses of the list, and arcs of simulated sources painted on other galaxies of it.

How many of them a grader finds is his completeness.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet import storage
from lensdet.data import bank, mocklens, stamps
from lensdet.data.random import stream
from lensdet.parameters import resolve
from lensdet.survey import headers, hosts
from lensdet.survey.headers import Wanted
from lensdet.survey.psf import measured_psf

KINDS = {"known": "known lens", "painted": "painted arc"}  # as they are asked for, and as they are called
PAINTED = KINDS["painted"]
SOURCES = 2_000_000_000  # the first of the ids of sources that are painted: no training has them
STAMPS_OF_PSF = 200

Stamp = Callable[[str], NDArray[np.float32]]


def check_controls(asked: Mapping[str, int], grader: str, begun: Iterable[Mapping[str, Any]] | None) -> None:
    """Raise ValueError where numbers of ``known`` and ``painted`` cannot be, or are others than a grader began with."""
    if set(asked) - set(KINDS) or not all(isinstance(n, int) and n >= 0 for n in asked.values()):
        raise ValueError(f"controls {asked}: numbers of known and painted, as {{'known': 10, 'painted': 20}}")
    if begun is None:
        return
    there = Counter(of["kind"] for of in begun)
    if any(there[kind] != asked.get(name, 0) for name, kind in KINDS.items()):
        raise ValueError(f"controls: {grader} began with {dict(there) or 'none'}; leave controls out to go on, or "
                         "take another name of grader")  # fmt: skip


def known_lenses(table: pd.DataFrame, n: int, seed: int) -> list[dict[str, Any]]:
    """Controls: n lenses of the ranked list, as text, that ``published`` matched; ValueError where it has fewer.

    Each is a dict of ``id``, ``kind`` and ``host``, which is the same id.
    """
    matched = table["id"][table["match"] != ""].to_numpy(object) if "match" in table else []
    if len(matched) < n:
        raise ValueError(f"controls: {n} known lenses, but {len(matched)} of the list are matched with any; rank "
                         "with -p published FILE, or ask for fewer")  # fmt: skip
    some = stream(seed, "grading/known").permutation(matched)[:n]
    return [{"id": name, "kind": KINDS["known"], "host": name} for name in some]


def painted_arcs(
    table: pd.DataFrame, n: int, seed: int, graded: int | None, stamp: Stamp, wanted: Wanted
) -> list[dict[str, Any]]:
    """Controls: arcs of simulated sources that are painted on galaxies of the list, n of them.

    Hosts are galaxies without flag or match, if there are enough those that are not graded themselves.

    Parameters
    ----------
    table : pandas.DataFrame
        The ranked list, as text.
    n, seed : int
    graded : int or None
        Candidates, by rank, that are graded; None for all.
    stamp : function
        Pixels of a candidate of the list.
    wanted : Wanted

    Returns
    -------
    list of dict
        ``id``, ``kind``, ``host``, ``source`` (of the simulation), ``alpha`` (peak over that of the host), ``psf``
        (arcsec, FWHM; None where no star shows it) and ``einstein_radius`` (arcsec).

    Raises
    ------
    ValueError
        There are not so many galaxies.
    """
    plain = (table.filter(["flag", "match"]) == "").all(axis=1).to_numpy()
    rng = stream(seed, "grading/painted")
    hosts_of = rng.permutation(table["id"][plain & (np.arange(len(table)) >= (graded or 0))].to_numpy(object))
    hosts_of = hosts_of if len(hosts_of) >= n else rng.permutation(table["id"][plain].to_numpy(object))
    if len(hosts_of) < n:
        raise ValueError(f"controls: {n} painted arcs, but the list has {len(hosts_of)} galaxies without flag or match")
    with headers.quiet():
        some = np.array([stamp(name) for name in hosts_of[:STAMPS_OF_PSF]])
    try:
        psf = round(float(measured_psf(some, wanted.pixel_scale).fwhm), 2)
    except ValueError:
        psf = None
    p = _parameters(psf, wanted)
    made = []
    for k, host in enumerate(hosts_of[:n]):
        source = SOURCES + (seed % 100_000) * 1000 + k
        truth = bank.simulated("source", source, p)[1]
        arc = {"kind": PAINTED, "host": host, "source": source, "psf": psf}
        arc |= {"alpha": round(float(rng.uniform(*p.alpha)), 4), "einstein_radius": round(truth["einstein_radius"], 3)}
        made.append({"id": f"painted/{storage.digest(arc)}", **arc})  # two graders' arcs are not taken for one
    return made


def with_arc(pixels: NDArray[np.float32], control: Mapping[str, Any], wanted: Wanted) -> NDArray[np.float32]:
    """A host's pixels with its arc, as a control of `painted_arcs` says."""
    light = _light(control["source"], control["psf"], wanted) * np.ptp(pixels)
    return mocklens.added(pixels, light, np.float32(control["alpha"]))


def _parameters(psf, wanted):
    """Of the broad survey at the scale and around the PSF of the stamps."""
    p = resolve({"simulation": "broad", "renormalise": True})
    return hosts.around(p, wanted, psf) if psf else p.model_copy(update={"simulated_scale": wanted.pixel_scale})


@lru_cache(64)
def _light(source, psf, wanted):
    return stamps.normalise(bank.simulated("source", source, _parameters(psf, wanted))[0])
