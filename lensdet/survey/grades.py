"""Grades of several people as one table: a row a candidate; how far they agree, what they find, labels for a finder.

Grades have numbers, so that they have a mean: the last class is 0, the one before it 1, and so on; of A, B, C and X
these are 3, 2, 1 and 0.  The class of a candidate is the one nearest to its mean, the lower of two as near.
"""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lensdet.evaluation import agreement
from lensdet.evaluation.agreement import NOT_GRADED, Estimate
from lensdet.survey import candidate_list, grade_log
from lensdet.survey.controls import PAINTED
from lensdet.survey.hosts import LENS

COLUMNS = ["part", "what", "value", "low", "high", "n"]
FIRST = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # of the list, whose purity is given
ASIDE = "set aside"  # a part of the agreement
_NOT_KEPT = ["filled", "hdu", "x", "y", "rejected", "detail"]  # columns of the list


class Merged(NamedTuple):
    """Grades of several people as one."""

    table: pd.DataFrame  # a row a candidate, the best first
    agreement: pd.DataFrame  # `COLUMNS`
    classes: list[str]  # majors, the best first
    lenses: list[str]  # those of them that are said to be lenses
    graders: list[str]
    remarks: list[str]  # what a reader should know
    mixed_in: frozenset[str]  # ids that were graded as controls alone, from beyond the first of the list

    @property
    def listed(self) -> pd.DataFrame:
        """The table by rank, without what is `mixed_in`: known lenses would make any list purer."""
        return self.table[~self.table["id"].isin(self.mixed_in)].sort_values("rank")

    @property
    def scale(self) -> str:
        """The number of each class, in words."""
        return ", ".join(f"{name} {len(self.classes) - 1 - k}" for k, name in enumerate(self.classes))


def merge(output: str | os.PathLike) -> Merged:
    """Merge all grades of an output folder of ``lensdet rank``.

    The first showing of a candidate is its grade; the second says how consistent a grader is.

    Parameters
    ----------
    output : path-like
        With ``ranked.ecsv`` and the graders' logs in ``grades/``.

    Returns
    -------
    Merged
        Its table has the columns of the list and ``grade``, ``mean``, ``scatter`` (sample standard deviation; NaN of
        one grade), ``graders`` (how many), ``grade_...`` of each, ``class`` (the subclass that most gave who gave that
        grade), ``subclasses``, ``notes`` and ``control`` (its kind, where it was one).

    Raises
    ------
    FileNotFoundError
        No ranked list, or no grades; says what to do.
    ValueError
        Graders with different classes, or a grade that is none of them; names the file.
    """
    output = Path(output)
    listed = candidate_list.read_list(output)
    names, sessions, remarks = _sessions(output)
    classes = list(sessions[0]["classes"])
    lenses = lens_classes(classes)
    remarks = [f"{' and '.join(lenses)} count as lenses, {classes[-1]} as none", *remarks]
    found = [_events(output, name, classes) for name in names]
    events, moved = _where_they_were(pd.concat(found, ignore_index=True), listed)
    given = events[events["grade"] != ""]
    first, second = (_codes(given[given["showing"] == k], names) for k in (1, 2))
    controls = [{control["id"]: control for control in session["controls"]} for session in sessions]
    kinds = {i: control["kind"] for of in controls for i, control in of.items()}
    summary = _summary(first, events[events["showing"] == 1], classes)
    table = listed[listed["id"].isin(first.index)].set_index("id", drop=False)
    table = table.drop(columns=[name for name in _NOT_KEPT if name in table]).join(summary)
    table["control"] = [kinds.get(i, "") for i in table["id"]]
    table = table.sort_values(["mean", "rank"], ascending=[False, True]).reset_index(drop=True)
    is_lens = summary["grade"].isin(lenses)
    progress = _progress(events, sessions, listed["id"])
    lost = [i for i in first.index.difference(listed["id"], sort=False) if kinds.get(i) != PAINTED]
    remarks += _remarks(output, [row[1] for row in progress if row[0] == ASIDE and row[2]], lost, list(moved))
    merged = Merged(table, pd.DataFrame(), classes, lenses, names, remarks, _mixed_in(first, sessions, listed))
    rows = [
        *progress,
        *(_row("candidates", name, Estimate((table["grade"] == name).sum(), np.nan, np.nan, len(table)))
          for name in classes),
        *_kappas(first.reindex(table["id"]).to_numpy(int), names, len(classes)),
        *_consistencies(first, second, names),
        *_completeness(first, is_lens, dict(zip(names, controls, strict=True)), range(len(lenses))),
        *_purity(merged.listed, lenses),
        *_seconds(given),
    ]  # fmt: skip
    return merged._replace(agreement=pd.DataFrame(rows, columns=COLUMNS))


