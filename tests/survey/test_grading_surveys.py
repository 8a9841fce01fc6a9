"""Grading of surveys that are no folder of stamps: images with a catalogue, and one HDF5 file."""

import numpy as np
import pytest

from lensdet.survey import grade_log
from tests.survey import lists
from tests.survey.test_grading import tab


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return lists.ranked_tiles(tmp_path_factory.mktemp("tiles"), 8, "gri")


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    return lists.ranked_array(tmp_path_factory.mktemp("array"), 8)


def shown(mine):
    """Of all pictures: grey and colour, None without, and what is said of them."""
    mine.ask("pictures", items=list(range(mine.ask("begin")["n"])), now=True)
    made = [(of, buffers) for of, buffers in mine.got if of["is"] == "pictures"]
    assert not [of["text"] for of, _ in made if "text" in of]
    grey = [np.frombuffer(buffers[0], "f2").astype(float).reshape(101, 101) for _, buffers in made]
    colour = [np.frombuffer(b[1], "u1").reshape(101, 101, 3).astype(float) if len(b) > 1 else None for _, b in made]
    return grey, colour, [of["about"] for of, _ in made]


def test_stamps_of_large_images_are_shown_in_colour_whatever_the_grid_of_the_other_bands(tiles):
    mine = tab(tiles, "ann", repeats=0)
    grey, colour, about = shown(mine)
    assert len(grey) == 8 and [of is None for of in colour] == [False] * 7 + [True]  # no image of g there
    for pixels, of in zip(grey[:7], colour, strict=False):
        assert np.hypot(*np.subtract(np.unravel_index(pixels.argmax(), pixels.shape), 50)) < 3
        light = of.reshape(-1, 3)
        assert np.corrcoef(light.T).min() > 0.7  # one galaxy in all bands, not three beside each other
    turned = np.degrees(np.arctan2(*about[5]["north"]))
    assert abs(about[0]["north"][0]) < 1e-3 and abs(abs(turned) - 30) < 0.1
    assert about[0]["ra"] is not None


def test_stamps_of_an_hdf5_file_are_those_of_their_rows(array):
    mine = tab(array, "ann", repeats=0)
    grey, colour, about = shown(mine)
    assert len(grey) == 8 and colour == [None] * 8
    for k, pixels in enumerate(grey):
        assert np.corrcoef(pixels.ravel(), lists.stamp(k).ravel())[0, 1] > 0.999
    assert "north" not in about[0] and about[3]["ra"] == pytest.approx(150.03)


@pytest.mark.parametrize("kind", ["tiles", "array"])
def test_grades_have_places_and_are_taken_up_again(kind, request):
    output = request.getfixturevalue(kind)
    mine = tab(output, kind, repeats=0, order="shuffled", controls={"painted": 1, "known": 1})
    shown(mine)
    mine.grade(3, "A", note="arc")
    mine.ask("grade", said=[{"item": k, "grade": "X"} for k in (0, 1)], view="mosaic", seconds=1)
    begun = {k: mark["grade"] for k, mark in tab(output, kind).ask("begin")["marks"]}
    assert begun == {0: "X", 1: "X", 3: "A"}
    assert grade_log.read(output, kind)[["ra", "dec"]].notna().all(axis=None)
