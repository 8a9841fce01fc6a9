"""The warp against scipy.ndimage, and what it does to a galaxy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from scipy.stats import kstest

from lensdet import parameters
from lensdet.data import augmentation

P = parameters.resolve({"profile": "quick"})
IDENTITY = np.array([[1, 0, 0, 0, 1, 0]], np.float32)
ROWS, COLUMNS = np.indices((101, 101)) - 50.0


def warped(image, warps, interpolation="bilinear"):
    """One image under several warps, (N, 101, 101)."""
    images = np.broadcast_to(image.astype(np.float32)[None, ..., None], (len(warps), 101, 101, 1))
    return keras.ops.convert_to_numpy(augmentation.warp(images, warps, interpolation))[..., 0]


def warps_of(n, seed=0, **options):
    return augmentation.draw_warps(np.random.default_rng(seed), n, **options)


def scipys(image, warp, order):
    """The same warp by SciPy, whose coordinates are (row, column) where ours are (x, y)."""
    a0, a1, a2, b0, b1, b2 = warp.astype(float)
    return affine_transform(image, [[b1, b0], [a1, a0]], [b2, a2], order=order, mode="nearest")


def covariance(image):
    """Second moments of the light in pixels, (2, 2)."""
    weight = image / image.sum()
    x, y = COLUMNS - (weight * COLUMNS).sum(), ROWS - (weight * ROWS).sum()
    return np.array(
        [[(weight * x * x).sum(), (weight * x * y).sum()], [(weight * x * y).sum(), (weight * y * y).sum()]]
    )


def blob(sigma=6.0):
    return np.exp(-(COLUMNS**2 + ROWS**2) / (2 * sigma**2))


# ---- the warp


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), direction=st.sampled_from(["in", "out"]), zoom=st.floats(1, 1.5))
def test_bilinear_warp_equals_scipy(seed, direction, zoom):
    image = np.random.default_rng(seed).random((101, 101))
    warps = warps_of(3, seed, zoom=(1, zoom), zoom_direction=direction)
    for result, warp in zip(warped(image, warps), warps, strict=True):
        # 32-bit coordinates of some 50 pixels, on white noise
        np.testing.assert_allclose(result, scipys(image, warp, 1), atol=2e-4, rtol=0)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_nearest_neighbour_warp_equals_scipy(seed):
    image = np.random.default_rng(seed).random((101, 101)).astype(np.float32)
    warps = warps_of(3, seed)
    for result, warp in zip(warped(image, warps, "nearest"), warps, strict=True):
        # but where a coordinate lies half way between two pixels, to 32 bits
        assert np.mean(result != scipys(image, warp, 0)) < 1e-3
        assert set(result.ravel()) <= set(image.ravel())


def test_shift_along_x_moves_columns_and_repeats_the_edge():
    """A shift along x of an image that is not symmetric; beyond the frame the edge is repeated."""
    image = np.random.default_rng(0).random((101, 101)).astype(np.float32)
    shifted = warped(image, np.array([[1, 0, 3, 0, 1, 0]], np.float32))[0]
    np.testing.assert_allclose(shifted[:, :-3], image[:, 3:], atol=1e-5)
    np.testing.assert_allclose(shifted[:, -3:], image[:, -1:].repeat(3, 1), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_identity_warp_changes_no_pixel(interpolation):
    image = np.random.default_rng(0).random((101, 101)).astype(np.float32)
    np.testing.assert_array_equal(warped(image, IDENTITY, interpolation)[0], image)


def test_each_image_has_its_own_warp():
    images = np.random.default_rng(0).random((3, 101, 101, 1)).astype(np.float32)
    warps = warps_of(3)
    together = keras.ops.convert_to_numpy(augmentation.warp(images, warps))
    for i in range(3):
        np.testing.assert_allclose(together[i, ..., 0], warped(images[i, ..., 0], warps[i : i + 1])[0], atol=1e-5)


# ---- the draws


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_rotation_and_flip_leave_the_true_centre(direction, interpolation):
    image = np.random.default_rng(1).random((101, 101)).astype(np.float32)
    result = warped(image, warps_of(50, shift=0, zoom_direction=direction), interpolation)
    np.testing.assert_allclose(result[:, 50, 50], image[50, 50], atol=1e-4)


def test_shift_is_uniform_within_its_range():
    warps = warps_of(2000).astype(float)
    for a0, a1, a2 in (warps[:, :3].T, warps[:, 3:].T):
        shift = (a0 + a1) * 50 + a2 - 50  # what the centre of the output shows
        assert np.abs(shift).max() <= P.shift + 1e-4
        assert kstest(shift, "uniform", (-P.shift, 2 * P.shift)).pvalue > 0.01


def test_angles_are_uniform_and_half_are_flipped():
    warps = warps_of(2000).astype(float)
    determinant = warps[:, 0] * warps[:, 4] - warps[:, 1] * warps[:, 3]
    assert np.mean(determinant < 0) == pytest.approx(0.5, abs=0.05)
    angle = np.arctan2(-warps[:, 1], warps[:, 4]) % (2 * np.pi)
    assert kstest(angle / (2 * np.pi), "uniform").pvalue > 0.01


def test_zoom_in_enlarges_both_axes_equally():
    warps = warps_of(8, zoom=(1.2, 1.2), shift=0)
    for image in warped(blob(), warps):
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance(image)), (6 * 1.2) ** 2, rtol=0.02)


def test_zoom_out_shrinks_each_axis_by_its_own_factor():
    warps = warps_of(200, zoom=(1.0, 1.3), shift=0, zoom_direction="out")
    axes = np.sqrt([np.linalg.eigvalsh(covariance(image)) for image in warped(blob(), warps)]) / 6
    assert axes.max() < 1.01 and axes.min() > 0.99 / 1.3
    assert np.mean(axes[:, 0] / axes[:, 1]) < 0.95  # a round galaxy does not stay round
    zoom = np.sqrt(np.abs(warps[:, 0] * warps[:, 4] - warps[:, 1] * warps[:, 3]))
    np.testing.assert_allclose(np.sqrt(axes.prod(1)), 1 / zoom, rtol=0.02)


def test_zoom_is_uniform_within_its_range():
    for direction, sign in (("in", -1), ("out", 1)):
        warps = warps_of(1000, zoom_direction=direction).astype(float)
        first = np.hypot(warps[:, 0], warps[:, 3]) ** sign  # the length of the matrix' first column
        second = np.hypot(warps[:, 1], warps[:, 4]) ** sign
        for zoom in (first, second):
            assert kstest(zoom, "uniform", (1, 0.05)).pvalue > 0.01
        assert np.allclose(first, second, atol=1e-6) == (direction == "in")


def test_warps_depend_only_on_the_seed_of_the_generator():
    warps = warps_of(10, seed=3)
    assert warps.dtype == np.float32 and warps.shape == (10, 6)
    np.testing.assert_array_equal(warps, warps_of(10, seed=3))
    assert np.all(warps != warps_of(10, seed=4))
