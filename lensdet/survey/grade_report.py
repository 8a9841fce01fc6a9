"""What `grades.merge` gives, as files: tables, labels, figures and a LaTeX table for a paper, and a page to send."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from astropy.table import Table
from filelock import FileLock
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lensdet import plotting, storage
from lensdet.data.stamps import normalise
from lensdet.evaluation.statistics import clopper_pearson
from lensdet.survey import candidate_list, grades, page, tables
from lensdet.survey.grades import Merged
from lensdet.survey.grading_pictures import ABOUT, Pictures

FOLDER = "graded"  # of the output, beside the graders' logs
BEST = 24  # candidates of the LaTeX table and of the figure of stamps
SHOWN = 500  # candidates of the page
COLUMNS = 4  # candidates side by side, each in two stretches
SAID = ("Cohen's kappa", "Fleiss' kappa", "consistency", "completeness")  # parts of the agreement that are printed
DIGITS = 6  # of numbers in tables


def write(output: str | os.PathLike, best: int = BEST) -> tuple[Merged, Path]:
    """Merge the grades of an output folder, and write into its folder ``graded`` what a paper and a finder need.

    That is ``grades.csv`` and ``grades.ecsv``, ``agreement.csv``, ``labels.csv``, ``grades.tex``, the figures
    ``grades`` and ``best`` as PNG and PDF, and the page ``index.html`` with its pictures.  They take the place of older
    ones together, when all are made; other files in the folder stay.

    Parameters
    ----------
    output : path-like
        Of ``lensdet rank``.
    best : int
        Candidates of the LaTeX table and of the figure of stamps.

    Returns
    -------
    Merged
    Path
        The page.

    Raises
    ------
    FileNotFoundError, ValueError, FileExistsError
        As `grades.merge` and `page.write`.
    """
    output = Path(output)
    if not (output / "ranked.ecsv").is_file():
        candidate_list.read_list(output)  # which says what to do
    with FileLock(output / ".lock"):  # as ranking has it: another process may rank or merge in the same folder
        folder = (output / FOLDER).resolve()  # it may be a link to another disk
        coming, old = (folder.with_name(f".{folder.name}.{name}") for name in ("part", "old"))
        _put_back(old, folder)
        page.make_sure(folder)
        shutil.rmtree(coming, ignore_errors=True)  # of a run that was killed
        try:
            merged = grades.merge(output)
            _write(output, merged, coming, best)
            if folder.exists():
                folder.rename(old)
            coming.rename(folder)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
            _put_back(old, folder)
    return merged, output / FOLDER / "index.html"


def _put_back(old, folder):
    """The older folder where there is no newer one; else of the older one what is not ours, such as a user's notes."""
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for path in old.iterdir():
        if not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(old)


def _write(output, merged, folder, best):
    """Write all files into a folder."""
    made = page.renew(
        folder, lambda coming: _pictures(output, merged.table.head(SHOWN), coming), lambda there: _html(merged, there)
    )
    text = merged.table.select_dtypes(exclude="number").columns
    storage.write_csv(folder / "grades.csv", _inert(merged.table), DIGITS + 3)
    storage.write_csv(folder / "labels.csv", _inert(grades.labels(merged)))
    storage.write_csv(folder / "agreement.csv", _inert(merged.agreement), DIGITS)
    table = Table.from_pandas(merged.table.assign(**{n: merged.table[n].map(candidate_list.as_text) for n in text}))
    for name in candidate_list.UNITS.keys() & {*table.colnames}:
        table[name].unit = candidate_list.UNITS[name]
    table.meta |= {"scale": merged.scale, "graders": ", ".join(merged.graders), "remarks": " ".join(merged.remarks)}
    with storage.atomic(folder / "grades.ecsv") as beside:
        table.write(beside, format="ascii.ecsv", delimiter=",", overwrite=True)
    with storage.atomic(folder / "grades.tex") as beside:
        beside.write_text(latex(merged, best), encoding="utf-8", errors="backslashreplace")
    with plt.rc_context(plotting.STYLE):
        figures = {"grades": figure(merged), "best": stamps(merged, made.parent / "stamps", best, _scale(output))}
        for name, drawn in figures.items():
            for suffix in ("png", "pdf"):
                plotting.write(drawn, folder / f"{name}.{suffix}")
            plt.close(drawn)


