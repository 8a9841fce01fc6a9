"""A small ranked list as ``lensdet rank`` leaves it, and people who grade it."""

import numpy as np
import pandas as pd
from PIL import Image

from lensdet.survey import candidate_list, grade_log, page


def ranked(folder, ids, pictures=None, **columns):
    """A list of these ids in their order, and pictures of the first of them."""
    n = len(ids)
    table = {"rank": range(1, n + 1), "id": ids, "ra": 150 + np.arange(n) / 100, "dec": -np.arange(n) / 100.0,
             "filled": 0, "ensemble": np.linspace(9, -9, n), "bce": np.linspace(8, -8, n), "flag": ""}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    candidate_list.write(folder, pd.DataFrame(table | columns), [], ["bce"], {})
    stamps = folder / "page" / "stamps"
    stamps.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for rank in range(1, 1 + (n if pictures is None else pictures)):
        strip = page.strip(rng.random((101, 101)), np.zeros((7, 7)))
        Image.fromarray(strip).save(stamps / f"{rank:05d}.jpg")
    return folder


def grade(folder, name, said, **session):
    """A person's grades: texts by id, or dicts of an event; a list of two for two showings."""
    grade_log.start(folder, name, **session)
    events = []
    for i, given in said.items():
        for showing, one in enumerate(given if isinstance(given, list) else [given], 1):
            one = {"grade": one} if isinstance(one, str) else one
            events.append({"id": i, "showing": showing, "seconds": 1.5, **one})
    grade_log.append(folder, name, *events)
