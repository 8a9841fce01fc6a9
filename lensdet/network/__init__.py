"""Networks, what they are trained with, and what they look at.

Keras is loaded here, and with it TensorFlow, whose libraries then write notes on stderr that no setting turns off: "All
log messages before absl::InitializeLog() ...", that oneDNN is on, that there is no CUDA.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

_NOTES = r"^WARNING: All log messages before absl::InitializeLog|^I[0-9]{4} |^[-0-9]+ [:.0-9]+: I "


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Passes stderr through grep, which shows all other lines at once, even those of a process that dies here."""
    command = ["grep", "--line-buffered", "-Ev", _NOTES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, stderr=subprocess.DEVNULL) as grep:
        stderr = os.dup(2)
        os.dup2(grep.stdin.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_asked = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") < "2"  # then notes are what a user wants to see
_loaded = "tensorflow" in sys.modules
with contextlib.nullcontext() if _asked or _loaded or not shutil.which("grep") else _without_notes():
    import keras

__all__ = ["keras"]
