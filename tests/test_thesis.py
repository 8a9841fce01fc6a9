"""The published numbers agree with each other and with the names of the package."""

import matplotlib.colors
import pytest

from lensdet import thesis
from lensdet.parameters import LOSSES
from lensdet.selection import SELECTORS

TABLES = [thesis.TABLE_5_1, thesis.TABLE_5_2, thesis.TABLE_5_3]
ALL_ROWS = [(name, row) for table in TABLES for name, row in table.items()]


def accuracy_of(row):
    """What precision and recall leave for the accuracy on as many lenses as negatives."""
    precision, recall = row["precision"][0], row["recall"][0]
    return (recall + 1 - recall * (1 / precision - 1)) / 2


@pytest.mark.parametrize("name", [*thesis.TABLE_5_1, *thesis.TABLE_5_3])
def test_accuracy_follows_from_precision_and_recall(name):
    row = {**thesis.TABLE_5_1, **thesis.TABLE_5_3}[name]
    assert row["accuracy"][0] == pytest.approx(accuracy_of(row), abs=0.003)


def test_accuracy_of_ensembles_does_not():
    # their column is a mean over all thresholds; accuracies at p = 0.49 would be these
    at_threshold = {"NM_3": 0.935, "NM_6": 0.938, "IDE_6": 0.920, "IDE_3": 0.914}
    for name, row in thesis.TABLE_5_2.items():
        assert accuracy_of(row) == pytest.approx(at_threshold[name], abs=1e-3)
        assert accuracy_of(row) - row["accuracy"][0] > 0.007


@pytest.mark.parametrize("name, row", ALL_ROWS)
def test_f_beta_follows_from_precision_and_recall(name, row):
    precision, recall = row["precision"][0], row["recall"][0]
    assert row["f_beta"][0] == pytest.approx(1.03 * precision * recall / (0.03 * precision + recall), abs=0.002)


@pytest.mark.parametrize("name, row", ALL_ROWS)
def test_rows_are_complete(name, row):
    assert list(row) == ["accuracy", "f_beta", "precision", "recall"]
    assert all(0.5 < mean < 1 and 0 < spread < 0.05 for mean, spread in row.values())


def test_best_of_table_5_1():
    best = {m: max(thesis.TABLE_5_1, key=lambda row: thesis.TABLE_5_1[row][m][0]) for m in ("accuracy", "recall")}
    assert best == {"accuracy": "Binary Cross Entropy", "recall": "F_1 Soft loss"}  # section 5.1


def test_every_row_has_its_experiment_and_colour():
    assert list(thesis.ROWS) == list(thesis.COLOURS) == list(thesis.TABLE_5_1)
    assert {loss for loss, _ in thesis.ROWS.values()} == set(LOSSES)
    assert all(matplotlib.colors.is_color_like(c) for c in thesis.COLOURS.values())
    assert len(set(thesis.COLOURS.values())) == 6
    for _, selector in thesis.ROWS.values():
        assert set(selector) == {"text", "code"}
        assert selector["code"].startswith("code_") and not selector["text"].startswith("code_")
        assert set(selector.values()) <= set(SELECTORS)
