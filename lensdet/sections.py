"""Parameters by what they are of: the simulated survey, mock lenses, training, a user's own survey.

Each has its unit, what it can be, and a default; `lensdet.parameters.Parameters` has them all.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AxisRatio = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulation(_Section):
    """The embedded survey.  Counts are of the training split; validation, calibration and test have an eighth each.

    The ranges of the lensed sources are those of Petrillo et al. (2019a) *as recalled*, not as read (the generator of
    the thesis' sources is not public): treat them as a choice.
    """

    n_lrg: Count = Field(4411, description="luminous red galaxies (section 4.2)")
    n_source: Count = Field(80_000, description="lensed sources (section 4.2)")
    n_contaminant: Count = Field(4867, description="contaminants (section 4.2)")
    hardness: Fraction = Field(0.2, description="how much contaminants look like lenses: 0 plainly not, 1 as arcs do")
    einstein_radius: tuple[Positive, Positive] = Field((1.0, 5.0), description="arcsec, log-uniform")
    lens_axis_ratio: tuple[AxisRatio, AxisRatio] = Field((0.3, 1.0), description="of the lens' mass (SIE)")
    shear: tuple[NotNegative, NotNegative] = Field((0.0, 0.05), description="external shear")
    source_radius: tuple[Positive, Positive] = Field((0.2, 0.6), description="arcsec, effective radius, log-uniform")
    source_axis_ratio: tuple[AxisRatio, AxisRatio] = Field((0.3, 1.0), description="of the source")
    source_sersic: tuple[Positive, Positive] = Field(
        (0.5, 5.0), description="Sersic index of the source and its clumps"
    )
    source_clumps: tuple[int, int] = Field((1, 5), description="number of clumps in the source, inclusive")
    supersampling: Count = Field(4, description="sub-pixels a side where a lensed image is bright")


class Broad(_Section):
    """The broad survey, which finders for other surveys than the thesis' learn from (params/finder.yaml).

    Most ranges take in what was measured on real stamps of KiDS, DES and Pan-STARRS1 (docs/why/simulation.md; one KiDS
    galaxy is brighter than ``peak_snr``).  Where a range says nothing it is a choice.  With ``simulation: thesis`` none
    of this counts.
    """

    simulation: Literal["thesis", "broad"] = Field(
        "thesis", description="the thesis' survey of luminous red galaxies, or the broad one"
    )
    simulated_scale: Positive = Field(0.2, description="arcsec a pixel of the broad survey; that of KiDS")
    seeing: tuple[Positive, Positive] = Field(
        (0.5, 1.4), description="arcsec, FWHM of the PSF, log-uniform; measured: KiDS 0.7, DES 0.9, Pan-STARRS1 1.1"
    )
    psf_ellipticity: tuple[Fraction, Fraction] = Field(
        (0.0, 0.1), description="1 - b/a of the PSF; a few per cent is usual"
    )
    peak_snr: tuple[Positive, Positive] = Field(
        (10.0, 500.0), description="peak over the noise of a sky pixel, log-uniform; galaxies of "
        "KiDS and DES have 40 to 150, one of KiDS 600",
    )  # fmt: skip
    host_radius: tuple[Positive, Positive] = Field(
        (0.3, 3.0), description="arcsec, effective radius of the galaxy's bulge, log-uniform"
    )
    host_sersic: tuple[Positive, Positive] = Field((0.5, 6.0), description="Sersic index of the bulge, uniform")
    host_axis_ratio: tuple[AxisRatio, AxisRatio] = Field((0.4, 1.0), description="of the galaxy, uniform")
    host_disc: tuple[Fraction, Fraction] = Field(
        (0.0, 1.0), description="share of a disc in the galaxy's light, uniform; half of the galaxies have one",
    )  # fmt: skip
    neighbours: tuple[NotNegative, NotNegative] = Field(
        (0.0, 8.0), description="objects beside the galaxy, the mean of a field, uniform; real stamps of DES and KiDS "
        "have three or four above 5 sigma",
    )  # fmt: skip
    close_companions: Fraction = Field(
        0.15, description="share of the galaxies with one or two objects within 3 arcsec; a choice"
    )
    noise_correlation: tuple[Fraction, Fraction] = Field(
        (0.0, 0.45), description="of adjacent pixels, uniform; 0.2 in KiDS' stamps, 0.44 where stamps were resampled"
    )
    sky_gradient: tuple[NotNegative, NotNegative] = Field(
        (0.0, 2.0), description="sky from one edge to the other, over the noise of a sky pixel; a choice"
    )


class Sampling(_Section):
    """Mock lenses and negatives (Eq. 4.2), and the frozen sets."""

    data_seed: int = Field(0, ge=0, description="of the survey and of the frozen sets")
    alpha: tuple[NotNegative, NotNegative] = Field(
        (0.02, 0.30), description="source peak over lens peak, uniform (section 4.2)"
    )
    contaminant_fraction: Fraction = Field(0.8, description="of the negatives; the others are LRGs")
    renormalise: bool = Field(
        False, description="normalise mock lenses again (Eq. 4.1) once the source is added, as every stamp of a survey "
        "is; the thesis did not",
    )  # fmt: skip
    frozen_size: Count = Field(551, description="positives, and as many negatives, in each frozen set")
    information_size: Count = Field(20_000, description="mock lenses of the test split in the information set")


class Training(_Section):
    """One training: what decides its result, beside the loss and the data."""

    seed: int = Field(0, ge=0, description="of initial weights and training rows, with the number of the run")
    # TensorFlow 2.21 dies with oneDNN where a convolution has fewer channels.
    width: int = Field(64, ge=8, description="channels of the first stage of ResNet18")
    momentum: float = Field(0.99, gt=0, lt=1, description="of the moving averages of batch normalisation")
    batch_norm_images: int = Field(
        0, ge=0, description="training images of a chunk that the averages of batch normalisation are computed from, "
        "before validation and for what is kept; 0: the moving averages",
    )  # fmt: skip
    l2: float = Field(1e-4, ge=0, description="weight decay of the convolutions")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam; the highest, where it is not constant")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate; cosine: up over 2 % of all steps, then down to nothing"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of convolutions and residual sums (float32: TensorFloat-32 on recent GPUs); weights, "
        "statistics, loss and last layer are float32 either way",
    )  # fmt: skip
    chunks: Count = Field(8000, description="at the most; a chunk is drawn anew each time")
    chunk_size: Count = Field(4096, description="images in a chunk, half of them positive")
    batch_size: Count = Field(64, description="images in a step")
    patience: Count = Field(1200, description="chunks without a better validation loss before a run stops")
    shift: float = Field(4.0, ge=0, description="pixels, the most that an image is shifted along each axis")
    zoom: tuple[Positive, Positive] = Field((1.0, 1.05), description="enlargement, uniform")
    zoom_direction: Literal["in", "out"] = Field("in", description="out: the published runs shrank, each axis apart")
    interpolation: Literal["bilinear", "nearest"] = Field("bilinear", description="of the augmentation")
    selection_beta: float = Field(0.17, gt=0, description="beta of the selectors and of the tables")
    redraw_validation: bool = Field(False, description="code selectors on a validation set drawn anew every chunk")

    @model_validator(mode="after")
    def _whole_batches(self):
        whole = f"a multiple of batch_size {self.batch_size}"
        if self.chunk_size % self.batch_size or self.chunk_size % 2:
            raise ValueError(f"chunk_size {self.chunk_size} must be even and {whole}")
        if self.batch_norm_images % self.batch_size or self.batch_norm_images > self.chunk_size:
            most = f"chunk_size {self.chunk_size} at the most"
            raise ValueError(f"batch_norm_images {self.batch_norm_images} must be {whole}, and {most}")
        return self


class Candidates(_Section):
    """A user's own survey, what to look for in it and with what (notebook 07)."""

    survey: Path | None = Field(None, description="folder of FITS stamps to rank, or an HDF5 file of them")
    catalogue: Path | None = Field(None, description="table with RA and Dec of stamps to cut out of tiles")
    tiles: tuple[Path, ...] = Field(
        (), description="FITS images with WCS that the catalogue's stamps are cut from, or folders of them"
    )
    columns: dict[Literal["id", "ra", "dec"], str] = Field(
        {}, description="columns of the catalogue, where their names are not the usual ones"
    )
    pixel_scale: Positive | None = Field(None, description="arcsec, of stamps whose headers do not say")
    band: str | None = Field(None, description="of stamps and tiles, where their headers name none that is understood")
    plane: int | None = Field(None, ge=0, description="of cubes, from 0, where their headers do not name the bands")
    max_filled: Fraction = Field(0.02, description="of a stamp's pixels, that may be missing and are filled")
    keep: tuple[str, ...] = Field((), description="columns of the catalogue that go into the ranked list")
    finders: tuple[str, ...] = Field(
        ("broad",), min_length=1, description="names of finders in weights/, such as thesis/bce, or files of such"
    )
    rank_by: str = Field("ensemble", description="ensemble, or the name of a finder")
    page_size: Count = Field(500, description="candidates on the page to look through, the highest ranked")
    published: Path | None = Field(None, description="catalogue of known lenses to match with, with name, RA and Dec")
    match_radius: Positive = Field(3.0, description="arcsec, of a match with a known lens")
    output: Path | None = Field(
        None,
        description="folder for what is made; None: one of build/candidates, build/finders or build/demonstration",
    )
    grader: str | None = Field(None, description="whose grades of the list notebook 07 takes; None: it asks for none")
    independent_negatives: Count = Field(100_000, description="simulated anew, for what to expect from a ranked list")
    independent_lenses: Count = Field(10_000, description="mock lenses simulated anew, for the same")


class OwnFinder(_Section):
    """A finder of one's own: what it learns from (`lensdet finder`)."""

    hosts: Path | None = Field(
        None, description="folder of FITS stamps, or an HDF5 file, of galaxies that sources are painted on"
    )
    negatives: Path | None = Field(
        None, description="folder or HDF5 file of stamps that are no lenses, beside the hosts without arcs"
    )
    labels: Path | None = Field(
        None, description="table with columns id and grade of hosts or negatives that people graded: lens, A or B for "
        "a lens, non-lens or X for none; other grades say nothing",
    )  # fmt: skip
    psf: Positive | None = Field(
        None, description="arcsec, FWHM of the hosts' PSF; None: measured from stars in their stamps"
    )
    start: str = Field(
        "broad", description="finder that training goes on from, a name in weights/ or a file, with its width; random: "
        "from random weights, with -p profile finder, an evening",
    )  # fmt: skip
    simulated_share: Fraction = Field(
        0.5, description="of the galaxies, and of the negatives, that a finder of one's own sees: drawn from the broad "
        "survey; 1: none of one's own",
    )  # fmt: skip
