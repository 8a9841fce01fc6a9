"""A survey to try the ranking on."""

import numpy as np
import pandas as pd

from lensdet import demonstration, simulation, stamps


def test_lenses_are_hidden_among_stamps(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path))
    folder = demonstration.survey(smoke)
    truth = pd.read_csv(folder.with_name("truth.csv"), dtype={"id": str})
    assert [f.name for f in stamps.fits_below(folder)] == truth["id"].tolist()
    assert truth["lens"].sum() == 4 and len(truth) == 28
    assert truth["alpha"].notna().sum() == truth["einstein_radius"].notna().sum() == 4
    assert set(truth["kind"][truth["lens"] == 0]) == {"lrg", "contaminant"} and set(
        truth["kind"][truth["lens"] == 1]
    ) == {"lrg"}

    i = int(np.flatnonzero(truth["lens"])[0])
    bare, _ = simulation.render("lrg", demonstration.FIRST + i, smoke)
    pixels, _ = stamps.read_stamp(folder / truth["id"][i])
    light = (pixels - bare) / np.ptp(bare)  # Eq. 4.2, on the scale of the normalised galaxy
    assert light.max() == np.float32(light.max()) and abs(light.max() - truth["alpha"][i]) < 1e-4

    first = {f: f.read_bytes() for f in stamps.fits_below(folder)}
    times = {f: f.stat().st_mtime_ns for f in first}
    assert demonstration.survey(smoke) == folder and {f: f.stat().st_mtime_ns for f in first} == times  # made once
    monkeypatch.setenv("LENSDET_BUILD", str(tmp_path / "again"))
    again = demonstration.survey(smoke)
    assert [f.read_bytes() for f in stamps.fits_below(again)] == list(first.values())
