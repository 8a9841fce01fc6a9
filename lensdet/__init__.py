"""Strong gravitational lenses with soft losses: finders to rank a survey, and every number of a thesis again.

Rank a folder of FITS stamps (101 x 101 pixels of 0.2 arcsec, r band)::

    import lensdet

    outcome = lensdet.rank(lensdet.resolve({"survey": "stamps", "output": "ranked"}))
    outcome.ranked.head()  # a table, the likeliest lenses first
    outcome.page  # the path of a page to look through

From a catalogue and tiles: ``{"catalogue": "galaxies.fits", "tiles": ["tile.fits"]}`` in the place of ``"survey"``.

Score stamps that are arrays, train a network of your own with a soft loss, or look at what a network looks at::

    finder = lensdet.load_finder("broad")
    logits = finder.score(pixels)  # (N, 101, 101) in any unit -> (N,), positive for a lens
    model.compile("adam", loss=lensdet.SoftFBeta(beta=0.17))
    maps = lensdet.heat_maps(model, images)

- Survey: `rank`, `grade`, `load_finder`, `read_stamp`, `read_stamps`, `normalise`, `segment`.
- Networks: `resnet18`, `SoftF1`, `DoubleSoftF1`, `SoftFBeta`, `SigmoidF1`, `heat_maps`, `load_network`.
- The thesis: `Study`, `resolve`, `Parameters`, `ParameterError`, `open_bank`, `train_missing`; the numbered notebooks.

``help(lensdet.rank)`` and so on say more; ``lensdet parameters`` lists all parameters, with units and defaults.
"""

# Light on purpose: papermill imports it at every start.  The public names are loaded when they are first used.
import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

# TensorFlow's notes about its build are not the reader's concern.  Nor, without an NVIDIA GPU, is its error that it
# finds none; what goes wrong in a computation is raised all the same.  TensorFlow 2.21 writes a few lines nonetheless,
# before it reads this (its issue 100442).
_gpu = any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if _gpu else "3")
if platform.machine().lower() in ("x86_64", "amd64"):
    # Where a CPU has no AVX-512 TensorFlow leaves its faster convolutions off by itself: benchmarks/README.md.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if TYPE_CHECKING:  # what an editor completes
    from lensdet.data.bank import open_bank
    from lensdet.data.maxtree import segment
    from lensdet.data.stamps import normalise, read_stamp, read_stamps
    from lensdet.network.finders import load as load_finder
    from lensdet.network.gradcam import heat_maps
    from lensdet.network.losses import DoubleSoftF1, SigmoidF1, SoftF1, SoftFBeta
    from lensdet.network.resnet import resnet18
    from lensdet.network.training import load_network, train_missing
    from lensdet.parameters import ParameterError, Parameters, resolve
    from lensdet.study import Study
    from lensdet.survey.grading import grade
    from lensdet.survey.ranking import rank_survey as rank

_PLACES = {
    "DoubleSoftF1": "network.losses.DoubleSoftF1",
    "ParameterError": "parameters.ParameterError",
    "Parameters": "parameters.Parameters",
    "SigmoidF1": "network.losses.SigmoidF1",
    "SoftF1": "network.losses.SoftF1",
    "SoftFBeta": "network.losses.SoftFBeta",
    "Study": "study.Study",
    "grade": "survey.grading.grade",
    "heat_maps": "network.gradcam.heat_maps",
    "load_finder": "network.finders.load",
    "load_network": "network.training.load_network",
    "normalise": "data.stamps.normalise",
    "open_bank": "data.bank.open_bank",
    "rank": "survey.ranking.rank_survey",
    "read_stamp": "data.stamps.read_stamp",
    "read_stamps": "data.stamps.read_stamps",
    "resnet18": "network.resnet.resnet18",
    "resolve": "parameters.resolve",
    "segment": "data.maxtree.segment",
    "train_missing": "network.training.train_missing",
}
__all__ = [
    "DoubleSoftF1",
    "ParameterError",
    "Parameters",
    "SigmoidF1",
    "SoftF1",
    "SoftFBeta",
    "Study",
    "__version__",
    "grade",
    "heat_maps",
    "load_finder",
    "load_network",
    "normalise",
    "open_bank",
    "rank",
    "read_stamp",
    "read_stamps",
    "resnet18",
    "resolve",
    "segment",
    "train_missing",
]

try:
    __version__ = version("lensdet")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'lensdet' has no attribute {name!r}")
    module, _, place = _PLACES[name].rpartition(".")
    return getattr(importlib.import_module(f"lensdet.{module}"), place)


def __dir__():
    return sorted(__all__)
