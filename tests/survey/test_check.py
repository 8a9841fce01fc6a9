"""A look at a survey says what ranking it does, with remedies, and is an error only where nothing can be ranked."""

from typing import ClassVar

import numpy as np
import pytest

from lensdet import cli
from lensdet.survey import check, cutouts
from tests.survey import cases


class Constant:
    """A finder that gives all stamps one logit."""

    limits = -1.0, 1.0
    quality: ClassVar[dict] = {}

    def score(self, pixels):
        return np.zeros(len(pixels), np.float32)


def looked(job):
    lines = check.look(job, {"bce": Constant()}, 1)
    return {line.text.split(":")[0].split(" are passed")[0]: line for line in lines}, [line.text for line in lines]


def folder(path, **contents):
    for name, content in contents.items():
        (path / f"{name}.fits").write_bytes(content)
    return cutouts.plan_folder(path)


def test_a_good_survey_has_no_warning_and_says_what_it_is(tmp_path):
    lines, texts = looked(
        folder(
            tmp_path,
            a=cases.image(cases.galaxy(), cases.sky(FILTER="r")),
            b=cases.image(header=cases.bare(PIXSCALE=0.2)),
        )
    )
    assert {line.level for line in lines.values()} == {"ok"}
    assert "band: r (1), none named, taken for r (1)" in texts, texts
    assert "arcsec a pixel: 0.2 (2)" in texts
    assert "2 of 2 can be ranked as the finders were trained" in texts and "on this machine" in texts[-1]


def test_what_is_left_out_flagged_or_passed_over_is_a_warning_with_its_remedy(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    noise = np.random.default_rng(1).normal(size=(101, 101)).astype("f4")
    good = {f"g{i}": cases.image() for i in range(3)}
    of_i = cases.image(cases.galaxy(), cases.sky(FILTER="i"))
    lines, texts = looked(folder(tmp_path, **good, i=of_i, noise=cases.image(noise)))
    assert "FILTER = 'i'" in lines["band"].text
    left_out = next(line for line in lines.values() if "are left out" in line.text)
    assert left_out.level == "warning" and "1 of 5" in left_out.text and "-p band r" in left_out.remedy
    assert lines["faint centre"].level == "warning" and lines["faint centre"].remedy
    assert any("'notes.txt'" in text for text in texts) and "3 of 5 can be ranked as the finders were trained" in texts


@pytest.mark.parametrize(
    "cards, remedy",
    [({"FILTER": "i"}, "-p band r"), ({"without": (*cases.CD, "CTYPE1", "CTYPE2")}, "-p pixel_scale 0.2")],
)
def test_where_nothing_can_be_ranked_it_is_an_error_with_its_remedy(tmp_path, capsys, cards, remedy):
    job = folder(tmp_path, **{n: cases.image(cases.galaxy(), cases.sky(**cards)) for n in "abc"})
    lines = check.look(job, {"bce": Constant()}, 1)
    wrong = [line for line in lines if line.level == "error"]
    assert len(wrong) == 1 and "3 of 3 are left out" in wrong[0].text and remedy in wrong[0].remedy
    assert cli._print_lines(lines) == 1 and "error   " in capsys.readouterr().out


def test_positions_off_the_tiles_are_named_with_their_share(tmp_path):
    (tmp_path / "t.fits").write_bytes(cases.image(cases.galaxy((300, 300)), cases.sky((300, 300))))
    path = cases.catalogue(tmp_path / "c.csv", {"a": (cases.RA, cases.DEC), "b": (10.0, 2.0)})
    lines, _ = looked(cutouts.plan_tiles(path, tmp_path / "t.fits"))
    assert lines["off the tiles"].level == "warning" and "1 of 2" in lines["off the tiles"].text
    assert "-p tiles" in lines["off the tiles"].remedy