def lens_classes(classes: Sequence[str]) -> list[str]:
    """Those of some majors, the best first, that are said to be lenses: down to the last of `hosts.LENS`, or the first.

    Of 3, 2, 1 and 0 the number 1 is no lens: it is one where there is only 0 beside it.
    """
    words = {*LENS} - ({"1"} if len(classes) > 2 else set())
    known = [k + 1 for k, name in enumerate(classes[:-1]) if name.lower() in words]
    return list(classes[: max(known, default=1)])


def labels(merged: Merged) -> pd.DataFrame:
    """What ``lensdet finder --labels`` takes: ``id``, ``grade`` (lens or non-lens) and ``class`` of who says something.

    A candidate whose merged grade is neither says nothing, and is left out; so is one that one person takes for a lens
    and another for none, whatever their mean is.
    """
    said = {**dict.fromkeys(merged.lenses, "lens"), merged.classes[-1]: "non-lens"}
    each = merged.table[[f"grade_{name}" for name in merged.graders]]
    disputed = each.isin(merged.lenses).any(axis=1) & (each == merged.classes[-1]).any(axis=1)
    grade = merged.table["grade"].map(said).mask(disputed)
    table = pd.DataFrame({"id": merged.table["id"], "grade": grade, "class": merged.table["class"]})
    return table[grade.notna()].reset_index(drop=True)


def _sessions(output):
    """Names of those who have graded, the session of each, and remarks on what else there is."""
    every = grade_log.graders(output)
    names = [name for name in every if len(grade_log.current(output, name))]
    remarks = _strays(output, every) + [f"{name} has given no grade yet" for name in every if name not in names]
    if not names:
        raise FileNotFoundError("; ".join([
            f"{output / 'grades'}: no grades yet; lensdet.grade({str(output)!r}, grader=\"NAME\") in a notebook takes "
            "them", *remarks]))  # fmt: skip
    sessions = [grade_log.session(output, name) for name in names]
    one = sessions[0]
    for name, other in zip(names, sessions, strict=True):
        if list(other["classes"]) != list(one["classes"]):
            raise ValueError(f"{output / 'grades'}: {names[0]} has the classes {', '.join(one['classes'])}, {name} "
                             f"{', '.join(other['classes'])}; grades of different classes have no mean: move "
                             f"{name}.csv and {name}.json out of the folder")  # fmt: skip
    return names, sessions, remarks


def _remarks(output, aside, lost, moved):
    """On what a reader has to know before he believes the numbers, where there is any."""
    found = {
        f"{', '.join(aside)} set candidates aside and have not come back to them: completeness and purity are "
        "provisional": aside,
        f"{len(lost)} graded ids are not in the list, such as {', '.join(lost[:1])}; was another survey ranked into "
        f"{output}?": lost,
        f"{len(moved)} grades are left out, such as that of {', '.join(moved[:1])}: the list has another place of "
        f"them, more than {grade_log.FAR:g} arcsec from the one graded; was it ranked again from another "
        "catalogue?": moved,
    }
    return [text for text, there in found.items() if there]


def _strays(output, graders):
    """Remarks on files that may be somebody's grades, but are called otherwise, as ``ben (1).csv`` of a browser."""
    read = {f"{name}.csv" for name in graders}
    files = sorted(path.name for path in (output / "grades").glob("*") if path.suffix.lower() == ".csv")
    return [
        f"grades/{candidate_list.as_text(name)} is not read: give it the name of its grader, of Latin letters, digits "
        "and _ . - alone, and .csv"
        for name in files
        if name not in read and not name.startswith(".")
    ]


def _events(output, name, classes):
    """The last events of a person, with the codes of their grades from 0, the best; `NOT_GRADED` of none."""
    found = grade_log.read(output, name).drop_duplicates(["id", "showing"], keep="last")
    code = found["grade"].map({"": NOT_GRADED} | {major: k for k, major in enumerate(classes)})
    if code.isna().any():
        raise ValueError(f"{output / 'grades' / name}.csv: {found['grade'][code.isna()].iloc[0]!r} is none of the "
                         f"classes {', '.join(classes)}; mend it or take the row out")  # fmt: skip
    return found.assign(grader=name, code=code.astype(int))


def _where_they_were(events, listed):
    """Events without those of another galaxy that has the id by now, and the ids of these grades."""
    others = grade_log.are_others(events, listed.set_index("id")[["ra", "dec"]].reindex(events["id"]))
    return events[~others], events["id"][others & (events["grade"] != "")]


def _progress(events, sessions, ids):
    """Of the pictures of each person, how many have a grade, and how many are set aside for a second look."""
    rows, known = [], {*ids}
    for session in sessions:
        shown = {*ids[: session["first"]]}
        shown |= {of["id"] for of in session["controls"] if of.get("host", of["id"]) in known}
        some = events[(events["grader"] == session["grader"]) & (events["showing"] == 1) & events["id"].isin(shown)]
        aside = (some["grade"] == "") & (some["view"] == "mosaic")
        for part, n in (("graded", (some["grade"] != "").sum()), (ASIDE, aside.sum())):
            rows.append(_row(part, session["grader"], Estimate(n, np.nan, np.nan, len(shown))))
    return rows


