"""The Max-Tree against brute force, scikit-image and the thesis' package's output; the other steps against SciPy."""

import sys
import threading
import time
from fractions import Fraction
from math import floor
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import convolve, label

from lensdet import storage
from lensdet.data import maxtree
from lensdet.data.maxtree import PRESETS, Settings, filtered, masks, segment, steps

GOLDEN = storage.root().parent / "shared" / "data" / "maxtree_golden.npz"
BARE = Settings(False, None, None, None, False, False, None, None)  # nothing but 8 bit
TREES = st.builds(
    BARE._replace,
    area=st.none() | st.integers(0, 12),
    box=st.none() | st.tuples(st.integers(0, 4), st.integers(2, 12)),
    rectangularity=st.none() | st.sampled_from([0.25, 0.5, 0.75, 1.0, 2.0]),
    strict=st.booleans(),
)
BROKEN = st.builds(BARE._replace, area=st.integers(0, 12), broken_rectangularity=st.just(True))
GREY = st.integers(1, 255).flatmap(
    lambda top: arrays(np.uint8, st.tuples(*[st.integers(3, 14)] * 2), elements=st.integers(0, top))
)


def stamps(n, seed=0, size=101):
    """A galaxy, an arc, neighbours, noise on a lifted sky; float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - (size - 1) / 2
    images = []
    for _ in range(n):
        r = np.hypot(x, y * rng.uniform(1, 1.5))
        image = np.exp(-r / 3) + 0.2 * np.exp(-(((r - rng.uniform(6, 20)) / 1.5) ** 2)) * (x > 0)
        for cx, cy in rng.uniform(-size / 2, size / 2, (4, 2)):
            image += 0.4 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(4, 30))
        image += rng.normal(0, 0.006, image.shape)
        image -= image.min()
        images.append(np.sqrt(image / image.max()))
    return np.array(images, np.float32)


def is_discarded(area, dx, dy, s):
    """One component, from the words of section 4.7."""
    tests = []
    if s.area is not None:
        tests += [area < s.area, s.strict and area == s.area]
    if s.box is not None:
        for d in (dx, dy):
            tests += [d < s.box[0], d > s.box[1], s.strict and d in s.box]
    if s.rectangularity is not None and dx * dy:
        tests += [area / (dx * dy) < s.rectangularity, s.strict and area / (dx * dy) == s.rectangularity]
    if s.broken_rectangularity and dx * dy:
        tests.append(0.9 <= s.area / (dx * dy) <= 1.1)
    return any(tests)


def nodes(image):
    """Level and pixels of every component that has a pixel of its level, dark ones first, by cutting at every level."""
    for level in np.unique(image):
        labels, count = label(image >= level, np.ones((3, 3)))
        for k in range(1, count + 1):
            if np.any(image[labels == k] == level):
                yield level, labels == k


def extents(inside):
    rows, columns = np.nonzero(inside)
    return np.ptp(columns), np.ptp(rows)


def decomposed(image, s):
    """The filtered image, by brute force: each component that is kept covers what lies below."""
    result = np.full_like(image, image.min())
    for level, inside in nodes(image):
        if not is_discarded(inside.sum(), *extents(inside), s):
            result[inside] = level
    return result


def component(height, width, area):
    """Connected pixels that fill a box of height x width: the first column, the last row, then row by row."""
    inside = np.zeros((height, width), bool)
    inside[:, 0] = inside[-1] = True
    inside.flat[np.flatnonzero(~inside)[: area - inside.sum()]] = True
    assert inside.sum() == area
    return inside


def alone(inside, level=100, background=10):
    """A component in a larger image."""
    image = np.full((70, 70), background, np.uint8)
    image[3 : 3 + inside.shape[0], 4 : 4 + inside.shape[1]][inside] = level
    return image


# ---- the tree


@pytest.mark.skipif(not GOLDEN.exists(), reason="the output of the thesis' package is not here")
def test_filtered_images_equal_those_of_the_thesis_package():
    with np.load(GOLDEN) as golden:
        found = filtered(golden["input"], Settings(area=45, box=(3, 60), rectangularity=0.45, strict=True))
        np.testing.assert_array_equal(found, golden["filtered"])
        assert np.any(found != golden["input"])


@settings(max_examples=60, deadline=None)
@given(GREY, TREES | BROKEN)
def test_tree_equals_a_threshold_decomposition(image, s):
    np.testing.assert_array_equal(filtered(image[None], s)[0], decomposed(image, s))


def test_tree_of_random_images_equals_a_threshold_decomposition():
    rng = np.random.default_rng(0)
    for _ in range(60):
        image = rng.integers(0, rng.integers(2, 257), rng.integers(3, 24, 2), np.uint8)
        low, high = np.sort(rng.integers(0, 16, 2)).tolist()
        strict, broken = map(bool, rng.integers(0, 2, 2))
        s = Settings(True, int(rng.integers(1, 20)), (low, high), rng.choice([0.3, 0.5, 0.8]), strict, broken)
        np.testing.assert_array_equal(filtered(image[None], s)[0], decomposed(image, s))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_on_stamps_equal_a_threshold_decomposition(name):
    images = (stamps(4, size=75) * 63).astype(np.uint8)  # few levels: brute force takes as long as there are
    for image, found in zip(images, filtered(images, PRESETS[name]), strict=True):
        np.testing.assert_array_equal(found, decomposed(image, PRESETS[name]))
        assert np.any(found != image) and np.any(found != image.min())


@pytest.mark.parametrize("area", [1, 2, 45, 400])
def test_area_filter_equals_area_opening_of_scikit_image(area):
    morphology = pytest.importorskip("skimage.morphology")
    rng = np.random.default_rng(0)
    images = [*(stamps(2) * 255).astype(np.uint8), *rng.integers(0, 9, (4, 101, 101), np.uint8)]
    for image in images:
        found = filtered(image[None], Settings(area=area, box=None, rectangularity=None))[0]
        np.testing.assert_array_equal(found, morphology.area_opening(image, area, connectivity=2))


@settings(max_examples=50, deadline=None)
@given(GREY)
def test_filter_keeping_all_is_identity_and_keeping_none_is_minimum(image):
    np.testing.assert_array_equal(filtered(image[None], BARE)[0], image)
    assert np.all(filtered(image[None], Settings(area=1000)) == image.min())


@settings(max_examples=100, deadline=None)
@given(GREY, TREES, st.integers(0, 7))
def test_filter_is_idempotent_and_commutes_with_turns_and_brightening(image, s, symmetry):
    found = filtered(image[None], s)[0]
    assert np.all(found <= image) and found.min() == image.min()
    assert set(found.ravel()) <= set(image.ravel())
    np.testing.assert_array_equal(filtered(found[None], s)[0], found)

    def turned(x):
        return np.rot90(x.T if symmetry > 3 else x, symmetry % 4)

    np.testing.assert_array_equal(filtered(turned(image)[None], s)[0], turned(found))
    levels = np.sort(np.random.default_rng(symmetry).permutation(256)[: len(np.unique(image))]).astype(np.uint8)
    brighter = dict(zip(np.unique(image), levels, strict=True))  # any increasing map
    mapped = np.vectorize(brighter.get, otypes=[np.uint8])
    np.testing.assert_array_equal(filtered(mapped(image)[None], s)[0], mapped(found))


@settings(max_examples=50, deadline=None)
@given(GREY, TREES)
def test_stricter_settings_never_brighten_a_pixel(image, s):
    area = 0 if s.area is None else s.area
    assert np.all(filtered(image[None], s._replace(area=area + 3)) <= filtered(image[None], s))
    assert np.all(filtered(image[None], s._replace(strict=True)) <= filtered(image[None], s._replace(strict=False)))


def test_pixels_that_touch_at_corners_are_connected():
    diagonal, board = np.eye(9, dtype=np.uint8), np.indices((9, 9)).sum(0).astype(np.uint8) % 2
    for image in (diagonal, board):
        area = int(image.sum())
        s = Settings(area=area, box=None, rectangularity=None)
        np.testing.assert_array_equal(filtered(image[None], s)[0], image)
        assert not filtered(image[None], s._replace(area=area + 1)).any()


# height, width, area of a component, and whether it stays
@pytest.mark.parametrize(
    ("name", "height", "width", "area", "stays"),
    [
        ("text", 5, 9, 45, True),
        ("text", 5, 9, 44, False),
        ("text", 4, 12, 48, True),  # an extent of 3
        ("text", 3, 15, 45, False),
        ("text", 61, 4, 244, True),  # an extent of 60
        ("text", 62, 4, 248, False),
        ("text", 21, 21, 180, True),  # 180 / (20 * 20) = 0.45
        ("text", 21, 21, 179, False),
        ("code", 5, 6, 26, True),
        ("code", 5, 6, 25, False),
        ("code", 5, 8, 40, True),  # an extent of 4
        ("code", 4, 9, 36, False),
        ("code", 60, 5, 300, True),  # an extent of 59
        ("code", 61, 5, 305, False),
        ("code", 21, 21, 60, True),  # a rectangularity of 0.15
        ("code", 5, 7, 30, False),  # 25 / (4 * 6) = 1.04
        ("code", 6, 6, 30, False),  # 25 / (5 * 5) = 1
        ("code", 5, 8, 30, True),  # 25 / (4 * 7) = 0.89
        (Settings(area=27, broken_rectangularity=True), 6, 7, 42, False),  # 27 / (5 * 6) = 0.9
        (Settings(area=33, broken_rectangularity=True), 6, 7, 42, False),  # 33 / (5 * 6) = 1.1
        (Settings(area=34, broken_rectangularity=True), 6, 7, 42, True),
        (Settings(rectangularity=0.45, strict=True), 21, 21, 181, True),
        (Settings(rectangularity=0.45, strict=True), 21, 21, 180, False),
    ],
)
def test_limits_of_area_extent_and_rectangularity_of_the_presets(name, height, width, area, stays):
    s = PRESETS[name] if isinstance(name, str) else name
    for inside in (component(height, width, area), component(height, width, area).T):
        found = filtered(alone(inside)[None], s)[0]
        np.testing.assert_array_equal(found, alone(inside, 100 if stays else 10))


def test_a_component_inside_a_discarded_one_can_stay():
    image = alone(np.ones((8, 63), bool), 50)  # too wide
    image[4:10, 20:30] = 100
    expected = np.where(image == 100, 100, 10)
    np.testing.assert_array_equal(filtered(image[None])[0], expected)


def test_preset_settings_are_those_of_text_and_code():
    assert PRESETS["text"] == (True, 45, (3, 60), 0.45, False, False, 20, 20)
    assert PRESETS["code"]._replace(rectangularity=None) == (False, 25, (3, 60), None, True, True, 20, 15)


# ---- the other steps


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_conversion_to_8_bits_truncates(dtype):
    values = np.linspace(0, 1, 256).astype(dtype)
    values = np.clip([values, np.nextafter(values, dtype(0)), np.nextafter(values, dtype(2))], 0, 1).astype(dtype)
    expected = [[floor(Fraction(float(v)) * 255) for v in row] for row in values]
    np.testing.assert_array_equal(steps(values, BARE)["eight_bit"], expected)
    just_below = np.tile(np.arange(1, 256) / 255 - 1e-9, (3, 1))
    np.testing.assert_array_equal(steps(just_below, BARE)["eight_bit"][0], np.arange(255))


def test_gaussian_smoothing_equals_scipy():
    images = [*stamps(2), np.random.default_rng(0).random((7, 12)), np.ones((3, 3))]
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    for image in images:
        stage = steps(image, BARE._replace(smooth=True))
        expected = convolve(stage["eight_bit"].astype(int), kernel, mode="constant") // 256
        np.testing.assert_array_equal(stage["smoothed"], expected)


def test_decay_falls_exponentially_with_distance_from_the_centre():
    stage = steps(np.full((5, 4), 200.5 / 255), BARE._replace(decay=2.0))
    assert stage["decayed"][0, 0] == int(200 * np.exp(-np.hypot(2, 1.5) / 2))
    assert stage["decayed"][2, 1] == stage["decayed"][2, 2] == int(200 * np.exp(-0.25))
    assert steps(np.full((101, 101), 1.0), BARE._replace(decay=0.001))["decayed"].sum() == 255  # the centre alone


@pytest.mark.parametrize("tolerance", [0, 1, 40, 300])
def test_flood_fill_equals_scikit_image(tolerance):
    segmentation = pytest.importorskip("skimage.segmentation")
    rng = np.random.default_rng(tolerance)
    labyrinths = [(rng.random((60, 45)) < share) * (tolerance + 1) for share in np.linspace(0.2, 0.8, 13)]
    noise = [rng.integers(0, 81, shape) for shape in [(3, 3), (3, 40), (40, 3), (70, 50)] for _ in range(5)]
    for image in [*labyrinths, *noise]:
        image = np.clip(image + 5, 0, 255)
        found = steps((image + 0.5) / 256, BARE._replace(tolerance=tolerance))
        grey = found["eight_bit"].astype(int)
        expected = segmentation.flood_fill(grey, (2, 2), 0, connectivity=2, tolerance=tolerance)
        np.testing.assert_array_equal(found["flood_filled"], expected)


@pytest.mark.parametrize("name", PRESETS)
def test_segmentation_equals_the_published_sequence_of_steps(name):
    """Everything but the tree by SciPy and scikit-image, in the order of the published code."""
    segmentation = pytest.importorskip("skimage.segmentation")
    s, images = PRESETS[name], stamps(20, seed=1)
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    distance = np.hypot(*(np.indices((101, 101)) - 50))
    found, shown = segment(images, s), masks(images, s)
    assert found.dtype == np.float32 and 0.02 < shown.mean() < 0.5
    for image, cut, mask in zip(images, found, shown, strict=True):
        grey = (image.astype(float) * 255).astype(np.uint16)
        if name == "text":
            grey = convolve(grey.astype(int), kernel, mode="constant") // 256
        tree = filtered(grey.astype(np.uint8)[None], s)[0]
        dim = (tree * np.exp(-distance / s.decay)).astype(int)
        flooded = segmentation.flood_fill(dim, (2, 2), 0, connectivity=2, tolerance=s.tolerance)
        np.testing.assert_array_equal(mask, flooded > 0)
        np.testing.assert_array_equal(cut, np.where(flooded > 0, image, 0))
        stage = steps(image, s)
        for key, expected in {"smoothed": grey, "filtered": tree, "decayed": dim, "flood_filled": flooded}.items():
            np.testing.assert_array_equal(stage[key], expected)
        np.testing.assert_array_equal(stage["segmented"], cut)


def test_steps_of_the_segmentation_can_be_left_out():
    image = stamps(1)[0]
    np.testing.assert_array_equal(segment(image[None], BARE)[0], np.where(image * 255.0 >= 1, image, 0))
    stage = steps(image, PRESETS["text"]._replace(decay=None))
    np.testing.assert_array_equal(stage["decayed"], stage["filtered"])
    stage = steps(image, PRESETS["text"]._replace(tolerance=None))
    np.testing.assert_array_equal(stage["flood_filled"], stage["decayed"])
    stage = steps(image, PRESETS["code"])
    np.testing.assert_array_equal(stage["smoothed"], stage["eight_bit"])


def test_constant_images_are_background_but_for_a_central_disc():
    for value in (0.0, 0.3, 1.0):
        image = np.full((1, 101, 101), value)
        assert np.all(filtered((image * 255).astype(np.uint8)) == int(value * 255))
        assert not masks(image, PRESETS["code"]._replace(decay=None)).any()  # all is background
    # A disc about the centre stays of a lifted sky: the flood stops where it is brighter by more than the tolerance.
    grey = 255 * np.exp(-np.hypot(*(np.indices((101, 101)) - 50)) / 20)
    np.testing.assert_array_equal(masks(np.ones((1, 101, 101)), PRESETS["code"])[0], grey >= int(grey[2, 2]) + 16)


# ---- what must not matter


def test_masks_do_not_depend_on_dtype_and_memory_layout():
    images = stamps(3).astype(np.float16)
    images.setflags(write=False)
    expected = masks(images)
    wide = np.zeros((3, 101, 202), np.float32)
    wide[..., ::2] = images
    for same in (
        images.astype(np.float32),
        images.astype(np.float64),
        images.astype(">f4"),
        images.astype(np.longdouble),
        np.asfortranarray(images),
        wide[..., ::2],
        images.tolist(),
    ):
        np.testing.assert_array_equal(masks(same), expected)
        np.testing.assert_array_equal(segment(same), np.where(expected, images, 0))
    turned = images.transpose(0, 2, 1)
    np.testing.assert_array_equal(masks(turned), expected.transpose(0, 2, 1))


def test_masks_do_not_depend_on_batches_and_threads(monkeypatch):
    images = stamps(40)
    expected = np.concatenate([masks(image[None], threads=1) for image in images])
    order = np.random.default_rng(0).permutation(40)
    for chunk in (1, 7, 32, 64):
        monkeypatch.setattr(maxtree, "CHUNK", chunk)
        for threads in (None, 1, 2, 5):
            np.testing.assert_array_equal(masks(images, threads=threads), expected)
            np.testing.assert_array_equal(masks(images[order], threads=threads), expected[order])
    assert masks(images[:0]).shape == (0, 101, 101)


def test_images_of_more_than_65536_pixels_are_filtered_correctly():
    image = np.zeros((400, 400), np.uint8)
    image[::2, ::2] = np.random.default_rng(0).integers(1, 256, (200, 200))  # 40,000 components of one pixel
    np.testing.assert_array_equal(filtered(image[None], BARE)[0], image)
    block = np.zeros_like(image)
    block[100:299, 50:249] = 77
    found = filtered(np.where(block, block, image)[None], Settings(area=199**2, box=None, rectangularity=None))[0]
    np.testing.assert_array_equal(found, block)


# ---- what cannot be


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 5)), "a stack"),
        (np.zeros((1, 5, 5, 1)), "channels"),
        (np.zeros((4, 1, 1)), "at least 3 x 3"),
        (np.zeros((4, 2, 9)), "at least 3 x 3"),
        (np.zeros((4, 9, 2)), "at least 3 x 3"),
        (np.zeros((4, 9, 9), np.uint8), "floating"),
        (np.where(np.arange(60)[:, None, None] == 40, np.nan, np.zeros((60, 5, 5))), "image 40 has NaN"),
        (np.where(np.arange(60)[:, None, None] == 50, 1.01, np.zeros((60, 5, 5))), "image 50 has values outside"),
        (np.full((1, 5, 5), -0.01), "image 0 has values outside"),
        (np.full((1, 5, 5), np.inf), "image 0 has values outside"),
    ],
)
def test_unusable_images_are_errors_that_name_the_image(images, message):
    for function in (masks, segment):
        with pytest.raises(ValueError, match=message):
            function(images, threads=2)


def test_bad_settings_are_errors_that_name_the_argument():
    image = np.zeros((1, 5, 5))
    with pytest.raises(ValueError, match="decay"):
        masks(image, Settings(decay=0))
    with pytest.raises(ValueError, match="needs an area"):
        masks(image, Settings(area=None, broken_rectangularity=True))
    with pytest.raises(ValueError, match="threads"):
        masks(image, threads=0)
    with pytest.raises(ValueError, match="'own', 'iamxt' and 'siamxt'"):
        masks(image, engine="higra")
    with pytest.raises(ValueError, match="uint8"):
        filtered(image)
    with pytest.raises(ValueError, match="at least 3 x 3"):
        filtered(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="at least 3 x 3"):
        steps(np.zeros((1, 1)))
    with pytest.raises(ValueError, match="a stack"):
        steps(np.zeros(5))
    with pytest.raises(ValueError, match="NaN"):
        steps(np.full((5, 5), np.nan))


# ---- the thesis' package


class Package:
    """What of the package's tree is used: its table of nodes, the direct rule, the image."""

    callers: ClassVar = set()

    def __init__(self, image, neighbours):
        self.callers.add(threading.get_ident())
        assert image.dtype == np.uint8 and neighbours.shape == (3, 3) and neighbours.all()
        self.nodes = list(nodes(image))
        self.node_array = np.zeros((11, len(self.nodes)), np.int32)
        for k, (level, inside) in enumerate(self.nodes):
            rows, columns = np.nonzero(inside)
            boxes = (rows.sum(), rows.min(), rows.max(), columns.sum(), columns.min(), columns.max())
            self.node_array[2:, k] = level, inside.sum(), 0, *boxes

    def contractDR(self, keep):
        self.keep = keep.copy()
        self.keep[0] = True

    def getImage(self):
        image = np.zeros(self.nodes[0][1].shape, np.uint8)
        for (level, inside), keep in zip(self.nodes, self.keep, strict=True):
            if keep:
                image[inside] = level
        return image


