"""The index: every figure and table of the thesis, with what we have of it, as ``figures/index.md``."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import lensdet
from lensdet import storage
from lensdet.chapters import style, thesis
from lensdet.profiles import BEST


def found(root: Path, folders: Sequence[str] = BEST) -> pd.DataFrame:
    """Each figure and table of the thesis, with the file of the best profile that has it.

    Parameters
    ----------
    root : pathlib.Path
        The folder ``figures/``.
    folders : sequence of str
        Folders below it, the best first.

    Returns
    -------
    pandas.DataFrame
        A row an entry of `thesis.FIGURES` and `thesis.TABLES`: ``kind``, ``number``, ``title``,
        ``notebook`` (its number, "" for an illustration of others), ``file`` (below `root`, "" where there is none),
        ``profile``, ``runs`` (in words, `runs`), ``function`` (the file that has the function that draws
        it), and ``status``: "here", "missing", or "outside: ..." for what is not ours to draw.
    """
    rows, functions = [], drawn_by()
    for kind, prefix, suffixes, shown in (
        ("Figure", "fig", (".png", ".jpg"), thesis.FIGURES),
        ("Table", "table", (".md",), thesis.TABLES),
    ):
        for number, entry in shown.items():
            names = [f"{prefix}_{number.replace('.', '_')}{suffix}" for suffix in suffixes]
            paths = [path for folder in folders for name in names if (path := Path(root) / folder / name).exists()]
            row = {"kind": kind, "number": number, "title": entry.title, "notebook": entry.notebook or "", "file": "",
                   "profile": "", "runs": "", "function": functions.get(f"{kind.lower()}_{number}", ""),
                   "status": "missing"}  # fmt: skip
            if entry.notebook is None:
                row["status"] = f"outside: {entry.outside}"
            elif paths:
                path = paths[0]
                row |= {"file": path.relative_to(root).as_posix(), "profile": path.parent.name, "status": "here"}
                row["runs"] = runs(style.read_provenance(path))
            rows.append(row)
    return pd.DataFrame(rows)


def runs(made: str | None) -> str:
    """The number of runs, in words, from what made a figure or table."""
    if made is None:
        return "not recorded"
    n = re.search(r"· (\d+) runs?\b", made)
    return n[1] if n else "no training"


def markdown(table: pd.DataFrame) -> str:
    """`found` as text: holes first, then a row a figure and table with links from ``figures/``."""
    missing = [f"{row.kind} {row.number}" for row in table[table.status == "missing"].itertuples()]
    here, outside = (int(table.status.str.startswith(status).sum()) for status in ("here", "outside"))
    shown = pd.DataFrame(
        {
            "number": table.kind + " " + table.number,
            "title": table.title,
            "file": [f"[{Path(r.file).name}]({r.file})" if r.file else f"**{r.status}**" if r.notebook else r.status
                     for r in table.itertuples()],
            "drawn by": [_function(r.kind, r.number, r.function) for r in table.itertuples()],
            "notebook": [_notebook(number) for number in table.notebook],
            "profile": table.profile.replace("", "–"),
            "n (runs)": table.runs.replace("", "–"),
        }
    )  # fmt: skip
    parts = (
        "# Figures and tables of the thesis",
        f"{len(table)} figures and tables: {here} here, {outside} illustrations of others, {len(missing)} missing"
        f"{': ' + ', '.join(missing) if missing else ''}.",
        "Ours show the data named on each of them, the simulated survey by default.  Cases of Grad-CAM are chosen by "
        "rule, not by the numbers of the thesis' images.  What goes beyond the thesis is named after its notebook, as "
        "`02_control` is.",
        shown.to_markdown(index=False, disable_numparse=True),
    )
    return "\n\n".join(parts) + "\n"


def drawn_by() -> dict[str, str]:
    """Where the function of each figure and table is: "figure_5.9" to ``chapters/information/figures.py``."""
    package, found = Path(lensdet.__file__).parent, {}
    for path in sorted((package / "chapters").rglob("*.py")):
        for kind, chapter, number in re.findall(r"(?m)^def (figure|table)_(\d+)_(\d+)\(", path.read_text()):
            found[f"{kind}_{chapter}.{number}"] = path.relative_to(package).as_posix()
    return found


def _function(kind, number, place):
    name = f"{kind.lower()}_{number.replace('.', '_')}"
    return f"[{name}](../lensdet/{place})" if place else "–"


def _notebook(number):
    """A link to a notebook by its number; the number alone where there is no such notebook yet."""
    paths = sorted((storage.root() / "notebooks").glob(f"{number}_*.py")) if number else []
    return f"[{paths[0].stem}](../notebooks/{paths[0].name})" if paths else number or "–"


def save(folders: Sequence[str] = BEST) -> None:
    """Write ``figures/index.md`` (``LENSDET_FIGURES`` moves it)."""
    root = storage.figures_dir()
    with storage.atomic(root / "index.md") as beside:
        beside.write_text(markdown(found(root, folders)))
