"""Grading in a notebook: a widget that shows the candidates of a ranked list and takes a key for each.

Jupyter authenticates whoever grades, on a machine far away too: nothing else listens.  What a key says is in the log
(`grade_log`) and on the disk before the next picture shows.
"""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Literal

import anywidget
import yaml

from lensdet.survey import grade_log
from lensdet.survey.controls import check_controls, known_lenses, painted_arcs
from lensdet.survey.grade_log import Order
from lensdet.survey.grading_pictures import Pictures
from lensdet.survey.grading_session import Session

MOSAIC = (40, 100)  # stamps on a screen, the fewest and the most
SCRIPTS = ("grading_pictures", "grading_keys", "grading_mosaic", "grading")  # one module, in this order
_HERE = Path(__file__).parent


class Grading(anywidget.AnyWidget):
    """The widget; its messages are answered in the order in which they come, pictures by a thread.

    Parameters
    ----------
    session, pictures
    scores : bool
        Show the list's scores, ranks and matches.
    view : {"single", "mosaic"}
        To begin with.
    mosaic : int
        Stamps on a screen.
    """

    _esm = "".join((_HERE / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    _css = (_HERE / "grading.css").read_text("utf-8")

    def __init__(self, session: Session, pictures: Pictures, scores: bool, view: str, mosaic: int) -> None:
        super().__init__()
        self._session, self._pictures = session, pictures
        self._how = {"scores": scores, "view": view, "mosaic": mosaic}
        self._thread, self._waiting, self._lock = ThreadPoolExecutor(1), deque(), Lock()
        self.on_msg(self._receive)

    def _receive(self, _, message, __):
        """Answer a message of a tab; an error is shown there, and what it asked for is not done."""
        to, number = message.get("from"), message.get("number")
        try:
            known = {"begin": self._begin, "grade": self._grade, "note": self._note, "undo": self._undo}
            answer = known.get(message["ask"])
            if answer:
                self.send({"is": message["ask"], "to": to, "number": number, **answer(message)})
            else:
                self._queue([(message["ask"], int(k), to) for k in message["items"]], message["now"])
        except Exception as error:
            self.send({"is": "error", "to": to, "number": number, "text": str(error) or repr(error)})

    def _begin(self, _):
        session = self._session
        session.read()
        return {
            "n": len(session.items), "marks": self._marks(session.marks), "grader": session.grader,
            "classes": list(session.about["classes"].items()), "scale": self._pictures.wanted.pixel_scale,
            "size": list(self._pictures.wanted.size), "lost": len(session.lost), **self._how,
        }  # fmt: skip

    def _grade(self, message):
        said = [message[name] for name in ("said", "view", "seconds")]
        return {"marks": self._marks(self._session.grade(*said, message.get("leave", "nothing")))}

    def _note(self, message):
        return {"marks": self._marks(self._session.note(int(message["item"]), str(message["note"])))}

    def _undo(self, _):
        changed, step, done = self._session.undo()
        return {"marks": self._marks(changed), "show": min(step, default=None), "done": done}

    def _marks(self, places):
        return [[k, self._session.marks[k]._asdict() if k in self._session.marks else None] for k in places]

    def _queue(self, jobs, now):
        """Put pictures in line: what is looked at now before what comes later, whenever that was asked for."""
        with self._lock:
            others = [job for job in self._waiting if job not in jobs]
            self._waiting = deque([*jobs, *others] if now else [*others, *jobs])
        for _ in jobs:
            self._thread.submit(self._draw)

    def _draw(self):
        """Send the next picture or heat map in line; in a thread, so that no grade waits for a file."""
        with self._lock:
            if not self._waiting:
                return
            what, k, to = self._waiting.popleft()
        answer, buffers = {"is": what, "to": to, "item": k}, []
        try:
            name, _ = self._session.items[k]
            if what == "heat":
                buffers = [self._pictures.heat(name)]
            else:
                answer["cells"] = self._pictures.cells(name, self._how["scores"])
                pixels, colour, answer["about"] = self._pictures.picture(name)
                buffers = [pixels.tobytes()] + ([] if colour is None else [colour.tobytes()])
        except Exception as error:  # whatever a file that has changed makes of its reader: others are waiting
            answer["text"] = str(error) or repr(error)
        self.send(answer, buffers)


def grade(
    output: str | os.PathLike,
    grader: str,
    *,
    classes: Mapping[str, Sequence[str]] | str | os.PathLike | None = None,
    order: Order | None = None,
    seed: int | None = None,
    repeats: float | None = None,
    first: int | None = None,
    controls: Mapping[Literal["known", "painted"], int] | None = None,
    scores: bool = False,
    view: Literal["single", "mosaic"] = "single",
    mosaic: int = 60,
    survey: str | os.PathLike | None = None,
) -> Grading:
    """Look through a ranked list in a notebook and grade it by keys; ``?`` shows them.

    Grades lie in ``OUTPUT/grades/<grader>.csv``.  The same call goes on where the grader was; what is given by name up
    to `controls` is decided by the first call.

    Parameters
    ----------
    output : path-like
        The folder that `lensdet rank` wrote.
    grader : str
        Whose grades these are: letters, digits and ``_ . -``.
    classes : dict of lists of str, or path of a YAML file, optional
        Subclasses by major class; ``A``, ``B``, ``C`` and ``X`` by default.  The last is that of no lens.
    order : {"rank", "shuffled"}, optional
        By rank, or blind: shuffled by a seed.
    seed : int, optional
        By default the grader's name gives one.
    repeats : float, optional
        Share that is shown twice, unmarked, for the grader's own consistency; 0.05 by default.
    first : int, optional
        Candidates, by rank, that are graded; all by default.
    controls : dict, optional
        How many lenses to mix in: ``known``, those of the list that ``published`` matched, and ``painted``, arcs of
        simulated sources on other galaxies of the list.  How many are found is the grader's completeness.
    scores : bool
        Show scores, ranks and matches, which may sway a grader.
    view : {"single", "mosaic"}
    mosaic : int
        Stamps on a screen of the mosaic, from 40 to 100.
    survey : path-like, optional
        Where the survey's files lie now, if not where they were ranked: on a copy of the output folder.  What is in the
        folder lies there as it lay when it was ranked.

    Returns
    -------
    Grading
        Shown by a notebook where it is the last line of a cell.

    Raises
    ------
    FileNotFoundError
        There is no list in the folder, or the survey's files are not where they were; says what to do.
    ValueError
        As `grade_log.start`, or a value that cannot be.
    """
    if not MOSAIC[0] <= mosaic <= MOSAIC[1]:
        raise ValueError(f"mosaic {mosaic}: from {MOSAIC[0]} to {MOSAIC[1]} stamps on a screen")
    if view not in ("single", "mosaic"):
        raise ValueError(f"view {view!r}: it is single or mosaic")
    if isinstance(classes, str | os.PathLike):
        classes = _classes(Path(classes))
    there = grade_log.session(output, grader)["controls"] if grade_log.exists(output, grader) else None
    pictures = Pictures(output, there or (), survey)
    with closing(pictures):  # which the widget reads in a thread of its own
        pictures.check()
        if controls is not None:
            check_controls(controls, grader, there)
        made = _controls(pictures, grader, controls, seed, first) if controls and there is None else None
    about = grade_log.start(output, grader, classes, order, seed, repeats, first, made)
    pictures = Pictures(output, about["controls"], survey) if made else pictures
    session = Session(output, grader, list(pictures.table["id"]), pictures.sky)
    return Grading(session, pictures, scores, view, mosaic)


def _classes(path):
    """Classes of a YAML file, every name as it is written there: ``No`` is no false."""
    made = yaml.load(path.read_text(), yaml.BaseLoader)
    if not isinstance(made, dict) or not all(isinstance(some or [], list) for some in made.values()):
        raise ValueError(f"classes {path}: majors with lists of subclasses, as `A: []` and `X: [ring, spiral]`")
    return {name: some or [] for name, some in made.items()}


def _controls(pictures, grader, asked, seed, first):
    """Controls of a new session, a list of dict."""
    seed = grade_log.seed_of(grader) if seed is None else seed
    made = known_lenses(pictures.table, asked.get("known", 0), seed)
    if n := asked.get("painted", 0):
        made += painted_arcs(pictures.table, n, seed, first, pictures.stamp, pictures.wanted)
    return made
