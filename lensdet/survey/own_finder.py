"""A finder of one's own: from a folder of galaxies to a finder file and a report on whether to trust it."""

import dataclasses
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet import runs, storage
from lensdet.data import frozen_sets, mocklens
from lensdet.data.bank import Bank, open_bank
from lensdet.network import finders, training
from lensdet.network.finders import Finder
from lensdet.parameters import ParameterError, Parameters
from lensdet.runs import Run
from lensdet.survey import cutouts, files, finder_report, headers, hosts, quality
from lensdet.survey.psf import PSF, measured_psf
from lensdet.survey.ranking import advice, counted

# What makes a training one of a finder for the sky, in any profile: see `lensdet.sections.Broad`.  With a seed of its
# own: its networks go on from those of weights/broad.h5, which have seen the objects of seed 0.
BROAD = {"simulation": "broad", "renormalise": True, "contaminant_fraction": 0.5, "large_size": 0, "data_seed": 1}
LOSS = "bce"  # whose probabilities can be calibrated
NEEDS = {"simulation": "broad", "renormalise": True, "data": None, "segmentation": "none"}


class Material(NamedTuple):
    """What a finder is made from."""

    asked: cutouts.Wanted
    own: dict[str, hosts.Own]  # by class: lrg, contaminant, graded
    split: dict[str, NDArray]
    psf: PSF
    rejections: list
    unknown: list  # ids of grades that no stamp has
    classes: dict[str, str]  # of negatives, by id, as people named them

    def negatives_of(self, split: str) -> list[str]:
        """The class of each negative of a split, in their order; "" where nobody named it."""
        some = self.own["contaminant"].ids, self.split["contaminant"]
        return [self.classes.get(i, "") for i, of in zip(*some, strict=True) if of == split]


def make(parameters: Parameters, minutes: float | None = None) -> Path:
    """Read, split, simulate, train, calibrate, report; taken up where it was when it is called again.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        ``hosts`` and what `lensdet.sections.OwnFinder` has; ``runs`` networks, whose mean is the finder.
    minutes : float, optional
        Stop after this time; the same call goes on.

    Returns
    -------
    Path
        The page of the report; the finder lies beside its folder.

    Raises
    ------
    lensdet.parameters.ParameterError
        Without hosts, or with too few; names the remedy.
    ValueError, FileNotFoundError
        As `output_folder`, `start_of`, `hosts.wanted`, `psf.measured_psf`, `hosts.grades`.
    training.Busy
        Where the time was over, or another process trains the same.
    """
    p, began = parameters, time.monotonic()
    folder = output_folder(p)
    start = start_of(p)
    material = read(p)
    taken, notes, before = takes(material.asked), said(material), None
    if start:
        width, n, of = start.network.variables[0].shape[-1], min(p.runs, len(start.networks)), len(start.networks)
        p = p.model_copy(update={"width": width})
        notes.append(f"training goes on from {n} of the {of} networks of {p.start}, of width {width}")
        if alike(start.preprocessing, taken):
            before = start
        else:
            scale, band = (start.preprocessing[name] for name in ("pixel_scale", "band"))
            notes.append(f"not compared with {p.start}, which takes pixels of {scale:g} arcsec in {band}")
    print(*notes, sep="\n", flush=True)
    p = hosts.around(p, material.asked, material.psf.fwhm)
    if p.einstein_radius != parameters.einstein_radius:
        low, high = p.einstein_radius
        print(f"Einstein radii from {low:.2g} to {high:.2g} arcsec: stamps hold no larger ones", flush=True)
    bank = hosts.open_bank(folder, material.own, material.split, material.psf.fwhm, p)
    if start:
        bank = dataclasses.replace(bank, data_key=storage.digest([bank.data_key, start.digest]))
    # by all that decides them, as in results/: after a change of parameters others are trained
    name = p.experiment_name(LOSS, bank.data_key)
    run_folders = [folder / name / f"run_{number:02d}" for number in range(1, p.runs + 1)]
    learners = cache(lambda: training.learners_of(p, bank, start.networks if start else ()))
    deadline = began + 60 * minutes if minutes is not None else np.inf
    for number, run in enumerate(run_folders, 1):
        if not Run(run).is_complete:
            training.train(p, LOSS, number, bank, deadline=deadline, learners=learners(), folder=run)
        if not Run(run).is_complete:
            raise training.Busy(f"{run}: stopped after {minutes:g} minutes; the same command goes on")
    path = folder / f"{folder.name}.h5"
    about = made_from(material) | {"start": [finders.name_of(p.start), start.digest] if start else None}
    finders.export(run_folders, path, taken, limits(bank, p, material.asked.pixel_scale), about)
    found = finder_report.measure(finders.load(path), bank, "test", p, material.negatives_of("test"), before)
    return finder_report.write(folder / "report", found, f"Finder {folder.name}", notes, command(p, path))


