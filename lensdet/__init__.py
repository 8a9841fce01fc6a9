"""Strong gravitational lenses with soft losses: every number of a thesis again, with its uncertainty.

Light on purpose: papermill imports it at every start.  The public names are loaded when they are first used.
"""

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes about its build are not the reader's concern
if platform.machine().lower() in ("x86_64", "amd64"):
    # Where a CPU has no AVX-512 TensorFlow leaves its faster convolutions off by itself: benchmarks/README.md.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_PUBLIC = {
    "Parameters": "parameters",
    "resolve": "parameters",
    "ParameterError": "parameters",
    "normalise": "stamps",
    "read_stamp": "stamps",
    "read_stamps": "stamps",
    "open_bank": "bank",
    "resnet18": "resnet",
    "SoftF1": "losses",
    "DoubleSoftF1": "losses",
    "SoftFBeta": "losses",
    "train_missing": "training",
    "load_network": "training",
}
__all__ = [*_PUBLIC, "__version__"]

try:
    __version__ = version("lensdet")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lensdet' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lensdet.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted(__all__)
