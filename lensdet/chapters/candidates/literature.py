"""What others published of their lens finders, as data, each with the set that it was measured on."""

import pandas as pd


def table() -> pd.DataFrame:
    """What others published, as a data frame: paper, finder, data, n, metric, value, and where it stands.

    For orientation, and no verdict: other images, bands, lenses, negatives and numbers of them, and so other tasks.
    Metcalf et al. (2019, A&A 625, A119) as in the authors' manuscript; Rezaei et al. (2025, MNRAS 538, 1081) by its
    abstract alone.
    """
    challenge = {
        "ground-based, four bands": "100,000 cases; lensed sources added to 50 %",
        "space-based, one band": "100,000 cases; 60 % without a lensed source",
    }
    entries = {
        ("CMU-DeepLens-Resnet-ground3", "ground-based, four bands"): (0.98, 0.09, 0.45),
        ("CMU-DeepLens-Resnet-Voting", "ground-based, four bands"): (0.98, 0.02, 0.10),
        ("LASTRO EPFL", "ground-based, four bands"): (0.97, 0.07, 0.11),
        ("Manchester SVM", "ground-based, four bands"): (0.93, 0.22, 0.35),
        ("LASTRO EPFL", "space-based, one band"): (0.93, 0.00, 0.08),
        ("CMU-DeepLens-Resnet", "space-based, one band"): (0.92, 0.22, 0.29),
        ("GAMOCLASS", "space-based, one band"): (0.92, 0.07, 0.36),
    }
    rows = [
        ("Metcalf et al. 2019", finder, f"challenge, simulated, {data}", challenge[data], metric, value, "Table 3")
        for (finder, data), values in entries.items()
        for metric, value in zip(("AUROC", "TPR0", "TPR10"), values, strict=True)
    ]
    ours = ("Rezaei et al. 2025", "ensemble of DenseNet and EfficientNet", "their test set, for KiDS", "not read")
    rows += [(*ours, "FPR", 1e-4, "abstract"), (*ours, "TPR at that FPR", 0.88, "abstract: over 88 per cent")]
    return pd.DataFrame(rows, columns=["paper", "finder", "data", "n", "metric", "value", "where"])
