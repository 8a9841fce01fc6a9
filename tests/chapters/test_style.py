"""Figures on made-up input: what is drawn, what is written on it, and that the same figure has the same bytes."""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.text import Text
from sklearn.metrics import fbeta_score, precision_recall_curve, precision_score, recall_score, roc_curve

from lensdet import parameters
from lensdet.chapters import style, thesis
from lensdet.chapters.data import figures as data_figures
from lensdet.chapters.losses import figures as loss_figures
from lensdet.evaluation import calibration
from lensdet.experiments import BCE, F_BETA

matplotlib.use("Agg")  # in this process alone: kernels have their own
plt = style.plt
ROWS = ("Binary Cross Entropy", "F_beta Soft Loss")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Figures of each test in a folder of their own, in the style of the notebooks."""
    monkeypatch.setenv("LENSDET_FIGURES", str(tmp_path / "figures"))
    with plt.rc_context(style.STYLE):
        yield tmp_path / "figures"
    plt.close("all")


def predictions(runs=3, n=60):
    rng = np.random.default_rng(1)
    labels = np.repeat([1.0, 0.0], n // 2)
    return {row: (labels, 2 * labels - 1 + rng.normal(size=(runs, n))) for row in ROWS}


def images(n):
    return np.random.default_rng(2).random((n, 101, 101))


def history(n, seed=0):
    values = np.random.default_rng(seed).random((n, 4))
    return pd.DataFrame(values, columns=["training_loss", "loss", "f_beta", "soft_f_beta"]).assign(chunk=range(n))


DRAW = {
    "stamps": lambda: style.stamps(images(7), list("abcdefg")),
    "mock_lens": lambda: data_figures.figure_4_1(*images(3)),
    "distributions": lambda: data_figures.distributions(
        {"lrg": history(50), "contaminant": history(40, 1)}, {"loss": "loss [arcsec]", "f_beta": "a ratio"}
    ),
    "f_beta_curves": lambda: loss_figures.f_beta_curves(predictions(), 0.17),
    "histograms": lambda: loss_figures.figure_5_2({row: (y, z[0], 1) for row, (y, z) in predictions().items()}),
    "training_curves": lambda: loss_figures.training_curves({"bce": [history(5), history(3, 1)], "f1": [history(4)]}),
    "histogram": lambda: loss_figures.figure_7_1({BCE: (None, np.random.default_rng(3).normal(size=100), 1)}),
    "precision_recall": lambda: loss_figures.precision_recall(bold(), FOREST),
    "roc": lambda: loss_figures.roc(bold()),
    "effective": lambda: loss_figures.effective(
        pd.DataFrame({"model": ROWS, "predicted": [0.9, 0.5], "effective": [0.8, 0.6]})
    ),
    "reliability": lambda: loss_figures.reliability(RELIABILITY),
    "false_positive_rates": lambda: loss_figures.false_positive_rates(FALSE_POSITIVES),
    "inspected": lambda: loss_figures.inspected(bold(), CONTAMINANT, 0.8, 0.001),
    "empty": lambda: style.empty("there is nothing"),
}
FOREST = pd.DataFrame({"model": ROWS[1:], "target": 0.7, "difference": [0.02], "low": [-0.01], "high": [0.05]})
_BEFORE = calibration.Reliability(np.array([0.2, 0.8]), np.array([0.1, 0.9]), np.array([20, 50]))
RELIABILITY = {row: (_BEFORE._replace(count=np.array([9, 50])), _BEFORE) for row in ROWS}
FALSE_POSITIVES = pd.DataFrame(
    [{"model": row, "threshold": t, "kind": kind, "run": 2, "n": 9, "rate": 0.3, "low": 0.1, "high": 0.6}
     for row in ROWS for t in ("p = 0.5", "own") for kind in ("lrg", "ring", "contaminant")]
)  # fmt: skip


CONTAMINANT = (np.arange(60) % 2 == 0) & (np.arange(60) >= 30)  # every other negative


def bold():
    """Predictions, of which run 1 stands out."""
    return {row: (y, z, 1) for row, (y, z) in predictions().items()}


def shown(figure):
    """The axes with something in them."""
    return [a for a in figure.axes if a.axison and (a.lines or a.patches or a.images)]


@pytest.mark.parametrize("name", DRAW)
def test_same_figure_gives_same_bytes(here, smoke, name, monkeypatch):
    monkeypatch.setenv("LENSDET_PDF", "yes")
    found = []
    for _ in range(2):
        figure = DRAW[name]()
        style.publish(figure, name, smoke, 2)
        files = sorted((here / "smoke").iterdir())
        assert [f.name for f in files] == [f"{name}.pdf", f"{name}.png"]
        found.append([f.read_bytes() for f in files])
    assert found[0] == found[1]
    pdf, png = found[0]
    assert pdf.startswith(b"%PDF") and png.startswith(b"\x89PNG")
    assert b"CreationDate" not in pdf and b"Software" not in png


CURVES = """
from lensdet import parameters
from lensdet.chapters import style, thesis
from lensdet.chapters.losses import figures as loss_figures
import numpy as np

