"""Augmentation: rotation, shift, zoom and flip as one affine warp (section 4.2.1)."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tensor = Any  # of the backend that Keras has: TensorFlow's or JAX', or an array that it makes one of

CENTRE = 50.0  # the true centre of 101 pixels; the published runs turned about 51


def draw_warps(
    rng: np.random.Generator,
    n: int,
    shift: float = 4.0,
    zoom: tuple[float, float] = (1.0, 1.05),
    zoom_direction: Literal["in", "out"] = "in",
) -> NDArray:
    """Affine warps from output to input pixels, drawn on the host.

    Parameters
    ----------
    rng : numpy.random.Generator
    n : int
    shift : float
        The most that an image is shifted along each axis, in pixels.
    zoom : (float, float)
        Range of the enlargement, uniform.
    zoom_direction : {"in", "out"}
        in: enlarge, both axes alike (section 4.2.1).  out: shrink each axis apart, as the published runs did.

    Returns
    -------
    float32 array (n, 6)
        a0, a1, a2, b0, b1, b2: the output pixel (x, y) shows the input at (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    angle = rng.uniform(0, 2 * np.pi, n)
    shift = rng.uniform(-shift, shift, (n, 2))
    zoom = rng.uniform(*zoom, (n, 2))
    flip = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    zx, zy = (1 / zoom[:, 0], 1 / zoom[:, 0]) if zoom_direction == "in" else zoom.T
    c, s = np.cos(angle), np.sin(angle)
    a0, a1, b0, b1 = c * zx * flip, -s * zy, s * zx * flip, c * zy
    a2 = CENTRE + shift[:, 0] - (a0 + a1) * CENTRE
    b2 = CENTRE + shift[:, 1] - (b0 + b1) * CENTRE
    return np.stack([a0, a1, a2, b0, b1, b2], 1).astype(np.float32)


def warp(images: Tensor, warps: Tensor, interpolation: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Warp images, on the device; beyond the frame the edge is repeated.

    Parameters
    ----------
    images : tensor (N, 101, 101, 1)
    warps : tensor (N, 6)
        As from `draw_warps`.
    interpolation : {"bilinear", "nearest"}
        The published runs were bilinear; the thesis says nearest neighbour.
    """
    from keras import ops  # which takes seconds to import, and warps alone do not need it

    projective = ops.pad(warps, ((0, 0), (0, 2)))
    return ops.image.affine_transform(images, projective, interpolation=interpolation, fill_mode="nearest")
