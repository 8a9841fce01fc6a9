"""The answer to the thesis' research questions, and how it moves with the number of images that networks saw.

Reads what `claims` has left of each profile, and writes the figure and the tables that stand first in
``figures/comparison.md``.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lensdet import storage
from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import claims
from lensdet.chapters.comparison import figures as comparison_figures
from lensdet.evaluation import statistics
from lensdet.experiments import BCE, F_1, F_BETA, MAX_TREE
from lensdet.parameters import resolve
from lensdet.study import Study

PROFILES = ("quick", "evening", "overnight", "lite", "thesis")  # in the order of the figure
TREND = ("quick", "evening", "overnight")  # of one width and survey: what differs is the images alone
# What is said first: a, b and the metric of a claim, by research question, and the claim in words.
ASKED = (
    (1, F_BETA, BCE, "precision", "At p = 0.5 the soft F_beta loss is more precise than cross-entropy"),
    (1, F_BETA, BCE, "recall", "At p = 0.5 the soft F_beta loss finds fewer lenses than cross-entropy"),
    (1, F_1, BCE, "recall", "At p = 0.5 the soft F1 loss finds more lenses than cross-entropy"),
    (1, BCE, F_BETA, "accuracy", "At p = 0.5 cross-entropy has a higher accuracy than the soft F_beta loss"),
    (3, "NM_6", thesis.BEST_MEMBER, "f_beta_high",
     "Above p = 0.75 the weighted mean of six networks (NM_6) has a higher F_beta than the best of them"),
    (4, BCE, MAX_TREE, "accuracy", "Networks have a higher accuracy on whole stamps than on segmented ones"),
)  # fmt: skip


def read(profiles: Iterable[str] = PROFILES) -> dict[str, pd.DataFrame]:
    """`claims.claims` as it lies beside the figures, by profile, of those that have any run.

    Raises
    ------
    ValueError
        Where a file was written for other claims; names the remedy.
    """
    found = {}
    for profile in profiles:
        path = storage.figures_dir() / profile / "comparison_claims.csv"
        if not path.exists():
            continue
        table = pd.read_csv(path)
        known = [(claim.section, claim.a, claim.metric, claim.sign) for claim in thesis.CLAIMS]
        written = table[["section", "a", "metric", "sign"]].itertuples(index=False, name=None)
        if not {"question", "p"} <= set(table) or known != list(written):
            raise ValueError(f"{path}: of other claims than there are now; run tox -e figures -- comparison")
        if table.runs.any():
            found[profile] = table
    return found


def over(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each claim's verdicts, a column a profile, and what they say together.

    Parameters
    ----------
    found : dict of pandas.DataFrame
        From `read`.

    Returns
    -------
    pandas.DataFrame
        A row a claim.  ``over budgets`` is *stable* where the two largest budgets of `TREND` that have five runs both
        agree or both contradict, *not stable* where they do not, and "–" where there are not two.
    """
    first = next(iter(found.values()))
    table = first[["question", "section", "claim"]].copy()
    table["claim"] = table.claim.str.replace(f"{thesis.BEST_MEMBER}, .*", thesis.BEST_MEMBER, regex=True)  # of each own
    for profile, own in found.items():
        table[profile] = own.verdict
    largest = [found[profile] for profile in TREND if profile in found]
    stable = []
    for i in first.index:
        verdicts = [own.verdict[i] for own in largest if own.runs[i] >= statistics.LEAST_RUNS][-2:]
        same = len(set(verdicts)) == 1 and verdicts[0] in ("agrees", "contradicts")
        stable.append("–" if len(verdicts) < 2 else "stable" if same else "not stable")
    return table.assign(**{"over budgets": stable})