def output_folder(parameters: Parameters) -> Path:
    """Where finder and report go, as `files.output_folder`: by default a folder of ``build/finders``."""
    p = parameters
    if not p.hosts:
        raise ParameterError("no hosts: add --hosts FOLDER, with FITS stamps of galaxies")
    if wrong := [name for name, value in NEEDS.items() if getattr(p, name) != value]:
        raise ParameterError(f"a finder of one's own learns from whole stamps and the broad survey; leave "
                             f"{', '.join(wrong)} out of -p and of the file of parameters")  # fmt: skip
    return files.output_folder(p.output, "finders", p.hosts, filter(None, (p.hosts, p.negatives)))


def start_of(parameters: Parameters) -> Finder | None:
    """The finder that training goes on from; None for ``random``.

    Raises
    ------
    lensdet.parameters.ParameterError
        Where there is none, or galaxies or simulated objects that it learnt from could be kept apart now.
    """
    p = parameters
    if p.start == "random":
        if p.profile == "own":
            raise ParameterError("start random: the profile own trains too little for that; add -p profile finder")
        return None
    try:
        start = finders.load(p.start)
    except (FileNotFoundError, ValueError) as error:
        raise ParameterError(f"start {p.start}: {error}") from None
    if not p.data_seed:
        raise ParameterError(f"data_seed 0: {p.start} may have learnt from simulated objects of this seed, of which "
                             "some would now be kept apart; leave it out")  # fmt: skip
    if "hosts" in start.made:
        raise ParameterError(f"start {p.start}: learnt from galaxies of its own, of which some could now be among "
                             "those that are kept apart; add -p start broad")  # fmt: skip
    return start


def read(parameters: Parameters) -> Material:
    """Hosts, negatives and grades; scale, band and PSF; the split of each stamp."""
    p = parameters
    if p.negatives and (p.negatives.is_relative_to(p.hosts) or p.hosts.is_relative_to(p.negatives)):
        raise ParameterError(f"negatives {p.negatives}: would be read as hosts, too, from {p.hosts}; move one folder "
                             "out of the other")  # fmt: skip
    asked = hosts.wanted(p.hosts, p)
    own, rejections = {"contaminant": hosts.NONE}, []
    own["lrg"], bad = hosts.read(p.hosts, "hosts", asked, p)
    rejections += bad
    if p.negatives:
        own["contaminant"], bad = hosts.read(p.negatives, "negatives", asked, p, every=True)
        if not own["contaminant"].ids:
            raise ParameterError(f"negatives {p.negatives}: none can be used ({counted(bad)}); give stamps of band "
                                 f"{asked.band}, as the hosts are, or leave --negatives out")  # fmt: skip
        rejections += bad
    said, classes = (hosts.grades(p.labels), hosts.classes(p.labels)) if p.labels else ({}, {})
    every = [i for some in own.values() for i in some.ids]
    if twice := [i for i in said if all(i in some.ids for some in own.values())]:
        raise ParameterError(f"labels {p.labels}: {len(twice)} ids are those of a host and of a negative, such as "
                             f"{twice[0]}; rename the files of one folder")  # fmt: skip
    own, unknown = hosts.by_grade(own, said)
    if p.labels and len(unknown) == len(said):
        example = f"of stamps that were read, such as {every[0]}" if every else "of stamps"
        raise ParameterError(f"labels {p.labels}: says of no stamp that it is a lens or none; give ids {example}, and "
                             f"as grades {', '.join(hosts.LENS)} or {', '.join(hosts.NO_LENS)}")  # fmt: skip
    n = len(own["lrg"].ids)
    if n < hosts.FEWEST:
        raise ParameterError("\n".join([f"hosts {p.hosts}: {n} galaxies can be used, {hosts.FEWEST} are needed; left "
                                        f"out: {counted(rejections)}", *advice(rejections)]))  # fmt: skip
    every = hosts.joined(list(own.values()))
    # each class of negatives is in each split, where there are enough
    kinds = [(cls, classes.get(i, "") if cls == "contaminant" else "") for cls, some in own.items() for i in some.ids]
    kinds = pd.factorize(np.array([" ".join(kind) for kind in kinds], object))[0]
    diagonal = float(np.hypot(*asked.size) * asked.pixel_scale)  # of centres that are nearer stamps overlap
    split = hosts.splits(every.ra, every.dec, every.pixels, diagonal, kinds)
    if missing := [name for name in hosts.SHARES if name not in split[:n]]:
        raise ParameterError(f"hosts {p.hosts}: {n} galaxies in too few places on the sky, so that none is left for "
                             f"{' and '.join(missing)}; stamps that show the same sky stay together.  Give galaxies "
                             "of more places")  # fmt: skip
    ends = np.cumsum([len(some.ids) for some in own.values()])[:-1]
    seen = PSF(p.psf) if p.psf else measured_psf(every.pixels, asked.pixel_scale)
    return Material(asked, own, dict(zip(own, np.split(split, ends), strict=True)), seen, rejections, unknown, classes)


