#!/bin/bash
# All runs of the profile lite on one GPU, in two commands meant for a quarter of an hour; not tried on a GPU yet.
#
#   benchmarks/lite_on_gpu.sh prepare     # simulate the survey and the large test set, compile: at most 280 s
#   benchmarks/lite_on_gpu.sh train       # train, score on the large test set, pack: at most 560 s
#   PROFILE=smoke OUT=/tmp/out benchmarks/lite_on_gpu.sh prepare      # a trial on a CPU; likewise train
#
# Finders for other surveys, on the broad survey and with the full network, meant for ten minutes:
#
#   PROFILE=finder benchmarks/lite_on_gpu.sh prepare -p width 64 -p chunks 208 -p patience 208 -p precision bfloat16
#   PROFILE=finder benchmarks/lite_on_gpu.sh train -p width 64 -p chunks 208 -p patience 208 -p precision bfloat16
#
# What follows is given to lensdet train, such as -p learning_rates '{f1_double: 0.003}'.  It needs no weights/,
# figures/ or results/: runs go to build/gpu, with their weights, so that those in results/ are trained again.  JAX is the
# backend where it finds a GPU (pip install -e .[jax-gpu]), else TensorFlow.  In $OUT, by default build/ of the repository,
# it leaves <profile>.zip with every complete run but its weights (python -m zipfile -e <profile>.zip results/), and, where
# all runs are there, the finders of the median runs.  Exit status 3: runs are missing; say it again to go on.
set -euo pipefail
step=${1:?say prepare or train}
shift
profile=${PROFILE:-lite}
out=$(realpath -m "${OUT:-$(dirname "$0")/../build}")
cd "$(dirname "$0")/.."
mkdir -p "$out"
export LENSDET_RESULTS=${LENSDET_RESULTS:-$PWD/build/gpu}
if [ -z "${KERAS_BACKEND:-}" ] && python -c 'import jax, sys; sys.exit(jax.default_backend() != "gpu")'; then
    export KERAS_BACKEND=jax
fi
python -c "
import sys
from lensdet import runs
print('on', runs.device(), flush=True)
sys.exit('$profile' != 'smoke' and 'CPU' in runs.device() and 'no GPU is found: install its libraries, or say PROFILE=smoke')"
training=(python -m lensdet train -p profile "$profile" "$@")
case $step in
prepare)
    # no minute is left for a training, so that its status says that runs are missing
    timeout 200 "${training[@]}" --minutes 0 || [ $? -eq 3 ]
    # trainings that are thrown away compile what the others take from JAX's cache
    trial=$(mktemp -d)
    trap 'rm -rf "$trial"' EXIT
    LENSDET_RESULTS=$trial timeout 75 "${training[@]}" -p runs 1 --minutes 1 --jobs "${JOBS:-10}" ||
        [[ $? =~ ^(3|124)$ ]]
    ;;
train)
    # ten runs at once share the GPU; faster with NVIDIA's service for that, where it can be started
    if command -v nvidia-cuda-mps-control > /dev/null; then
        nvidia-cuda-mps-control -d && trap 'echo quit | nvidia-cuda-mps-control' EXIT
    fi
    timeout 500 "${training[@]}" --jobs "${JOBS:-10}" --minutes 8 --pack "$out/$profile.zip"
    together=()
    if [ "$profile" = finder ]; then together=(--together broad "$@"); fi
    timeout 60 python -m lensdet export -p profile "$profile" "${together[@]}" --folder "$out"
    ;;
*)
    echo "$step: say prepare or train" >&2
    exit 2
    ;;
esac
