"""Every parameter: typed, in units, validated, with the thesis' values as defaults.

A value comes from the defaults below, then the profile, then a YAML file, then ``papermill -p``: the last wins.
In a notebook's parameter cell ``None`` means "the profile decides".
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from lensdet.experiments import ENSEMBLES, FURTHER, LOSSES, NETWORKS, PRESETS, Settings
from lensdet.profiles import PROFILES
from lensdet.sections import Broad, Candidates, Count, Fraction, OwnFinder, Positive, Sampling, Simulation, Training
from lensdet.storage import digest

# Parameters, and settings of the Max-Tree, that were added when there were results already: by name, the value that
# those had.  At that value they stay out of every key, so that each committed folder keeps its name.
ADDED_LATER: dict[str, Any] = {
    "batch_norm_images": 0,
    "renormalise": False,
}
SURVEY = 1  # version of `lensdet.data.simulation`, part of every key: raise it when a pixel changes
BROAD = 1  # likewise of `lensdet.data.broad`, part of the keys of its surveys
PATHS = "data", "real_stamps", "survey", "catalogue", "published", "output", "hosts", "negatives", "labels"
Profile = Literal["smoke", "quick", "evening", "overnight", "lite", "finder", "own", "thesis"]


class ParameterError(ValueError):
    """A parameter that does not exist or has a value that it cannot have; the message names it and the remedy."""


def _known_loss(experiment):
    name, colon, beta = experiment.strip().partition(":")
    try:
        if name not in (*LOSSES, *FURTHER) or (colon and not (name == "fbeta" and 0 < float(beta) < float("inf"))):
            raise ValueError
    except ValueError:
        near = difflib.get_close_matches(name, (*LOSSES, *FURTHER), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(repr(loss) for loss in (*LOSSES, *FURTHER))
        raise ValueError(f"an experiment is one of {known}, or 'fbeta:0.5' for another beta{hint}") from None
    return experiment.strip()


Experiment = Annotated[str, AfterValidator(_known_loss)]


class Parameters(Simulation, Broad, Sampling, Training, Candidates, OwnFinder):
    """All parameters of a notebook.  Make one with `resolve`, which knows the profiles."""

    profile: Profile = Field("quick", description="how much is computed")
    protocol: Literal["text", "code"] = Field(
        "text", description="text: what the thesis describes; code: what its published runs computed"
    )
    experiments: tuple[Experiment, ...] = Field(
        LOSSES, min_length=1, description="losses to train and show; fbeta:0.5 is soft F_beta with another beta"
    )
    learning_rates: dict[Experiment, Positive] = Field(
        {}, description="by experiment, in the place of learning_rate; learning_rate alone, when given, is for all"
    )
    large_size: int = Field(
        10_000, ge=0, description="positives, and as many negatives, of a second test set, in no training's data; each "
        "network of the embedded survey is scored on it when it is trained; 0: none",
    )  # fmt: skip
    runs: Count = Field(10, description="runs of each experiment, paired: run i has the same weights and rows in all")
    ensembles: tuple[Literal["NM_3", "NM_6", "IDE_3", "IDE_6"], ...] = Field(
        tuple(ENSEMBLES), min_length=1, description="Nelder-Mead and input-dependent ensembles (section 4.6)"
    )
    dynamic_chunks: Count = Field(2000, description="chunks that the network of an input-dependent ensemble trains on")
    segmentation: Literal["none", "text", "code"] = Field(
        "none", description="of all stamps by Max-Tree (section 4.7): as described, or as the published runs had it"
    )
    maxtree_area: Count | None = Field(None, description="pixels, limit of a component's area; None: the preset's")
    maxtree_decay: Positive | None = Field(None, description="pixels, alpha of Eq. 4.3; None: the preset's")
    maxtree_tolerance: int | None = Field(None, ge=0, le=255, description="of the flood fill; None: the preset's")
    beta: float = Field(0.17, gt=0, description="of the soft F_beta loss (Eq. 3.19)")
    focal_gamma: float = Field(2.0, ge=0, description="of the focal loss; 0 is BCE")
    sigmoid_slope: float = Field(2.0, gt=0, description="of sigmoidF1, which with 1 and no offset is soft F1; a choice")
    sigmoid_offset: float = Field(0.0, description="of sigmoidF1, added to the logit")
    lens_prior: float = Field(1e-3, gt=0, lt=1, description="share of lenses in the sky that purity is stated for")
    sky_contaminants: Fraction = Field(0.8, description="share of contaminants among what is no lens in that sky")
    data: Path | None = Field(None, description="folder in the thesis' layout; without it the embedded survey")
    real_stamps: Path | None = Field(
        None, description="folder with galaxies/ and lens_candidates/ for 01, 06 and 07; default ../shared/data/cutouts"
    )
    on_bad: Literal["quarantine", "raise"] = Field("quarantine", description="what to do with an unusable FITS file")
    workers: int = Field(-1, description="processes that simulate or read stamps; -1: all cores")

    @field_validator("experiments", "ensembles", "finders", "tiles", "keep", mode="before")
    @classmethod
    def _split(cls, value):
        if not isinstance(value, str) or Path(value).expanduser().exists():  # a name may have a comma
            return (value,) if isinstance(value, str) else value
        return tuple(v.strip() for v in value.split(",") if v.strip())

    @field_validator(*PATHS, mode="before")
    @classmethod
    def _some_path(cls, value):
        if value == "":
            raise ValueError("an empty path; leave it out, or give null")
        if isinstance(value, int | float):
            raise ValueError("a name that was taken for a number: put it in quotes, or give it by papermill's -r")
        return value

    @field_validator("workers", mode="after")
    @classmethod
    def _some(cls, value):
        if value == 0:
            raise ValueError("give a number of processes, or -1 for all cores")
        return value

    @field_validator(*PATHS, "tiles", mode="after")
    @classmethod
    def _absolute(cls, value):
        if isinstance(value, tuple):
            return tuple(path.expanduser().resolve() for path in value)
        return None if value is None else value.expanduser().resolve()

    @model_validator(mode="after")
    def _one_survey(self):
        if self.survey and self.catalogue:
            raise ValueError("give either survey or catalogue and tiles, not both")
        if bool(self.catalogue) != bool(self.tiles):
            raise ValueError("a catalogue needs tiles to cut stamps from, and tiles a catalogue")
        called = [Path(name).name.removesuffix(".h5") for name in self.finders]
        if self.rank_by not in ("ensemble", *called):
            raise ValueError(f"rank_by is 'ensemble' or one of the finders {', '.join(called)}, not {self.rank_by!r}")
        return self

    @field_validator("*", mode="after")
    @classmethod
    def _ordered(cls, value):
        pair = isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str | Path)
        if pair and not value[0] <= value[1]:
            raise ValueError(f"a range goes from low to high, not {value}")
        return value

    def section(self, cls: type[BaseModel]) -> dict[str, Any]:
        """What of one section (`Simulation`, `Sampling` or `Training`) goes into a key, as `keyed`."""
        return keyed(self.model_dump(mode="json", include=set(cls.model_fields)))

    def _simulation(self):
        """What of the simulated survey goes into a key."""
        own = self.section(Simulation)
        if self.simulation == "broad":  # each range, whatever the default is: that may be another one day
            own |= {"broad": BROAD, **self.model_dump(mode="json", include=set(Broad.model_fields))}
        return own

    def bank_key(self) -> str:
        """Eight hexadecimal digits that name the pixels of the embedded survey."""
        return digest({"version": SURVEY, "data_seed": self.data_seed, **self._simulation()})

    def folder_key(self, pixels: str) -> str:
        """Eight hexadecimal digits that name a folder's stamps, by the digest of their pixels, and its frozen sets."""
        return digest({"pixels": pixels, **self.section(Sampling)})

    def simulated(self) -> dict[str, Any]:
        """What decides the embedded survey and its frozen sets, as a JSON-ready dictionary."""
        return {"version": SURVEY, **self._simulation(), **self.section(Sampling)}

    def survey_key(self) -> str:
        """Eight hexadecimal digits that name the embedded survey and its frozen sets."""
        return digest(self.simulated())

    @property
    def images(self) -> int:
        """Training images of a run, where patience does not end it before."""
        return self.chunks * self.chunk_size

    def large(self) -> dict[str, Any]:
        """What decides the large test set, as a JSON-ready dictionary: not how many stamps there are to train on."""
        simulated = {name: v for name, v in self._simulation().items() if not name.startswith("n_")}
        sampled = {"alpha": self.alpha, "contaminant_fraction": self.contaminant_fraction, "size": self.large_size}
        sampled |= {"renormalise": True} if self.renormalise else {}
        return {"version": SURVEY, "data_seed": self.data_seed, **simulated, **sampled}

    def rate(self, experiment: str) -> float:
        """The learning rate of an experiment."""
        return self.learning_rates.get(experiment, self.learning_rate)

    def loss(self, experiment: str) -> dict[str, Any]:
        """The loss of an experiment: the arguments of `losses.make_loss` that it depends on."""
        name, _, beta = experiment.partition(":")
        own = {
            "fbeta": {"beta": float(beta or self.beta)},
            "focal": {"gamma": self.focal_gamma},
            "sigmoid_f1": {"slope": self.sigmoid_slope, "offset": self.sigmoid_offset},
        }
        return {"name": name, **own.get(name, {})}

    def experiment(self, experiment: str, data_key: str) -> dict[str, Any]:
        """What decides the result of an experiment, as a dictionary; its hash names the run folder.

        An experiment is a loss, or ``IDE_3`` or ``IDE_6``: the network that weighs the members of an ensemble.
        """
        if experiment in ENSEMBLES:
            members = [NETWORKS[name] for name in ENSEMBLES[experiment].members]
            members = [[self.experiment_name(m.loss, data_key), m.checkpoint[self.protocol]] for m in members]
            own = {"loss": "closest member", "protocol": self.protocol, "members": members}
            return {**own, **self.dynamic().section(Training), "data": data_key}
        loss = self.loss(experiment)
        settings = self.maxtree()
        segmentation = {} if settings is None else {"segmentation": keyed(settings._asdict())}
        own = self.section(Training) | {"learning_rate": self.rate(experiment)}
        return {"loss": loss.pop("name"), **keyed(loss), **own, **segmentation, "data": data_key}

    def maxtree(self) -> Settings | None:
        """`maxtree.Settings` of the segmentation; None without one."""
        if self.segmentation == "none":
            return None
        own = {"area": self.maxtree_area, "decay": self.maxtree_decay, "tolerance": self.maxtree_tolerance}
        return PRESETS[self.segmentation]._replace(**{name: value for name, value in own.items() if value is not None})

    def dynamic(self) -> Self:
        """The same for the network of an input-dependent ensemble (section 4.6): its chunks, and no early stopping.

        Under either protocol it is trained in batches of ``batch_size`` and validated on the frozen set; the published
        runs had batches of 32, and validation sets drawn anew whose negatives were half LRGs.
        """
        chunks = dict.fromkeys(("chunks", "patience"), self.dynamic_chunks)
        return self.model_copy(update={**chunks, "redraw_validation": False})

    def experiment_name(self, experiment: str, data_key: str) -> str:
        """Name of the experiment's folder: the loss and eight hexadecimal digits of what decides its result."""
        return f"{experiment.partition(':')[0]}-{digest(self.experiment(experiment, data_key))}"


