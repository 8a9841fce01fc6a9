"""A person's session of grading: what is shown, what was said of it, and undoing that; the log is what counts.

Other tabs and processes of the same person write to the log too: before anything is written, it is read what they said.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lensdet.survey import grade_log

_BY_US = float("nan")  # seconds of what no picture was looked at for


class Mark(NamedTuple):
    """What was said of a picture."""

    grade: str = ""  # a major class; "" for none
    subclass: str = ""
    note: str = ""
    aside: bool = False  # set aside in the mosaic for a second look


class Change(NamedTuple):
    """A mark before and after a step."""

    place: int
    before: Mark
    after: Mark


class Step(NamedTuple):
    """What is undone at once."""

    changes: list[Change]
    others: set[int]  # places of which another tab has said something since


class Session:
    """The grades of one grader.

    Parameters
    ----------
    output : path-like
        The folder of a ranked list.
    grader : str
        Who began, by `lensdet.grade` or `grade_log.start`.
    ids : list of str
        Of the list, by rank.
    sky : function, optional
        Right ascension and declination, in degrees, of an id or a control; NaN where they are not known.

    Attributes
    ----------
    items : list of (str, int)
        Id and showing, in the order in which they are shown; without controls whose galaxy left the list.
    lost : list of str
        Ids of these controls.
    marks : dict of int: Mark
        By the place in `items`; what nothing was said of has none.
    history : list of Step
        Those that may be undone.

    Raises
    ------
    ValueError
        An id is at another place on the sky than when it was graded: the list is another.
    """

    def __init__(
        self,
        output: str | os.PathLike,
        grader: str,
        ids: Sequence[str],
        sky: Callable[[str], tuple[float, float]] | None = None,
    ) -> None:
        self.output, self.grader, self.sky = output, grader, sky
        self.about = about = grade_log.session(output, grader)
        there = {*ids}
        self.lost = [of["id"] for of in about["controls"] if of["host"] not in there]
        controls = [of["id"] for of in about["controls"] if of["host"] in there]
        self.items = grade_log.order(ids[: about["first"]], about["order"], about["seed"], about["repeats"], controls)
        self._places = {item: k for k, item in enumerate(self.items)}
        self.marks: dict[int, Mark] = {}
        self.history: list[Step] = []
        self.size = grade_log.size(output, grader)  # bytes of the log that are known: if it has more, another wrote
        events = self._logged()
        self._check_places(events, there.union(controls))
        self._replay(events)

    def read(self) -> list[int]:
        """Take up what the log has; returns the places whose mark has changed."""
        size = grade_log.size(self.output, self.grader)
        if size == self.size:
            return []
        of_others = {k for k, _ in self._said(self._logged(self.size))}
        for step in self.history:
            step.others.update(of_others)
        before, self.size, self.marks = self.marks, size, {}
        self._set(Change(k, Mark(), mark) for k, mark in self._said(self._logged()))
        return [k for k in {*before, *self.marks} if before.get(k) != self.marks.get(k)]

    def grade(
        self,
        said: Sequence[Mapping[str, Any]],
        view: str = "single",
        seconds: float = 0,
        leave: Literal["nothing", "graded", "marked"] = "nothing",
    ) -> list[int]:
        """Log what was said of one picture, or of several of a mosaic; on the disk when it returns.

        Parameters
        ----------
        said : list of dict
            ``item`` (the place), ``grade``, and perhaps ``subclass`` and ``note`` (without it, the one that is there
            stays); in a mosaic the grade "" sets aside.
        view : {"single", "mosaic"}
        seconds : float
            From picture to key.
        leave : {"nothing", "graded", "marked"}
            What is left as it is: places that have a grade, or any mark, by now.

        Returns
        -------
        list of int
            Places whose mark has changed, by another tab of the grader too.
        """
        with grade_log.lock(self.output, self.grader) as held:
            changed, made = self.read(), []
            for of in said:
                now = self._now(place := int(of["item"]))
                if (leave == "graded" and now.grade) or (leave == "marked" and now != Mark()):
                    continue
                grade, subclass, note = str(of["grade"]), str(of.get("subclass", "")), str(of.get("note", now.note))
                made.append(Change(place, now, Mark(grade, subclass, note, not grade and view == "mosaic")))
            self._log(made, view, seconds, held)
            if made:
                self.history.append(Step(made, set()))
        return sorted({*changed, *(of.place for of in made)})

    def note(self, place: int, text: str) -> list[int]:
        """Log a note, whatever the grade is, or where there is none yet; returns places as `grade` does."""
        with grade_log.lock(self.output, self.grader) as held:
            changed, now = self.read(), self._now(place)
            if now.note != text:
                self._log([change := Change(place, now, now._replace(note=text))], "single", _BY_US, held)
                self.history.append(Step([change], set()))
        return sorted({*changed, place})

    def undo(self) -> tuple[list[int], list[int], bool]:
        """Take the last step back, by events that say what was before, but for what another tab said since.

        Returns
        -------
        changed : list of int
            Places whose mark may have changed, by another tab too.
        step : list of int
            Those of the step; none where there is none left.
        done : bool
            Whether anything was taken back.
        """
        with grade_log.lock(self.output, self.grader) as held:
            changed = self.read()
            if not self.history:
                return changed, [], False
            step, others = self.history[-1]
            back = [Change(k, after, before) for k, before, after in step if k not in others]
            self._log(back, "single", _BY_US, held)
            self.history.pop()
        places = [of.place for of in step]
        return sorted({*changed, *places}), places, bool(back)

    def _now(self, place):
        return self.marks.get(place, Mark())

    def _logged(self, since=0):
        return grade_log.read(self.output, self.grader, since)

    def _said(self, events):
        """Places and marks of events, without those of what is not shown."""
        found = ((self._places.get((of.id, of.showing)), of) for of in events.itertuples())
        return [(k, Mark(of.grade, of.subclass, of.note, not of.grade and of.view == "mosaic"))
                for k, of in found if k is not None]  # fmt: skip

    def _log(self, made, view, seconds, held):
        if not made:
            return
        events = []
        for place, _, mark in made:
            name, showing = self.items[place]
            ra, dec = self.sky(name) if self.sky else (None, None)
            events.append({"id": name, "ra": ra, "dec": dec, "showing": showing, "grade": mark.grade, "note": mark.note,
                           "subclass": mark.subclass, "view": "mosaic" if mark.aside else view,
                           "seconds": seconds})  # fmt: skip
        _, self.size = grade_log.append(self.output, self.grader, *events, held=held)
        self._set(made)

    def _set(self, made):
        for place, _, mark in made:
            self.marks[place] = mark
            if mark == Mark():
                del self.marks[place]

    def _replay(self, events):
        """Marks and history of a log: events of one step have the same time, and what was taken back no seconds."""
        for _, step in events.groupby("time", sort=False):
            made = [Change(k, self._now(k), mark) for k, mark in self._said(step)]
            last = [(of.place, of.before) for of in self.history[-1].changes] if self.history else []
            if made and step["seconds"].isna().all() and [(of.place, of.after) for of in made] == last:
                self.history.pop()
            elif made:
                self.history.append(Step(made, set()))
            self._set(made)

    def _check_places(self, events, ids):
        """ValueError where an id is at another place than when it was graded."""
        graded = events[events["id"].isin(ids)].drop_duplicates("id", keep="last") if self.sky else events[:0]
        far = graded[grade_log.are_others(graded, [self.sky(name) for name in graded["id"]])]
        if len(far):
            first = far.iloc[0]
            raise ValueError(
                f"{self.output}: {len(far)} graded ids are not where they were when {self.grader} graded them, the "
                f"first {first['id']!r}, then at {first['ra']:.5f} {first['dec']:.5f}: another list was ranked; "
                "rank the old one again, with the same output, or grade the new one in an output of its own"
            )
