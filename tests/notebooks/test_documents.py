"""Notebooks are documents: the equations of their methods, a caption below each figure, the answer and a discussion."""

import re

import jupytext
import pytest

from lensdet.papermill.pages import mathml
from tests.notebooks.test_notebooks import NOTEBOOKS

# Of the thesis, that a notebook's method is made of.
EQUATIONS = {
    "01_data": ("4.1", "4.2"),
    "02_losses": ("3.5", "3.14", "3.17", "3.19", "3.21"),
    "03_gradcam": ("3.24", "3.25"),
    "04_information": (),
    "05_ensembles": ("3.22", "3.23"),
    "06_maxtree": ("4.3",),
    "07_candidates": ("4.1",),
}
LINES = 15  # of a cell, other than imports and parameters


@pytest.fixture(params=EQUATIONS)
def cells(request):
    return request.param, jupytext.read(NOTEBOOKS / f"{request.param}.py").cells


def test_equations_of_the_method_are_shown_and_the_site_can_draw_each_formula(cells):
    number, found = cells
    text = "\n\n".join(cell.source for cell in found if cell.cell_type == "markdown")
    displayed = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    inline = re.findall(r"(?<!\$)\$([^$]+)\$(?!\$)", text)
    assert displayed
    for equation in EQUATIONS[number]:
        assert any(rf"\qquad ({equation})" in formula for formula in displayed), equation
    for formula in displayed + inline:
        assert mathml(formula).startswith("<math"), formula


def test_each_figure_has_its_caption_below_it(cells):
    _, found = cells
    for cell, after in zip(found, [*found[1:], None], strict=True):
        if re.search(r"style\.(publish|save|keep)\(|schematics\.save\(", cell.source):
            assert after is not None and re.match(r"\*\*(Figure|Table)s? .+?\.\*\* ", after.source), cell.source


def test_the_answer_comes_first_and_a_discussion_last_and_cells_are_short(cells):
    _, found = cells
    headings = [line for cell in found for line in cell.source.split("\n") if line.startswith("## ")]
    assert "## The answer" in headings[:3] and headings[-1] == "## Discussion"
    for cell in found:
        long = cell.cell_type == "code" and len(cell.source.split("\n")) > LINES
        assert not long or "\nimport " in f"\n{cell.source}" or "parameters" in cell.metadata.get("tags", [])