def said(merged: Merged) -> list[str]:
    """What was merged, in lines: how many of each grade, and how far people agree with each other and themselves."""
    counts = merged.table["grade"].value_counts()
    found = ", ".join(f"{counts.get(name, 0):,} {name}" for name in merged.classes)
    lines = [f"{len(merged.table):,} candidates graded by {', '.join(merged.graders)}: {found}"]
    graded, aside = (merged.agreement[merged.agreement["part"] == part] for part in ("graded", grades.ASIDE))
    for row, n in zip(graded.itertuples(), aside["value"], strict=True):
        lines.append(f"{row.what}: {row.value:,.0f} of {row.n:,} graded" + (f", {n:,.0f} set aside" if n else ""))
    lines += merged.remarks
    for row in merged.agreement[merged.agreement["part"].isin(SAID)].itertuples():
        interval = f"{row.low:.2f} to {row.high:.2f}" if np.isfinite(row.low) else "no interval"
        value = f"{row.value:.2f} ({interval})" if np.isfinite(row.value) else "not known"
        lines.append(f"{row.part}, {row.what}: {value}, n = {row.n:,}")
    return lines


def _inert(table):
    text = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].map(tables.inert) for name in text})


def _best(merged, n):
    return merged.table[merged.table["grade"].isin(merged.lenses)].head(n)


def latex(merged: Merged, best: int = BEST) -> str:
    """The best candidates as a LaTeX table (booktabs): id, position, probability, grade, mean and scatter."""
    some = _best(merged, best)
    score = next((name for name in some if name.startswith("p_")), None)
    shown = pd.DataFrame({"Candidate": some["id"].map(_line)})
    if some["ra"].notna().any():
        shown["RA"], shown["Dec"] = _numbers(some["ra"], ".5f"), _numbers(some["dec"], "+.5f")
    shown["Rank"] = some["rank"]
    if score:
        shown["p"] = some[score].map(page.digits)
    shown["Grade"] = some["grade"].map(_line)
    shown["Mean"], shown["Scatter"] = _numbers(some["mean"], ".2f"), _numbers(some["scatter"], ".2f")
    shown["n"], shown["Class"] = some["graders"], some["class"].map(_line)
    k = len(merged.graders)
    caption = (f"Candidates of grade {' or '.join(merged.lenses)}, {len(shown)} of "
               f"{int(merged.table['grade'].isin(merged.lenses).sum())}, graded by {k} "
               f"{'person' if k == 1 else 'people'}. Mean and scatter are of numbers: {merged.scale}; "
               "n is the number of grades.")  # fmt: skip
    return shown.to_latex(index=False, escape=True, caption=_escaped(caption), label="tab:grades")


def _line(text):
    """A text as one line that can be printed."""
    return " ".join(candidate_list.as_text(text).split())


def _numbers(values, form):
    return values.map(lambda value: format(value, form) if np.isfinite(value) else "--")


def _mean(row):
    """Mean and scatter of the grades of a candidate."""
    return f"{row['mean']:.2f}" + (f" ± {row['scatter']:.2f}" if np.isfinite(row["scatter"]) else "")


def _escaped(text):
    """Text as pandas escapes the cells of a LaTeX table, which it does not do for captions."""
    line = pd.DataFrame([text]).to_latex(index=False, header=False, escape=True).splitlines()
    return next(part for part in line if part.endswith(r"\\")).removesuffix(r"\\").strip()


def figure(merged: Merged) -> Figure:
    """What a paper shows of grades: purity by rank, agreement of pairs, consistency and completeness of each person."""
    rows = merged.agreement["part"].isin(["Cohen's kappa", "Fleiss' kappa"]).sum()
    high = max(2.4, 0.8 + 0.15 * rows)
    drawn, axes = plt.subplots(1, 3, figsize=(plotting.PAGE, high), width_ratios=[1.2, 1, 1])
    _purity(axes[0], merged)
    _kappas(axes[1], merged.agreement)
    _shares(axes[2], merged)
    for axis, letter in zip(axes, "abc", strict=True):
        axis.set_title(f"({letter}) {axis.get_title()}", loc="left", parse_math=False)
        axis.set_title("")
    handles, labels = axes[2].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower right", ncols=3)
    return drawn


