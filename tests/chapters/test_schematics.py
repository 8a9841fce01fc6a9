"""Schematics against the network that they show: shapes and counts that are known, and nothing that overlaps."""

import itertools

import keras
import matplotlib.pyplot as plt
import pytest
from matplotlib.path import Path

from lensdet.chapters import schematics, style
from lensdet.network import resnet

FIGURES = (schematics.figure_3_1, schematics.figure_3_2, schematics.figure_4_3)
IMAGES = ["26 × 26 × 64", "13 × 13 × 128", "7 × 7 × 256", "4 × 4 × 512"]


@pytest.fixture(scope="module")
def networks():
    return {width: resnet.resnet18(width) for width in (16, 64)}


@pytest.fixture(autouse=True)
def _look():
    with plt.rc_context(style.STYLE):
        yield
    plt.close("all")


def texts(figure):
    return [text for text in (figure.axes[0].title, *figure.axes[0].texts) if text.get_text()]


def written(figure):
    return [text.get_text() for text in texts(figure)]


def test_residual_block_rebuilt_from_the_schematic_equals_the_network(networks):
    """Its layers in their order, and its skip connection, give what the network gives."""
    model = networks[16]
    resnet.initialise(model, seed=0, run=1)
    stamps = keras.random.uniform((2, 101, 101, 1), seed=1)
    parts = [part for stage in schematics.stages(model)[:-1] for part in stage]
    for before, block in itertools.pairwise(parts):
        x, expected = keras.Model(model.input, [before[-1].output, block[-1].output])(stamps)
        on_skip = [layer for layer in block if schematics.describe(layer).startswith("1 × 1 ")]
        skip = on_skip[0](x) if on_skip else x
        for layer in (layer for layer in block[:-1] if layer not in on_skip):
            x = layer(x)
        assert keras.ops.max(keras.ops.abs(x + skip - expected)) < 1e-5 * keras.ops.max(keras.ops.abs(expected))


def test_figure_3_1_has_the_sizes_of_the_feature_maps(networks):
    sizes = [text.rpartition(": ")[2] for text in written(schematics.figure_3_1(networks[64])) if ": " in text]
    assert sizes[1:] == ["101 × 101 × 1", "51 × 51 × 64", *IMAGES, "512", "1", "1"]  # after the title


def test_figure_3_2_shows_an_identity_and_a_strided_block(networks):
    shown = written(schematics.figure_3_2(networks[64]))
    before = ["batch normalisation", "ReLU"]  # full pre-activation
    for sizes in (("64", "64"), ("128, stride 2", "128")):
        assert "\n↓\n".join(text for size in sizes for text in (*before, f"3 × 3 convolution, {size}")) in shown
    assert {"identity", "1 × 1 convolution, 128, stride 2", "sum add_2: 13 × 13 × 128"} <= set(shown)


def test_figure_4_3_shows_every_layer_with_its_parameters(networks):
    shown = written(schematics.figure_4_3(networks[64]))
    sums = [layer.name for layer in networks[64].layers if layer.name.startswith("add")]
    sizes = [size for size in IMAGES for _ in range(2)]
    assert [text for text in shown if text.startswith("sum")] == [
        f"sum {a}: {b}" for a, b in zip(sums, sizes, strict=True)
    ]
    kinds = [type(layer).__name__ for layer in networks[64].layers]
    assert "".join(shown).count(" convolution, ") == kinds.count("Conv2D")
    assert "".join(shown).count("batch normalisation") == kinds.count("BatchNormalization")
    # counted by hand: kernels and biases of convolutions, four numbers a channel of a normalisation
    parameters = {lines[0]: lines[1] for text in shown if len(lines := text.split("\n")) == 2 and "param" in text}
    assert list(parameters) == ["first layers", "stage 1", "stage 2", "stage 3", "stage 4", "classifier"]
    assert parameters["stage 1"] == f"{4 * (9 * 64 * 64 + 64) + 3 * 4 * 64:,} parameters"
    assert sum(int(n.split()[0].replace(",", "")) for n in parameters.values()) == 11_181_569
    assert "11,181,569 parameters in all" in shown


@pytest.mark.parametrize("draw", FIGURES, ids=lambda f: f.__name__)
def test_text_and_boxes_of_schematics_stay_apart_on_the_page(draw, networks):
    narrow, full = (draw(network) for network in networks.values())
    assert written(narrow) != written(full)
    for figure in (narrow, full):
        assert figure.get_size_inches()[0] == style.PAGE and min(text.get_fontsize() for text in texts(figure)) >= 7
        figure.draw_without_rendering()
        shown = [text.get_bbox_patch() or text for text in texts(figure)]  # a box, where the text has one
        extents = [each.get_window_extent() for each in (*shown, *figure.axes[0].patches)]
        for one, other in itertools.combinations(extents, 2):
            assert not one.overlaps(other)
        assert all(figure.bbox.contains(*corner) for extent in extents for corner in extent.get_points())
        written_at = [text.get_window_extent() for text in texts(figure)]
        for arrow in (text.arrow_patch for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)):
            line = Path(arrow.get_path().vertices[:3])  # the rest is its head
            assert not any(line.intersects_bbox(extent, filled=False) for extent in written_at)


def test_table_3_1_is_the_confusion_matrix_of_the_thesis():
    table = schematics.table_3_1().set_index("")
    assert table.loc["predicted positive", "labelled negative"] == "false positive (FP)"
    assert table.to_numpy().diagonal().tolist() == ["true positive (TP)", "true negative (TN)"]


def test_schematics_are_saved_in_the_folder_of_the_profile(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path))
    schematics.save(smoke)
    names = {f.name for f in (tmp_path / "smoke").iterdir()}
    drawn = {f"fig_{n}.png" for n in ("3_1", "3_2", "4_3")}
    assert names == drawn | {f"table_3_1.{suffix}" for suffix in ("csv", "md", "tex")}