with style.plt.rc_context(style.STYLE):
    z = np.random.default_rng(0).normal(size=(2, 20))
    figure = loss_figures.f_beta_curves({"F_1 Soft loss": (np.repeat([1.0, 0.0], 10), z)}, 0.17)
    style.save(figure, "curves", parameters.resolve({"profile": "smoke"}))
"""


def test_same_figure_gives_same_bytes_in_another_process(here):
    exec(CURVES, {})
    found = [f.read_bytes() for f in sorted((here / "smoke").iterdir())]
    environment = {**os.environ, "PYTHONHASHSEED": "17"}
    subprocess.run([sys.executable, "-c", CURVES], env=environment, check=True)
    assert found == [f.read_bytes() for f in sorted((here / "smoke").iterdir())]


ONE_PANEL = ["roc", "effective", "false_positive_rates", "inspected"]


@pytest.mark.parametrize("name", ONE_PANEL)
def test_both_axes_of_every_figure_have_labels(name):
    (axis,) = shown(DRAW[name]())
    assert axis.get_ylabel() and (axis.get_xlabel() or len(axis.get_xticklabels()) == 2) and axis.get_legend()


def points(axis, marker="o"):
    """The markers of p = 0.5, in the order of models and runs, or others."""
    found = [line for line in axis.lines if line.get_marker() == marker and len(line.get_xdata())]
    return np.array([(line.get_xdata()[0], line.get_ydata()[0]) for line in found])


def test_precision_recall_figure_shows_points_curves_and_differences():
    left, _, right = DRAW["precision_recall"]().axes
    expected = [(recall_score(y, z >= 0), precision_score(y, z >= 0)) for y, runs, _ in bold().values() for z in runs]
    np.testing.assert_allclose(points(left), expected)
    curve = next(line for line in left.lines if line.get_marker() == "None")
    y, z = predictions()[ROWS[0]]
    precision, recall, _ = precision_recall_curve(y, z[1])
    found = set(zip(curve.get_xdata().round(9), curve.get_ydata().round(9), strict=True))
    assert set(zip(recall[:-1].round(9), precision[:-1].round(9), strict=True)) <= found
    np.testing.assert_allclose(points(right), [(0.02, 0)])
    assert [text.get_text() for text in right.texts] == ["$F_\\beta$ soft loss, at recall 0.700"]
    assert "needs cross-entropy" in loss_figures.precision_recall(bold(), FOREST[:0]).axes[2].texts[0].get_text()
    known = thesis.TABLE_5_1[F_BETA]
    assert [known["recall"][0], known["precision"][0]] in points(left, "D").tolist()


def test_roc_figure_equals_scikit_learn():
    (axis,) = shown(DRAW["roc"]())
    y, z = predictions()[ROWS[0]]
    fpr, tpr, _ = roc_curve(y, z[1], drop_intermediate=False)
    curve = next(line for line in axis.lines if line.get_marker() == "None")
    np.testing.assert_allclose(curve.get_ydata(), tpr)
    np.testing.assert_allclose(curve.get_xdata(), np.maximum(fpr, 0.5 / 30))  # none of 30 is drawn at half of one


def test_inspected_per_lens_figure_equals_a_plain_loop():
    (axis,) = shown(DRAW["inspected"]())
    y, z, k = bold()[ROWS[0]]
    everything, seen = axis.lines[:2]
    for recall, wrong in zip(seen.get_xdata(), seen.get_ydata(), strict=True):
        cut = np.sort(z[k][y == 1])[::-1][round(recall * 30) - 1]
        rates = [(z[k][(y == 0) & (c == CONTAMINANT)] >= cut).mean() for c in (False, True)]
        assert min(rates) > 0
        assert wrong == pytest.approx((0.2 * rates[0] + 0.8 * rates[1]) * 0.999 / (recall * 0.001))
    assert len(everything.get_xdata()) == 30 > len(seen.get_xdata())  # dotted where a kind has no false positive
    floor = (1 - 0.025 ** (1 / 15)) * 0.999 / 0.001 * 30  # none of 15 and of 15, one lens found
    assert everything.get_ydata()[0] == pytest.approx(floor)


def test_a_bin_of_a_few_images_is_not_drawn():
    before, after = DRAW["reliability"]().axes
    assert [len(axis.lines[1].get_xdata()) for axis in (before, after)] == [1, 2]


def test_contaminants_are_drawn_as_one_where_kinds_are_not_known():
    together = FALSE_POSITIVES[FALSE_POSITIVES.kind != "ring"]
    (axis,) = shown(loss_figures.false_positive_rates(together))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["lrg\nn = 9", "contaminant\nn = 9"]


def test_single_histogram_counts_every_image_and_ends_at_a_round_top():
    (axis,) = shown(DRAW["histogram"]())
    assert sum(patch.get_height() for patch in axis.patches) == 100
    assert axis.get_ylim()[1] % 10 == 0 and axis.get_xlabel() == "Prediction" and axis.get_ylabel() == "Frequency"


def test_false_positive_figure_has_a_place_for_each_known_kind():
    (axis,) = shown(DRAW["false_positive_rates"]())
    assert [label.get_text() for label in axis.get_xticklabels()] == ["lrg\nn = 9", "ring\nn = 9"]
    x = np.concatenate([line.get_xdata() for line in axis.lines if line.get_marker() == "o"])
    assert len(set(x.round(9))) == 4


def test_shared_labels_and_legends_are_drawn_once():
    axes = shown(DRAW["distributions"]())
    assert [a.get_xlabel() for a in axes] == ["loss [arcsec]", "a ratio"]
    assert axes[0].get_ylabel() == "density"
    assert [t.get_text() for t in axes[1].get_legend().get_texts()] == ["lrg", "contaminant"]
    axes = shown(DRAW["mock_lens"]())
    assert [a.get_xlabel() for a in axes[:3]] == ["x [arcsec]"] * 3 and axes[0].get_ylabel() == "y [arcsec]"
    assert all(a.get_images()[0].get_extent() == [-10.1, 10.1, -10.1, 10.1] for a in axes[:3])
    axes = shown(DRAW["training_curves"]())
    assert len(axes) == 8
    assert all(a.get_title() for a in axes) and all(a.get_xlabel() == "chunk" for a in axes[4:])


def test_f_beta_curves_equal_scikit_learn():
    axes = shown(loss_figures.f_beta_curves(predictions(), 0.17, thesis.COLOURS))
    labels, logits = predictions()[F_BETA]
    p = 1 / (1 + np.exp(-logits))
    scores = (lambda y, a: fbeta_score(y, a, beta=0.17)), precision_score, recall_score
    for axis, score, name in zip(axes, scores, ("f_beta", "precision", "recall"), strict=True):
        line = next(line for line in axis.lines if line.get_color() == "blue")
        for k in (4, 49, 79):
            expected = np.mean([score(labels, run >= line.get_xdata()[k]) for run in p])
            assert line.get_ydata()[k] == pytest.approx(expected)
        assert {thesis.TABLE_5_1[row][name][0] for row in ROWS} <= {y for _, y in points(axis, "D")}
    bands = [sum(isinstance(c, PolyCollection) for c in axis.collections) for axis in axes]
    assert bands == [2, 0, 0]  # a band a row
    one = shown(loss_figures.f_beta_curves(predictions(runs=1), 0.17))[0]
    assert not any(isinstance(c, PolyCollection) for c in one.collections)  # one run has no spread


def test_histograms_count_every_image():
    for axis in shown(DRAW["histograms"]()):
        lenses, negatives = axis.patches[:-1], axis.patches[-1].get_path().vertices  # bars; a line of steps
        assert sum(patch.get_height() for patch in lenses) == 30 and negatives[:, 1].max() <= 30
        assert "run 1" in axis.get_title() and "below 0.01 or above 0.99" in axis.get_title()


def test_training_curves_average_the_chunks_that_all_runs_have():
    bold = [line for line in loss_figures.training_curves({"bce": [history(5), history(3, 1)]}).axes[0].lines][-1]
    np.testing.assert_array_equal(bold.get_xdata(), [1, 2, 3])
    expected = (history(5).training_loss[:3] + history(3, 1).training_loss) / 2
    np.testing.assert_allclose(bold.get_ydata(), expected)


@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_every_stamp_has_its_own_panel(n):
    figure = style.stamps(images(n))
    assert sum(bool(a.images) for a in figure.axes) == n
    for axis in figure.axes[:n]:
        assert axis.images[0].origin == "lower" and axis.images[0].get_clim() == (0, 1)


# ---- what is written on a figure


def test_caption_says_what_data_and_training_made_a_figure(here, tmp_path):
    p = parameters.resolve({"profile": "lite", "protocol": "code", "data": tmp_path / "kids"})
    figure = style.empty("")
    style.publish(figure, "seen", p, 3)
    for words in ("profile lite", "protocol code", "stamps of kids", "3 runs", "851,968 images a run, width 64"):
        assert words in figure.get_supxlabel()
    style.publish(figure, "seen", p, 3, hardware="NVIDIA H200")
    assert "· NVIDIA H200" in figure.get_supxlabel()
    style.publish(figure, "seen", parameters.resolve({"profile": "quick"}), 1)
    assert "simulated survey" in figure.get_supxlabel() and "1 run ·" in figure.get_supxlabel()
    style.publish(figure, "seen", p)  # of the data alone: nothing was trained
    assert "run" not in figure.get_supxlabel()


def test_figure_file_is_named_after_its_function(here, smoke):
    style.publish(data_figures.figure_4_2(images(3), ["ring"] * 3), data_figures.figure_4_2, smoke)
    assert {f.name for f in (here / "smoke").iterdir()} == {"fig_4_2.png"}  # a PDF only when asked for


def test_a_figure_of_what_is_not_there_is_left_as_it_is(here, smoke, capsys):
    style.keep(data_figures.figure_1_2, smoke, "no real stamps; set real_stamps")
    assert capsys.readouterr().out == "fig_1_2.png is not drawn: no real stamps; set real_stamps\n"
    style.save(data_figures.figure_1_2(images(3), list("abc")), data_figures.figure_1_2, smoke)
    before = (here / "smoke" / "fig_1_2.png").read_bytes()
    style.keep(data_figures.figure_1_2, smoke, "no real stamps; set real_stamps")
    assert "fig_1_2.png is kept as it was" in capsys.readouterr().out
    assert (here / "smoke" / "fig_1_2.png").read_bytes() == before


def test_tables_have_six_digits_whatever_the_processor(here, smoke):
    third = 1 / 3
    for number in (third, np.nextafter(third, 1)):
        table = pd.DataFrame({"name": ["a"], "n": [1234567], "value": [number], "small": [number * 1e-9]})
        style.save_table(table, "t", smoke)
        assert (here / "smoke" / "t.csv").read_text() == "name,n,value,small\na,1234567,0.333333,3.33333e-10\n"
        assert "0.333333 &" in (here / "smoke" / "t.tex").read_text()
        assert "| 0.333333 | 3.33333e-10 |" in (here / "smoke" / "t.md").read_text()


def test_labels_of_lines_that_end_together_are_not_crossed_by_what_leads_to_them():
    figure, (axis, _) = style.plt.subplots(1, 2, figsize=(style.PAGE, 3.5), width_ratios=(2, 1))
    for i, end in enumerate((0.93, 0.9, 0.876, 0.823, 0.822, 0.82)):
        axis.plot([0, 1], [0.6, end], label=f"a model, number {i}\nweight")
    style.label_lines(axis)
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text).padded(-1) for text in axis.texts]  # without what leads to it
    for text in axis.texts:
        path = text.arrow_patch.get_path().transformed(text.arrow_patch.get_transform())
        assert not any(path.intersects_bbox(box, filled=False) for box in boxes), text.get_text()


def test_a_number_of_one_has_a_singular():
    assert [style.number_of(n, "run") for n in (0, np.int64(1), 1234)] == ["0 runs", "1 run", "1,234 runs"]


# ---- where it goes


def test_changed_parameters_draw_into_a_folder_of_their_own(here, tmp_path):
    def name(**given):
        folder = style.folder(parameters.resolve(given))
        assert folder.parent == here
        return folder.name

    assert name() == name(profile="quick") == "quick"
    assert name(profile="smoke") == "smoke"
    assert name(experiments=["fbeta"]) == name(experiments="fbeta", beta=0.17) == "quick-fbeta"
    assert name(experiments=["bce", "f1"]) == "quick-bce-f1"
    assert name(experiments=["bce", "fbeta:0.5"]) == "quick-bce-fbeta_0.5"  # no colon in a path
    assert name(experiments=list(parameters.LOSSES)) == "quick"
    # where it runs does not change what is drawn
    assert name(workers=1, on_bad="raise", real_stamps=tmp_path) == "quick"
    others = {name(runs=1), name(protocol="code"), name(beta=1), name(data=tmp_path), name(experiments="f1", beta=1)}
    assert len(others) == 5 and all(other.startswith("quick-") for other in others)


def test_figures_go_to_the_repository_by_default(tmp_path, monkeypatch, smoke):
    monkeypatch.delenv("LENSDET_FIGURES")
    monkeypatch.setenv("LENSDET_ROOT", str(tmp_path))
    assert style.folder(parameters.resolve({})) == tmp_path / "figures" / "quick"


def test_tables_are_written_as_csv_markdown_and_latex(here, smoke):
    table = pd.DataFrame({"model": ["F_1"], "mean": [1 / 3]})
    readable = pd.DataFrame({"F_beta": ["0.333; 50 %"]}, index=pd.Index(["F_1"], name="model"))
    style.save_table(table, "t", smoke, readable)
    found = {f.suffix: f.read_text() for f in (here / "smoke").iterdir()}
    assert set(found) == {".csv", ".md", ".tex"}
    assert pd.read_csv(here / "smoke" / "t.csv")["mean"][0] == 0.333333
    assert "| F_1     | 0.333; 50 % |" in found[".md"]
    assert r"F\_1 & 0.333; 50 \% \\" in found[".tex"] and r"\toprule" in found[".tex"]
    for text in (found[".md"], found[".tex"]):  # what made it
        assert "simulated survey · profile smoke" in text
    kids = parameters.resolve({**smoke.model_dump(), "data": here / "my_kids"})
    style.save_table(table, "run", kids, runs=3)
    (written,) = here.glob("smoke-*/run.tex")
    assert r"\caption{stamps of my\_kids" in written.read_text() and "3 runs" in written.read_text()
    style.save_table(table, "published", smoke, protocol="code")  # in the folder of the parameters all the same
    assert "protocol code" in (here / "smoke" / "published.md").read_text().splitlines()[-1]
    style.save_table(table, "plain", smoke)
    assert "model" in (here / "smoke" / "plain.md").read_text().splitlines()[0]


# ---- the command