def _purity(axis: Axes, merged: Merged) -> None:
    some = merged.listed
    lens, n = some["grade"].isin(merged.lenses).to_numpy(), np.arange(1, len(some) + 1)
    axis.set(title="graded as a lens", xlabel="rank of the list", ylabel="share of those up to it", ylim=(0, 1.02))
    if not len(some):
        return
    low, high = clopper_pearson(lens.cumsum(), n)
    axis.fill_between(some["rank"], low, high, step="post", color=plotting.BLUE, alpha=0.18, lw=0)
    axis.plot(some["rank"], lens.cumsum() / n, drawstyle="steps-post", color=plotting.BLUE, label="lens")
    best = (some["grade"] == merged.classes[0]).to_numpy()
    if len(merged.lenses) > 1:
        label = f"of them {merged.classes[0]}"
        axis.plot(some["rank"], best.cumsum() / n, "--", drawstyle="steps-post", color=plotting.ORANGE, label=label)
        for text in axis.legend().get_texts():
            text.set_parse_math(False)  # a class may have a name with dollars
    axis.set_xscale("log")


def _bars(axis, rows, places, colour, marker="o", label=None):
    values, low, high = (rows[name].to_numpy(float) for name in ("value", "low", "high"))
    axis.errorbar(values, places, xerr=np.abs([values - low, high - values]), fmt=marker, ms=3.5, lw=1, color=colour,
                  label=label)  # fmt: skip


def _nothing(axis, why):
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center")
    axis.set_yticks([])


def _kappas(axis: Axes, table: pd.DataFrame) -> None:
    axis.set(title="agreement", xlabel="kappa: Cohen's, Fleiss' (square)")
    pairs, all_of = (
        table[(table["part"] == part) & table["value"].notna()] for part in ("Cohen's kappa", "Fleiss' kappa")
    )
    if not len(pairs) + len(all_of):
        _nothing(axis, "one person,\nor nothing\ngraded by two")
        return
    names = [*pairs["what"].str.replace(" and ", ", "), *all_of["what"]]
    places = -np.arange(len(names), dtype=float)
    _bars(axis, pairs, places[: len(pairs)], plotting.BLUE)
    _bars(axis, all_of, places[len(pairs) :], plotting.ORANGE, "s")
    axis.set_yticks(places, names)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(0, color=plotting.GREY, lw=0.8)
    axis.set(ylim=(places[-1] - 0.6, 0.6), xlim=(min(-0.05, *axis.get_xlim()), 1.05))


def _shares(axis: Axes, merged: Merged) -> None:
    axis.set(title="of each person", xlabel="share")
    table = merged.agreement[merged.agreement["n"] > 0]
    names = [*merged.graders, "merged"]
    kinds = {"twice the same grade": table[table["part"] == "consistency"].assign(who=lambda x: x["what"])}
    found = table[table["part"] == "completeness"]
    kind, who = (found["what"].str.rsplit(", ", n=1).str[k] for k in (0, 1))
    for name in sorted({*kind}):
        kinds[f"{name.replace('lens', 'lense')}s found"] = found[kind == name].assign(who=who)
    kinds = {name: rows for name, rows in kinds.items() if len(rows)}
    colours = (plotting.BLUE, plotting.ORANGE, plotting.PURPLE)
    used = [name for name in names if any((rows["who"] == name).any() for rows in kinds.values())]
    for k, ((name, rows), colour, marker) in enumerate(zip(kinds.items(), colours, "osD", strict=False)):
        places = np.array([-used.index(person) + 0.22 - 0.22 * k for person in rows["who"]])
        _bars(axis, rows, places, colour, marker, name)
    if not kinds:
        _nothing(axis, "nothing shown twice,\nno controls")
        return
    axis.set_yticks(-np.arange(len(used)), used)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlim=(-0.02, 1.02), ylim=(0.2 - len(used), 0.7))