def _mixed_in(codes, sessions, listed):
    """Ids that all who graded them had as controls from beyond their first."""
    rank, beyond = listed.set_index("id")["rank"], pd.DataFrame(False, codes.index, codes.columns)
    for session in sessions:
        ids = codes.index.intersection([of["id"] for of in session["controls"]]).intersection(rank.index)
        beyond.loc[ids, session["grader"]] = rank[ids] > (session["first"] or np.inf)
    return frozenset(codes.index[(beyond | (codes == NOT_GRADED)).all(axis=1)])


def _codes(events, names):
    """Codes (ids x names), `NOT_GRADED` where a person gave none."""
    table = events.pivot(index="id", columns="grader", values="code")
    return table.reindex(columns=names).fillna(NOT_GRADED).astype(int)


def _summary(codes, events, classes):
    """What several people together say of each id."""
    given = codes.where(codes != NOT_GRADED)
    score = len(classes) - 1 - given
    mean = score.mean(axis=1)
    nearest = len(classes) - 1 - np.ceil(mean.to_numpy() - 0.5).astype(int)
    said = {i: [] for i in codes.index}
    for row in events[events["id"].isin(codes.index)].itertuples():
        said[row.id].append(row)
    texts = [(i, *_texts(rows, classes[k])) for (i, rows), k in zip(said.items(), nearest, strict=True)]
    texts = pd.DataFrame(texts, columns=["id", "class", "subclasses", "notes"]).set_index("id")
    made = {"grade": np.array(classes, object)[nearest], "mean": mean, "scatter": score.std(axis=1, ddof=1)}
    made = pd.DataFrame(made | {"graders": given.notna().sum(axis=1)}, index=codes.index)
    each = given.apply(lambda column: column.map(dict(enumerate(classes))).fillna("")).add_prefix("grade_")
    return pd.concat([made, each, texts], axis=1)


def _texts(rows, major):
    """The subclass that most gave with the merged grade, all of them with how many gave each, and notes by grader.

    A note counts without a grade, too.
    """
    counts = Counter(row.subclass for row in rows if row.subclass and row.grade)
    own = Counter(row.subclass for row in rows if row.subclass and row.grade == major)
    named = [f"{name} {n}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    notes = [f"{row.grader}: {row.note}" for row in rows if row.note]
    return min(own, key=lambda name: (-own[name], name), default=""), ", ".join(named), " | ".join(notes)


def _row(part: str, what: str, found: Estimate) -> list[Any]:
    return [part, what, *map(float, found[:3]), int(found.n)]


def _kappas(codes: NDArray, names: list[str], classes: int) -> list[list[Any]]:
    rows = []
    for (i, one), (j, other) in combinations(enumerate(names), 2):
        for part, weights in (("Cohen's kappa", None), ("Cohen's kappa, linear weights", "linear")):
            found = agreement.cohen(codes[:, i], codes[:, j], classes, weights)
            rows.append(_row(part, f"{one} and {other}", found))
    rows.sort(key=lambda row: row[0])
    found = agreement.fleiss(codes, classes) if len(names) > 1 else {}
    return rows + [_row("Fleiss' kappa", f"{k} grades each", of) for k, of in found.items()]


def _consistencies(first, second, names):
    ids = second.index.intersection(first.index)
    pairs = {name: (first.loc[ids, name], second.loc[ids, name]) for name in names}
    return [_row("consistency", name, agreement.consistency(*pair)) for name, pair in pairs.items()]


def _completeness(first, merged, controls, lenses):
    """The share of controls that each person takes for a lens, and several together of what two or more graded."""
    rows, every = [], {i: control for of in controls.values() for i, control in of.items()}
    by_several = first.index[(first != NOT_GRADED).sum(axis=1) > 1]
    for kind in sorted({control["kind"] for control in every.values()}):
        for name, of in controls.items():
            codes = first[name][[i in of and of[i]["kind"] == kind for i in first.index]]
            rows.append(_row("completeness", f"{kind}, {name}", agreement.share(codes[codes >= 0].isin(lenses))))
        some = [i for i in by_several if i in every and every[i]["kind"] == kind]
        if some:
            rows.append(_row("completeness", f"{kind}, merged", agreement.share(merged[some])))
    return rows


def _purity(table, lenses):
    """The share of lenses among those of the first N that were graded."""
    rows, end = [], table["rank"].max() if len(table) else 0
    for first in (n for k, n in enumerate(FIRST) if k == 0 or FIRST[k - 1] < end):
        some = table[table["rank"] <= first]
        rows.append(_row("purity", f"first {first}", agreement.share(some["grade"].isin(lenses))))
    return rows


def _seconds(events):
    """The median time from picture to key, of what was timed."""
    rows = []
    for (name, view), some in events.dropna(subset="seconds").groupby(["grader", "view"]):
        median = Estimate(some["seconds"].median(), np.nan, np.nan, len(some))
        rows.append(_row("seconds a candidate", f"{name}, {view}", median))
    return rows