@pytest.mark.parametrize("name", ["iamxt", "siamxt"])
def test_installed_thesis_package_gives_the_same_masks(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(MaxTreeAlpha=Package))
    monkeypatch.setattr(maxtree, "CHUNK", 1)
    images = (stamps(2, size=40) * 0.1).astype(np.float32)  # few levels
    for s in (Settings(area=9, box=(2, 11), tolerance=2), PRESETS["code"]._replace(area=10, tolerance=2)):
        expected = masks(images, s)
        assert expected.any()
        Package.callers.clear()
        np.testing.assert_array_equal(masks(images, s, 2, name), expected)
        assert len(Package.callers) == 1  # nobody has promised that it may run in two threads
        np.testing.assert_array_equal(segment(images, s, engine=name), segment(images, s))


def test_missing_thesis_package_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "siamxt", None)
    with pytest.raises(ImportError, match="siamxt, the Max-Tree toolbox.*on no package index.*today's NumPy"):
        masks(np.zeros((1, 5, 5)), engine="siamxt")


# ---- speed


def test_segmentation_is_ten_times_faster_than_scikit_image_max_tree():
    """Measured: a hundred times."""
    morphology = pytest.importorskip("skimage.morphology")
    images = stamps(8)
    grey = (images * 255).astype(np.uint8)
    masks(images)

    def fastest(work):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return min(times)

    ours = fastest(lambda: masks(images, threads=1)) / 8
    assert 10 * ours < fastest(lambda: morphology.max_tree(grey[0], connectivity=2))