def stamps(merged: Merged, folder: Path, best: int = BEST, scale: float | None = None) -> Figure:
    """The best candidates with id and grade, each in square root and its faint parts; none without a picture.

    ``folder`` has the pictures of the page; ``scale``, in arcsec a pixel, is for a bar of 5 arcsec.
    """
    some = [(row, folder / f"{k + 1:05d}.jpg") for k, row in enumerate(merged.table.head(SHOWN).to_dict("records"))]
    some = [(row, path) for row, path in some if row["grade"] in merged.lenses and path.exists()][:best]
    rows, high = max(1, -(-len(some) // COLUMNS)), plotting.PAGE / COLUMNS / 2 + 0.3
    drawn, axes = plt.subplots(rows, COLUMNS, figsize=(plotting.PAGE, rows * high), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (row, path) in zip(axes.flat, some, strict=False):
        with Image.open(path) as picture:
            panels = np.asarray(picture.convert("L"))[::-1, : page.PITCH + page.SIZE]
        axis.imshow(panels, cmap="gray", origin="lower", vmin=0, vmax=255, interpolation="none")
        name = _line(row["id"])
        name = name if len(name) < 34 else f"…{name[-32:]}"
        title = f"{name}\n{_line(row['grade'])}: {_mean(row)}"
        axis.set_title(title, fontsize=plotting.TEXT, pad=2, parse_math=False)
    if some and scale:
        plotting.scale_bar(axes.flat[0], scale)
    if not some:
        axes.flat[0].text(0, 0.5, f"no candidate of grade {' or '.join(merged.lenses)} has a picture", parse_math=False)
    return drawn


def _scale(output):
    """arcsec a pixel of the stamps of a list; None where it does not say."""
    about = output / ABOUT
    return json.loads(about.read_text())["wanted"]["pixel_scale"] if about.is_file() else None


def _pictures(output, table, folder) -> Mapping[str, str]:
    """Copy pictures of candidates from the page of the list, and draw others without heat; their names by id."""
    there, pictures = {}, None
    sources = [output / "page" / "stamps" / f"{rank:05d}.jpg" for rank in table["rank"]]
    if not all(source.is_file() for source in sources):
        with contextlib.suppress(ValueError, OSError):  # the list does not say how the survey's files are read
            pictures = Pictures(output)
    for k, (i, source) in enumerate(zip(table["id"], sources, strict=True), 1):
        name = f"{k:05d}.jpg"
        if source.is_file():
            shutil.copyfile(source, folder / name)
            there[i] = name
        elif pictures:
            try:
                pixels = normalise(pictures.stamp(i))
            except (ValueError, OSError):  # the survey's files are elsewhere, or have changed
                continue
            picture = Image.fromarray(page.strip(pixels, np.zeros((2, 2))))
            picture.save(folder / name, quality=page.QUALITY, subsampling=0)
            there[i] = name
    return there


def _html(merged, there):
    """The page, in pieces; ``there``: names of pictures by id."""
    shown = merged.table.head(SHOWN).to_dict("records")
    groups = [(name, [_article(row, there, merged.graders) for row in shown if row["grade"] == name])
              for name in merged.classes]  # fmt: skip
    counts = merged.table["grade"].value_counts()
    summary = [("graded by", ", ".join(merged.graders)),
               ("candidates graded", f"{len(merged.table):,}"),
               *((name, f"{counts.get(name, 0):,}") for name in merged.classes),
               ("numbers of grades", merged.scale)]  # fmt: skip
    notes = [*merged.remarks, "A candidate's grade is the one nearest to the mean of its graders'."]
    if len(shown) < len(merged.table):
        notes.append(f"The first {len(shown):,} by mean grade are shown; grades.csv has all.")
    yield from page.template("graded.html.j2").generate(
        made_by=page.MADE_BY, heading="Graded lens candidates", notes=notes, summary=summary,
        groups=[group for group in groups if group[1]],
    )  # fmt: skip


def _article(row, there, graders):
    labels = {"class": "class", "subclasses": "subclasses:", "notes": "notes:", "match": "near", "flag": "flagged:",
              "control": "control:"}  # fmt: skip
    placed = np.isfinite(row["ra"]) and np.isfinite(row["dec"])
    return {
        "id": row["id"],
        "rank": row["rank"],
        "picture": there.get(row["id"]),
        "mean": f"{_mean(row)}, rank {row['rank']:,}",
        "grades": [(name, row[f"grade_{name}"]) for name in graders if row[f"grade_{name}"]],
        "texts": [(label, row[name]) for name, label in labels.items() if row.get(name)],
        "degrees": f"{row['ra']:.6f} {row['dec']:+.6f}" if placed else "",
    }