def keyed(values: dict[str, Any]) -> dict[str, Any]:
    """What of some named values goes into a key, JSON-ready: not `ADDED_LATER` at the value that older runs had."""
    ready = json.loads(json.dumps(values))
    as_older = {name: json.dumps(value) for name, value in ADDED_LATER.items()}
    return {name: value for name, value in ready.items() if json.dumps(value) != as_older.get(name)}


def resolve(given: dict[str, Any]) -> Parameters:
    """Parameters from what was given, over the profile, over the defaults.

    Parameters
    ----------
    given : dict
        Values by name; ``None`` counts as not given.

    Raises
    ------
    ParameterError
        Naming each unknown parameter with the nearest valid name, and each bad value with what is allowed.
    """
    given = {name: value for name, value in given.items() if value is not None}
    check_names(given)
    profile = given.get("profile", Parameters.model_fields["profile"].default)
    own = PROFILES.get(profile if isinstance(profile, str) else "", {})
    if "learning_rate" in given:  # the profile's choice for a loss is not what was asked for
        own = {name: value for name, value in own.items() if name != "learning_rates"}
    try:
        return Parameters(**{**own, **given})
    except ValidationError as error:
        raise ParameterError("; ".join(_explain(e) for e in error.errors())) from None


def check_names(names: Iterable[str]) -> None:
    """Raise `ParameterError` at the first name that is no parameter; it has the closest names that are."""
    for name in names:
        if name not in Parameters.model_fields:
            near = difflib.get_close_matches(name, Parameters.model_fields, 3)
            known = f"did you mean {' or '.join(map(repr, near))}?" if near else "`lensdet parameters` lists them all"
            raise ParameterError(f"unknown parameter {name!r}; {known}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Values by name from a YAML file, for `resolve`; else `ParameterError` or OSError, which name the file."""
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise ParameterError(f"{path}: {error}") from None
    if not isinstance(found, dict | None):
        raise ParameterError(f"{path}: not a file of parameters, such as `runs: 2`")
    return found or {}


def _explain(error):
    if not error["loc"]:  # of several parameters together; the message names them
        return error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    field = Parameters.model_fields.get(name)
    about = f" ({field.description})" if field else ""
    near = ""
    if error["type"] == "literal_error":
        near = difflib.get_close_matches(str(error["input"]), error["ctx"]["expected"].replace("'", "").split(), 1)
        near = f"; did you mean {near[0].strip(',')!r}?" if near else ""
    return f"parameter {name!r}{about}: {error['msg']}, not {error['input']!r}{near}"
