"""Ink of the user's chapter on real pixels: arrays in, matplotlib Figure out."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from lensdet import real_pixels


def logits(found):
    """Logits of each group of stamps by each finder: every stamp a point, a box from quartile to quartile.

    Parameters
    ----------
    found : dict of dict of float arrays
        By finder, then by group (`lensdet.real_pixels.make`).
    """
    groups = list(next(iter(found.values())))
    figure, axes = plt.subplots(1, len(found), figsize=(4.2 * len(found) + 1.4, 3.6), sharey=True, squeeze=False)
    palette = sns.color_palette("colorblind")
    positive = {*real_pixels.STEPS, real_pixels.CANDIDATES, real_pixels.PICTURES}
    rng = np.random.default_rng(0)  # moves points aside, nothing else
    for axis, (name, by_group) in zip(axes[0], found.items(), strict=True):
        for i, group in enumerate(groups):
            values = np.asarray(by_group[group])
            colour = palette[1] if group in positive else palette[0]
            aside = i + 0.32 * (rng.random(len(values)) - 0.5)
            size, alpha = (2.5, 0.35) if len(values) > 200 else (5, 0.6)
            axis.plot(values, aside, ".", ms=size, color=colour, alpha=alpha, mew=0, rasterized=True)
            if len(values):
                axis.boxplot([values], positions=[i], widths=0.55, orientation="horizontal", showfliers=False, whis=0,
                             showcaps=False, manage_ticks=False, medianprops={"color": "black"})  # fmt: skip
        axis.axvline(0, color="0.4", lw=0.8, ls="--")
        axis.set(title=name, xlabel="logit (0: p = 0.5)", yticks=range(len(groups)))
        axis.set_yticklabels([f"{group} (n = {len(by_group[group])})" for group in groups])
        axis.grid(False, axis="y")
        axis.margins(y=0.08)
    axes[0, 0].invert_yaxis()
    return figure