def said(material: Material) -> list[str]:
    """What a user should know of what was read, lines of text."""
    m = material
    counts = {"lrg": "hosts", "contaminant": "negatives", "graded": "graded lenses"}
    lines = []
    for cls, name in counts.items():
        if n := len(m.own[cls].ids):
            of = ", ".join(f"{np.sum(m.split[cls] == s)} {s}" for s in hosts.SHARES)
            lines.append(f"{n:,} {name}: {of}")
    if named := [m.classes[i] for i in m.own["contaminant"].ids if i in m.classes]:
        lines.append(f"negatives by class: {', '.join(f'{n} {name}' for name, n in Counter(named).most_common())}")
    size, scale, band = m.asked
    lines.append(f"stamps of {size[0]} x {size[1]} pixels of {scale:g} arcsec, {band} band")
    by = f"by the narrowest of {m.psf.objects} compact objects in the stamps" if m.psf.objects else "as given"
    lines.append(f"PSF of {m.psf.fwhm:.2f} arcsec FWHM, {by}")
    if not np.isfinite(m.own["lrg"].ra).any():
        lines.append("no positions: stamps of the same sky may be in several splits; headers with a WCS would tell")
    if m.rejections:
        lines.append(f"left out: {counted(m.rejections)}")
    if m.unknown:
        lines.append(f"{len(m.unknown)} grades are of no stamp that was read, such as {m.unknown[0]}")
    return lines


def command(parameters: Parameters, path: Path) -> str:
    """The command line that ranks a survey by a finder, with what of its hosts' headers had to be given."""
    given = {name: getattr(parameters, name) for name in ("pixel_scale", "band", "plane")}
    words = [f"-p {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
    return " ".join(["lensdet rank -p survey FOLDER", "-p finders", shlex.quote(str(path)), *words])


def alike(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two finders take the same stamps: of one band, and of one scale as `headers.near` has it."""
    return one["band"] == other["band"] and headers.near(one["pixel_scale"], other["pixel_scale"])


def takes(asked: cutouts.Wanted) -> dict[str, object]:
    """What a finder's stamps have to be, as `finders.PREPROCESSING`."""
    return {**finders.PREPROCESSING, "pixel_scale": asked.pixel_scale, "band": asked.band}


def limits(bank: Bank, parameters: Parameters, scale: float) -> dict[str, float]:
    """`quality.measured_limits` of the mock lenses that a finder was calibrated on."""
    rows = frozen_sets.frozen_rows(parameters, "calibration", mocklens.sizes(bank, "calibration"))
    images = mocklens.images(bank, "calibration", rows[rows["label"] == 1], renormalise=True)
    return quality.measured_limits(images[..., 0] ** 2, scale)


def made_from(material: Material) -> dict[str, object]:
    """What a finder file says of the stamps that it was made from."""
    m = material
    counts = {cls: len(some.ids) for cls, some in m.own.items()}
    return {"hosts": counts["lrg"], "negatives": counts["contaminant"], "graded lenses": counts["graded"],
            "psf": m.psf.fwhm}  # fmt: skip


def export_together(parameters: Parameters, name: str, where: Path | None = None) -> str:
    """Write all runs of an experiment on the broad survey as one finder, ``<name>.h5``; returns what to print.

    Parameters
    ----------
    parameters : lensdet.parameters.Parameters
        Its profile and ``runs``; of its experiments the first.
    name : str
    where : Path, optional
        The folder; ``weights/`` by default.

    Raises
    ------
    lensdet.parameters.ParameterError
        Where a run is missing, or the survey is the thesis', whose stamps have limits of their own.
    """
    p, where = parameters, where or storage.root_or_here() / "weights"
    if p.simulation != "broad":
        raise ParameterError("--together is for finders on the broad survey; add -p profile finder")
    opened, loss = open_bank(p), p.experiments[0]
    complete = runs.complete_runs(p, loss, opened.data_key)
    if len(complete) < p.runs:
        raise ParameterError(f"{len(complete)} of {p.runs} runs of {loss} are complete; train them by lensdet train "
                             f"-p profile {p.profile}, or add -p runs {max(len(complete), 1)}")  # fmt: skip
    path, asked = where / f"{name}.h5", cutouts.Wanted(pixel_scale=p.simulated_scale)
    folders = [run.folder for run in complete]
    finders.export(folders, path, takes(asked), limits(opened, p, p.simulated_scale))
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(folders)} runs of {loss}"
