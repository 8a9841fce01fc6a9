"""Schematics against the network that they show: shapes and counts that are known, and nothing that overlaps."""

import itertools

import keras
import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyBboxPatch

from lensdet.chapters import schematics
from lensdet.chapters import style as figures
from lensdet.network import resnet

DRAW = (schematics.convolutional_network, schematics.residual_block, schematics.architecture)


@pytest.fixture(scope="module")
def full():
    return resnet.resnet18()


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context(figures.STYLE):
        yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_blocks_are_those_of_the_network(full):
    found = schematics.blocks(full)
    assert [block.add.name for block in found] == ["add", *(f"add_{i}" for i in range(1, 8))]
    assert [block.source.name for block in found[1:]] == [block.add.name for block in found[:-1]]
    kinds = [[type(layer).__name__ for layer in block.branch] for block in found]
    whole = ["BatchNormalization", "ReLU", "Conv2D"] * 2  # full pre-activation
    assert kinds == [whole[2:], *[whole] * 7]
    # a skip connection has a convolution where the size changes, and there alone
    assert [i for i, block in enumerate(found) if block.shortcut] == [2, 4, 6]
    for block in (found[i] for i in (2, 4, 6)):
        assert block.shortcut.kernel_size == (1, 1) and block.shortcut.strides == (2, 2)


def test_a_block_can_be_built_from_what_is_said_of_it():
    """The layers of a block, applied in their order, give what the network gives."""
    model = resnet.resnet18(width=8)
    resnet.initialise(model, seed=0, run=1)
    stamps = keras.random.uniform((2, 101, 101, 1), seed=1)
    for block in schematics.blocks(model)[:3]:
        ends = [block.source.output, block.add.output]
        source, expected = keras.Model(model.input, ends)(stamps)
        x = source
        for layer in block.branch:
            x = layer(x)
        skip = block.shortcut(source) if block.shortcut else source
        assert keras.ops.max(keras.ops.abs(x + skip - expected)) < 1e-5


def test_every_layer_is_in_one_column(full):
    columns = schematics.stages(full)
    assert list(columns) == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"]
    assert sorted(layer.name for own in columns.values() for layer in own) == sorted(x.name for x in full.layers)
    # counted by hand: kernels and biases of convolutions, four numbers a channel of a normalisation
    counts = {name: sum(layer.count_params() for layer in own) for name, own in columns.items()}
    assert counts["stem"] == 7 * 7 * 64 + 64 + 4 * 64
    assert counts["stage 1"] == 4 * (9 * 64 * 64 + 64) + 3 * 4 * 64
    assert counts["head"] == 4 * 512 + 512 + 1
    assert sum(counts.values()) == 11_181_569


def test_what_is_written(full):
    sizes = ["26 × 26 × 64", "13 × 13 × 128", "7 × 7 × 256", "4 × 4 × 512"]
    written = texts(schematics.architecture(full))
    assert {"add", *(f"add_{i}" for i in range(1, 8)), *sizes, "8,398,336"} <= set(written)
    assert any("11,181,569" in text for text in written)
    assert sum("3 × 3, " in text for text in written) == 16 + 1  # and the pooling
    assert sum("1 × 1, " in text for text in written) == 3
    firsts = [text.split("\n")[0] for text in texts(schematics.convolutional_network(full))]
    assert [t for t in firsts if "×" in t] == ["101 × 101 × 1", "51 × 51 × 64", *sizes]
    written = texts(schematics.residual_block(full))
    assert written.count("rectifier (ReLU)") == 4 and "3 × 3 convolution, 128, stride 2" in written


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("draw", DRAW, ids=lambda f: f.__name__)
def test_nothing_overlaps_or_leaves_the_page(draw, width, full):
    figure = draw(full if width == 64 else resnet.resnet18(width))
    figure.draw_without_rendering()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    assert figure.get_size_inches()[0] <= 7.2
    written = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    extents = [text.get_window_extent(renderer) for text in written]
    for text, extent in zip(written, extents, strict=True):
        assert text.get_fontsize() >= 7
        assert page.x0 < extent.x0 and extent.x1 < page.x1 and page.y0 < extent.y0 and extent.y1 < page.y1, text
        for box in boxes:  # inside or outside
            inside = box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
            assert inside or not box.overlaps(extent), text
    for one, other in (*itertools.combinations(extents, 2), *itertools.combinations(boxes, 2)):
        assert not one.overlaps(other)


def test_the_confusion_matrix_is_that_of_the_thesis():
    table = schematics.confusion_matrix().set_index("")
    assert table.loc["predicted positive", "labelled negative"] == "false positive (FP)"
    assert table.loc["predicted negative", "labelled positive"] == "false negative (FN)"
    assert table.to_numpy().diagonal().tolist() == ["true positive (TP)", "true negative (TN)"]


def test_all_are_saved_beside_the_others(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path))
    schematics.save(smoke)
    names = {f.name for f in (tmp_path / "smoke").iterdir()}
    drawn = {f"fig_{n}.{suffix}" for n in ("3_1", "3_2", "4_3") for suffix in ("png", "pdf")}
    assert names == drawn | {f"table_3_1.{suffix}" for suffix in ("csv", "md", "tex")}
