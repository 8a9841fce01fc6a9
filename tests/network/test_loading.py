"""Loading TensorFlow: its notes are left out of stderr, its errors are not."""

import os
import re
import subprocess
import sys

from lensdet.network import _without_notes

NOTES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1.5 7 port.cc:153] oneDNN custom operations are on.\n"
    b"2025-09-17 14:44:05.157831: I external/cudart_stub.cc:32] Could not find cuda drivers on your machine\n"
)
ERRORS = b"E0000 00:00:1.5 7 cuda_dnn.cc:8579] Unable to register\nImportError: I0000\n"


def test_a_network_is_loaded_and_called_without_notes_on_stderr():
    code = "import lensdet; lensdet.resnet18(8)(__import__('numpy').zeros((1, 101, 101, 1), 'float32'))"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if re.search("^I[0-9]{4} |InitializeLog|cuInit", line)] == []


def test_errors_at_loading_are_shown(capfd):
    with _without_notes():
        os.write(2, NOTES + ERRORS)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.encode() == ERRORS + b"after\n"
