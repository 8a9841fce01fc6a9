"""Loading TensorFlow shows no error where nothing is wrong."""

import os
import re
import subprocess
import sys

import pytest

import lensdet


@pytest.mark.skipif(lensdet._gpu, reason="there is a GPU here, whose errors are shown")
def test_a_network_is_loaded_and_called_without_errors_of_a_missing_gpu():
    code = "import lensdet; lensdet.resnet18(8)(__import__('numpy').zeros((1, 101, 101, 1), 'float32'))"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if re.search("^E[0-9]{4} |cuInit|AVX", line)] == []
