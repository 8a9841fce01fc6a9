"""Profiles: what each changes from the thesis' values, a budget of images on some machine."""

BEST = ("thesis", "lite", "overnight", "evening", "quick")  # profiles that learn something, the most first
# What each profile changes from the thesis' values.
PROFILES = {
    # CI: every code path, nothing learned.
    "smoke": dict(
        n_lrg=48, n_source=48, n_contaminant=48, frozen_size=24, information_size=32, supersampling=2, width=8,
        momentum=0.9, learning_rate=1e-3, chunks=2, chunk_size=64, batch_size=16, patience=2, runs=2,
        dynamic_chunks=2, independent_negatives=60, independent_lenses=40, large_size=30,
    ),
    # A laptop without a GPU.  The schedule was tuned on BCE alone (benchmarks/tuning.md); learning rates are those of
    # evening.
    "quick": dict(
        n_source=8000, information_size=2000, width=16, momentum=0.9, learning_rate=1e-3, schedule="cosine", chunks=32,
        chunk_size=2048, patience=32, runs=5, dynamic_chunks=12, independent_negatives=5000, independent_lenses=500,
        learning_rates={"bce": 3e-3, "f1_double": 3e-3},
    ),
    # Two cores over an evening: the survey and network of quick, four times as many images a run, and a learning rate
    # for each loss (docs/why/rates.md).
    "evening": dict(
        n_source=8000, information_size=2000, width=16, momentum=0.9, learning_rate=1e-3, schedule="cosine", chunks=64,
        patience=64, runs=5, dynamic_chunks=16, learning_rates={"bce": 3e-3, "f1_double": 3e-3},
    ),
    # Two cores over a night: the survey and network of quick, fourteen times as many images a run.
    "overnight": dict(
        n_source=8000, information_size=2000, width=16, momentum=0.9, learning_rate=1e-3, schedule="cosine",
        chunks=224, patience=224, runs=5, dynamic_chunks=56,
    ),
    # Some minutes of one GPU: the full network and counts, a thirty-eighth of the thesis' chunks.  Tuned on BCE alone.
    "lite": dict(
        momentum=0.9, learning_rate=1e-3, schedule="cosine", precision="bfloat16", chunks=208, patience=208, runs=5,
        dynamic_chunks=52, finders=("thesis/bce", "thesis/fbeta"),
    ),
    # Two cores over an evening: a finder for surveys other than the thesis', on the broad survey (params/finder.yaml).
    "finder": dict(
        n_lrg=8000, n_contaminant=8000, n_source=12000, frozen_size=1000, information_size=1000, large_size=0, width=16,
        momentum=0.9, learning_rate=3e-3, schedule="cosine", chunks=128, patience=64, runs=2, dynamic_chunks=16,
        experiments=("bce",), simulation="broad", renormalise=True, contaminant_fraction=0.5,
    ),
    # Two cores for some 13 minutes: lensdet finder, which goes on from the networks of weights/broad.h5.
    "own": dict(
        n_lrg=3000, n_contaminant=3000, n_source=4000, frozen_size=1000, information_size=1000, width=16, momentum=0.9,
        learning_rate=1e-3, schedule="cosine", chunks=16, patience=64, runs=2, experiments=("bce",),
    ),
    # One GPU, the thesis' own numbers.
    "thesis": dict(redraw_validation=True),
}  # fmt: skip
