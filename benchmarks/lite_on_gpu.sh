#!/bin/bash
# All runs of the profile lite in a quarter of an hour of one GPU, in two commands.
#
#   benchmarks/lite_on_gpu.sh prepare          # simulate the survey and the large test set, compile: at most 280 s
#   benchmarks/lite_on_gpu.sh train            # train what is missing, score it, pack it: at most 560 s
#   PROFILE=smoke OUT=/tmp/out benchmarks/lite_on_gpu.sh prepare      # a trial on a CPU; likewise train
#
# What follows goes to python -m lensdet.training, such as -p experiments bce,fbeta.  It needs no weights/, figures/ or
# results/; JAX is the backend where it is installed with its GPU (pip install -e .[jax-gpu]).  Left in $OUT, by default
# build/: <profile>.zip, which `python -m zipfile -e <profile>.zip results/` unpacks, with every complete run, and the
# finders of the median runs as <experiment>.h5.  Stopped by the clock, it goes on when it is said again.
set -euo pipefail
cd "$(dirname "$0")/.."
step=${1:?say prepare or train}
shift
profile=${PROFILE:-lite}
out=${OUT:-build}
jobs=${JOBS:-10}  # runs side by side: 45,000 images a second on an H200, for 24,000 of one alone
mkdir -p "$out"
if [ -z "${KERAS_BACKEND:-}" ] && python -c 'import jax, sys; sys.exit(jax.default_backend() != "gpu")' 2> /dev/null; then
    export KERAS_BACKEND=jax
fi
case $step in
prepare)
    # no minute is left for a training: exit status 3 says that all are still missing
    timeout 280 python -m lensdet.training -p profile "$profile" "$@" --jobs "$jobs" --minutes 0 || [ $? -eq 3 ]
    ;;
train)
    # eight minutes, the rest for the finders
    timeout 530 python -m lensdet.training -p profile "$profile" "$@" --jobs "$jobs" --minutes 8 \
        --pack "$out/$profile.zip" || [ $? -eq 3 ]
    timeout 30 python -m lensdet.weights --profile "$profile" --folder "$out" || echo "no finders: there was no time"
    ;;
*)
    echo "$step: say prepare or train" >&2
    exit 2
    ;;
esac