def headlines(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The claims of `ASKED` at each budget.

    Parameters
    ----------
    found : dict of pandas.DataFrame
        From `read`.

    Returns
    -------
    pandas.DataFrame
        A row a claim and profile that has runs of it: the claim in words, what is compared, ``thesis`` and
        ``difference`` with its 95 % interval over seeds and images, ``runs``, and ``verdict``.
    """
    rows = []
    for question, a, b, metric, words in ASKED:
        for profile, table in found.items():
            own = table[(table.a == a) & (table.metric == metric) & (table.runs > 0)]
            best = own.claim.str.contains(thesis.BEST_MEMBER) if b == thesis.BEST_MEMBER else own.b == b
            of = f"{claims.METRICS[metric]}: {a} − {b}"
            rows += [(question, words, of, profile, r.runs, r.thesis, r.difference, r.low, r.high, r.verdict)
                     for r in own[best].itertuples()]  # fmt: skip
    columns = ["question", "words", "of", "profile", "runs", "thesis", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def sentences(first: pd.DataFrame) -> list[str]:
    """Each claim of `headlines` in a sentence, with the numbers of the profile that has most runs, then most images."""
    said = []
    for words, own in first.groupby("words", sort=False):
        own = own.assign(images=[resolve({"profile": profile}).images for profile in own.profile])
        r = own.sort_values(["runs", "images"]).iloc[-1]
        interval = f"{r.low:+.3f} to {r.high:+.3f}" if pd.notna(r.low) else "no interval"
        printed = f"; thesis {r.thesis:+.3f}" if pd.notna(r.thesis) else ""
        made = f"`{r.profile}`, {style.number_of(int(r.runs), 'run')} of {r.images:,} images"
        numbers = f"{r.difference:+.3f} ({interval}{printed}".replace("-", "−")
        said.append(f"*{words}*: **{r.verdict}**, {numbers}; {made}).")
    return said


def markdown(found: dict[str, pd.DataFrame]) -> str:
    """What stands first in the comparison: the figure, six sentences, their numbers, verdicts by question and claim."""
    table, profiles = over(found), list(found)
    counts = [
        f"- `{profile}`, {resolve({'profile': profile}).images:,} images a run, {own.images.max():,} test images; "
        f"{claims.counted(own)}"
        for profile, own in found.items()
    ]
    first = headlines(found)
    six = "\n".join(f"{i}. {sentence}" for i, sentence in enumerate(sentences(first), 1))
    numbers = ["thesis", "difference", "low", "high"]
    first[numbers] = first[numbers].map("{:+.3f}".format).replace("+nan", "–")
    links = ", ".join(f"[{profile}]({profile}/comparison.md)" for profile in profiles)
    parts = (
        "# The thesis' claims, by the number of training images",
        "What the thesis says, and what is found here (the difference, and its 95 % interval over seeds and images):",
        six,
        f"A verdict needs {statistics.LEAST_RUNS} runs; with fewer a claim is open.  It is corrected for the number of "
        "claims of its question, so that one with an interval beside 0 may be open: "
        "[verdicts](../docs/why/statistics.md#verdicts).",
        "[![Each claim's difference in the thesis and here](comparison.png)](comparison.png)",
        "*Each claim of the thesis: its difference between two models, here (points, with 95 % intervals over seeds "
        "and images) and in the thesis (black strokes), at each number of training images.  To the right of 0 is the "
        "thesis' side; the grey band is within 0.01 of 0.*",
        "## These six at each number of images",
        "\n".join(counts),
        first.drop(columns="words").to_markdown(index=False, disable_numparse=True),
        claims.RULE + "  `quick`, `evening` and `overnight` differ in the number of training images alone; "
        "a claim is *stable* where the two largest of them that have five runs both agree or both contradict.",
        *(f"## `{profile}`\n\n{claims.by_question(own).to_markdown()}" for profile, own in found.items()),
        f"## Every claim\n\nNumbers and intervals: {links}.",
        table.drop(columns="question").to_markdown(index=False),
    )
    return "\n\n".join(parts) + "\n"


def logits(profile: str) -> list[Path]:
    """Files of logits of a profile's runs, which its comparison is made from."""
    return sorted((storage.results_dir() / profile).glob("*/run_*/logits.h5"))


def save_all() -> None:
    """Write ``comparison.md`` of each profile that has runs, then that of all (`save`)."""
    for profile in PROFILES:
        if logits(profile):
            study = Study(resolve({"profile": profile}))
            claims.save(study, study.resamples())
    save()


def save() -> None:
    """Write ``comparison.md`` and ``.png`` into figures/; nothing where no profile has a run."""
    found = read()
    if not found:
        return
    heads = {}
    for profile, table in found.items():
        p = resolve({"profile": profile})
        images = f"{round(p.images, -3):,} images"  # of four panels each has an inch
        least, most = table.runs[table.runs > 0].min(), table.runs.max()
        runs = style.number_of(int(most), "run") if least == most else f"{least} to {most} runs"
        heads[f"{profile}\nwidth {p.width}\n{images}\n{runs}"] = table
    style.plt.rcParams.update(style.STYLE)
    figure = comparison_figures.forest(heads)
    style.write(figure, storage.figures_dir() / "comparison.png")
    with storage.atomic(storage.figures_dir() / "comparison.md") as beside:
        beside.write_text(markdown(found))
