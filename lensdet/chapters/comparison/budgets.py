"""The answer to the thesis' research questions, and how it moves with the number of images that networks saw.

Reads what `claims` has left of each profile, and writes the figure and the tables that stand first in
``figures/comparison.md``.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lensdet import storage
from lensdet.chapters import style, thesis
from lensdet.chapters.comparison import claims
from lensdet.chapters.comparison import figures as comparison_figures
from lensdet.evaluation import statistics
from lensdet.experiments import BCE, F_1, F_1_DOUBLE, F_BETA, INPUT_DEPENDENT, MAX_TREE, NETWORKS
from lensdet.parameters import resolve
from lensdet.study import Study

PROFILES = ("quick", "evening", "overnight", "lite", "thesis")  # in the order of the figure
TREND = ("quick", "evening", "overnight")  # of one width and survey: what differs is the images alone
# What is said first: a, b and the metric of a claim, by research question, and the claim in words.
ASKED = (
    (1, F_BETA, BCE, "precision", "At p = 0.5 the soft F_beta loss is more precise than cross-entropy"),
    (1, F_BETA, BCE, "recall", "At p = 0.5 the soft F_beta loss finds fewer lenses than cross-entropy"),
    (1, F_1, BCE, "recall", "At p = 0.5 the soft F1 loss finds more lenses than cross-entropy"),
    (2, F_BETA, thesis.SMALLER, "recall_large",
     "The soft F_beta loss finds a larger share of the lenses above 2.5 arcsec (Einstein radius) than of the others"),
    (3, "NM_6", thesis.BEST_MEMBER, "f_beta_high",
     "Above p = 0.75 the weighted mean of six networks (NM_6) has a higher F_beta than the best of them"),
    (4, BCE, MAX_TREE, "accuracy", "Networks have a higher accuracy on whole stamps than on segmented ones"),
)  # fmt: skip

# The names of the figure and of the tables.
NAMES = (
    "**BCE**: binary cross-entropy, the checkpoint of lowest validation loss; **BCE by F_beta**, **BCE by soft "
    "F_beta**: the same trainings, the checkpoints of highest F_beta and soft F_beta (in the thesis' tables: F_beta "
    "metric, Soft F_beta metric)",
    "**soft F_beta**, **soft F1**, **double F1**: networks trained with the soft losses (F_beta Soft Loss, F_1 Soft "
    "loss, F_1 Double Soft loss); F_beta has beta = 0.17",
    "**NM_3**, **NM_6**: weighted means of three and six networks; **IDE_3**, **IDE_6**: with weights that another "
    "network chooses for each image; **best member**: the member with the highest value of the measure on the "
    "calibration set",
    "**segmented BCE**: BCE on stamps segmented by Max-Tree, with the settings of the thesis' text (its published runs "
    "had others); **rest**: the same network on the other mock lenses",
    "**at p > 0.75**, **over p**: mean, or spread, over thresholds on the network's output p; accuracy, precision, "
    "recall and F_beta without these words are at p = 0.5; **p < 0.01 or > 0.99**: the share of images with such an "
    "output; **mean F_beta** and **soft F_beta** are also measures, those that checkpoints are selected by",
)


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
        if not {"question", "p", "p_adjusted"} <= set(table) or known != list(written):
            raise ValueError(f"{path}: of other claims than there are now; run tox -e figures -- comparison")
        if table.runs.any():
            found[profile] = table
    return found


def rankings(profiles: Iterable[str] = PROFILES) -> pd.DataFrame:
    """`threshold_control.ranking` as it lies beside the figures, with the names of the figure, by ``profile``.

    Raises
    ------
    FileNotFoundError
        Where a profile's is not there; names the remedy.
    """
    tables = {}
    for profile in profiles:
        path = storage.figures_dir() / profile / "comparison_ranking.csv"
        if not path.exists():
            raise FileNotFoundError(f"{path}: run tox -e figures -- comparison, which writes it")
        tables[profile] = pd.read_csv(path)
    table = pd.concat(tables, names=["profile"]).reset_index(level=0)
    return table.assign(model=table.model.map(comparison_figures.SHORT))


def over(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each claim's verdicts, a column a profile, and what they say together.

    Parameters
    ----------
    found : dict of pandas.DataFrame
        From `read`.

    Returns
    -------
    pandas.DataFrame
        A row a claim, in the words of the figure.  ``over budgets`` is of the two largest budgets of `TREND` that have
        five runs: *stable* where both agree or both contradict; *budget-dependent* where they differ and neither is
        open; *open* where one is; *equivalent* where both are; "–" where there are not two.
        ``to close it`` is `closing` of the profile that counts (`figures.counting`).
    """
    first = next(iter(found.values()))
    table = first[["question", "section"]].assign(claim=[*map(comparison_figures.describe, thesis.CLAIMS)])
    for profile, own in found.items():
        table[profile] = own.verdict
    largest = [found[profile] for profile in TREND if profile in found]
    together, close = [], []
    for i, most in comparison_figures.counting(found).items():
        verdicts = [own.verdict[i] for own in largest if own.runs[i] >= statistics.LEAST_RUNS][-2:]
        together.append(_together(verdicts) if len(verdicts) == 2 else "–")
        words = closing(found[most].loc[i])
        close.append(f"{most}: {words}" if words and found[most].runs[i] else words)
    return table.assign(**{"over budgets": together, "to close it": close})


def _together(verdicts):
    """What the verdicts at two budgets say of a claim."""
    if "open" in verdicts:
        return "open"
    if len(set(verdicts)) > 1:
        return "budget-dependent"
    return "equivalent" if verdicts[0] == "equivalent" else "stable"


def counted_over_budgets(table: pd.DataFrame) -> str:
    """How many claims of `over` have two budgets, and what these say together, in a sentence; "" where none has."""
    trend = table[[profile for profile in TREND if profile in table]]
    if trend.empty:
        return ""
    last = trend.where(trend.isin(["agrees", "contradicts"])).ffill(axis=1).iloc[:, -1]
    together = table["over budgets"]
    judged = together.where(together != "stable", "stable, " + last)[together != "–"]
    if judged.empty:
        return ""
    words = "; ".join(f"{word}: {n}" for word, n in judged.value_counts().items())
    return f"Of the {len(table)} claims {len(judged)} have two such budgets ({words})."


def compared_with_the_one_before(found: dict[str, pd.DataFrame]) -> str:
    """How the verdicts of the last two profiles with five runs go together, in a sentence; "" where there are not two.

    Of claims of `read` that have five runs in both.  The last is the one that counts, though its test images may be
    fewer.
    """
    judged = {profile: own for profile, own in found.items() if (own.runs >= statistics.LEAST_RUNS).any()}
    if len(judged) < 2:
        return ""
    (one, before), (last, own) = list(judged.items())[-2:]
    both = (before.runs >= statistics.LEAST_RUNS) & (own.runs >= statistics.LEAST_RUNS)
    if not both.any():
        return ""
    alike = before.verdict[both] == own.verdict[both]
    open_before, open_last = (table.verdict[both] == "open" for table in (before, own))
    return (
        f"`{last}` ({own.images.max():,} test images) and `{one}` ({before.images.max():,}) both have "
        f"{statistics.LEAST_RUNS} runs of {both.sum()} claims; decided alike or equivalent in both: "
        f"{(alike & ~open_last).sum()}, open in both: {(alike & open_last).sum()}, open in `{last}` alone: "
        f"{(open_last & ~alike).sum()}, open in `{one}` alone: {(open_before & ~alike).sum()}, other pairs of "
        f"verdicts: {(~alike & ~open_before & ~open_last).sum()}.  (The best member of an ensemble may be "
        "another in each.)"
    )


def closing(row: pd.Series) -> str:
    """What would close one claim, a row from `claims.claims`, in a few words; "" where it is decided or equivalent."""
    if row.verdict == claims.NO_RUN or (row.verdict == "open" and row.runs < statistics.LEAST_RUNS):
        return f"at least {statistics.LEAST_RUNS} runs"
    if row.verdict != "open":
        return ""
    if not np.isfinite(row.p):
        return "runs agree exactly"
    alone = [f"{row.runs_needed:,.0f} runs in all"] if np.isfinite(row.runs_needed) else []
    alone += [f"{row.images_needed:,.0f} test images"] if np.isfinite(row.images_needed) else []
    if not alone and np.isfinite(row.runs_needed_on_many):
        alone = [f"{row.runs_needed_on_many:,.0f} runs on many test images"]
    return " or ".join(alone) or "not with 1,000 runs, nor with a thousand times the images"


def table_of_budgets(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What the claims of each profile come from: training images, width, learning rates, runs, test images.

    Networks that choose weights (IDE) see fewer images than their members.
    """
    rows = []
    for profile, own in found.items():
        p, some = resolve({"profile": profile}), own[own.runs > 0]
        has_ide = some[["a", "b"]].isin(INPUT_DEPENDENT).any(axis=None)
        rows.append({
            "profile": f"`{profile}`", "training images of a run": f"{p.images:,}",
            "training images of an IDE network": f"{p.dynamic_chunks * p.chunk_size:,}" if has_ide else "–",
            "width": p.width, "learning rates": _rates(p), "runs": _range(some.runs),
            "test images": f"{own.images.max():,}", "claims": claims.counted(own),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _rates(parameters):
    """The learning rates of the losses in words."""
    own = {comparison_figures.SHORT[name]: parameters.rate(NETWORKS[name].loss)
           for name in (BCE, F_BETA, F_1, F_1_DOUBLE)}  # fmt: skip
    if len(set(own.values())) == 1:
        return f"{next(iter(own.values())):g}"
    return ", ".join(f"{short} {rate:g}" for short, rate in own.items())


def _range(runs):
    """Numbers of runs in words: "2", or "1 to 2" where claims differ; of claims without a run, 0."""
    if not len(runs):
        return "0"
    return f"{runs.min()}" if runs.min() == runs.max() else f"{runs.min()} to {runs.max()}"


def table_of_questions(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdicts by research question, a column a profile."""
    table = {}
    for profile, own in found.items():
        counts = claims.by_question(own).drop(columns="claims")
        table[profile] = [
            ", ".join(f"{verdict}: {n}" for verdict, n in row.items() if n) for _, row in counts.iterrows()
        ]
    return pd.DataFrame(table, index=counts.index)


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
        ``difference`` with its 95 % interval over seeds and images, ``runs``, ``verdict``, what would close it
        (`closing`), and whether its verdict ``counts`` (`figures.counting`).
    """
    rows, counting = [], comparison_figures.counting(found)
    for question, a, b, metric, words in ASKED:
        for profile, table in found.items():
            own = table[(table.a == a) & (table.metric == metric) & (table.runs > 0)]
            best = own.claim.str.contains(thesis.BEST_MEMBER) if b == thesis.BEST_MEMBER else own.b == b
            of = comparison_figures.named(a, b, metric, "−")
            rows += [(question, words, of, profile, r.runs, r.thesis, r.difference, r.low, r.high, r.verdict,
                      closing(r), profile == counting[r.Index]) for r in own[best].itertuples()]  # fmt: skip
    columns = "question words of profile runs thesis difference low high verdict closing counts".split()
    return pd.DataFrame(rows, columns=columns)


def sentences(first: pd.DataFrame) -> list[str]:
    """Each claim of `headlines` in a sentence, with the numbers of the profile that counts.

    With what would close it, where it is open.
    """
    said = []
    for r in first[first.counts].itertuples():
        images = resolve({"profile": r.profile}).images
        interval = f"{r.low:+.3f} to {r.high:+.3f}" if pd.notna(r.low) else "no interval"
        printed = f"; thesis {r.thesis:+.3f}" if pd.notna(r.thesis) else ""
        made = f"`{r.profile}`, {style.number_of(int(r.runs), 'run')} of {images:,} images"
        numbers = f"{r.difference:+.3f} ({interval}{printed}".replace("-", "−")
        close = f"; to close it: {r.closing}" if r.closing else ""
        said.append(f"*{r.words}*: **{r.verdict}**, {numbers}; {made}{close}).")
    return said


def with_the_threshold_moved(ranks: pd.DataFrame) -> str:
    """Markdown of `rankings`: how many differences are shown, and a row a profile, measure and soft loss."""
    judged = ranks[ranks.runs >= statistics.LEAST_RUNS].verdict
    words = ", ".join(f"{n} {word}" for word, n in judged.value_counts().items()) or "none"
    names = {"model": "loss", "cross_entropy": "BCE", "soft_loss": "soft loss"}
    shown = ranks.rename(columns=names | {"images": "test images"}).sort_values("measure", kind="stable")
    shown["test images"] = shown["test images"].map("{:,}".format)
    for columns, digits in ((["BCE", "soft loss"], "{:.3f}"), (["difference", "low", "high"], "{:+.3f}")):
        shown[columns] = shown[columns].map(digits.format).replace("+nan", "–")
    return (
        "Most claims are about p = 0.5.  Does a soft loss order the images better, so that some threshold would make "
        "it the better finder?  The area under the ROC curve needs no threshold; recall is compared where both have "
        "the precision that cross-entropy has at p = 0.5; the threshold of the soft loss is read from the test images, "
        "which a user cannot.  Soft loss less cross-entropy, run i with run i, with the 95 % interval over seeds and "
        f"images.  Of {len(judged)} differences with {statistics.LEAST_RUNS} runs or more: "
        f"{words} (corrected for all differences of a profile).\n\n"
    ) + shown.to_markdown(index=False, disable_numparse=True)


def markdown(found: dict[str, pd.DataFrame], ranks: pd.DataFrame) -> str:
    """What stands first in the comparison: the figure, six sentences, their numbers, verdicts by question and claim.

    Parameters
    ----------
    found, ranks
        From `read`, and from `rankings`.
    """
    table, profiles = over(found), list(found)
    first = headlines(found)
    six = "\n".join(f"{i}. {sentence}" for i, sentence in enumerate(sentences(first), 1))
    counting = comparison_figures.counting(found)
    together = claims.counted(pd.DataFrame([found[profile].loc[i] for i, profile in counting.items()]))
    numbers = ["thesis", "difference", "low", "high"]
    first[numbers] = first[numbers].map("{:+.3f}".format).replace("+nan", "–")
    links = ", ".join(f"[{profile}]({profile}/comparison.md)" for profile in profiles)
    parts = (
        "# The thesis' claims, by the number of training images",
        f"The thesis makes {together}, each judged in the last profile below that has {statistics.LEAST_RUNS} runs of "
        "it.  Six of them, and what is found here (the difference, and its 95 % interval over seeds and images):",
        six,
        f"With fewer than {statistics.LEAST_RUNS} runs a claim is open.  Verdicts are corrected for the number of "
        f"claims of a question that have {statistics.LEAST_RUNS} runs in a profile, so that one with an interval that "
        "excludes 0 may be open: [verdicts](../docs/why/statistics.md#verdicts).",
        compared_with_the_one_before(found),
        "[![Each claim's difference in the thesis and here](comparison.png)](comparison.png)",
        "*Each claim of the thesis: its difference between two models, here (coloured, with 95 % intervals over seeds "
        "and images) and in the thesis (black strokes, also where there is no run here), at each number of training "
        "images.  To the right of 0 is the thesis' side, whichever of the two is said to have more; the grey band is "
        "within 0.01 of 0.  Bold: the six above.*",
        "\n".join(f"- {names}" for names in NAMES),
        "## With the threshold moved",
        with_the_threshold_moved(ranks),
        "## By research question",
        table_of_questions(found).to_markdown(),
        table_of_budgets(found).to_markdown(index=False, disable_numparse=True),
        claims.RULE,
        "`quick`, `evening` and `overnight` are of one network and one survey.  Over these budgets a claim is *stable* "
        "where the two largest that have five runs both agree or both contradict, *equivalent* where both are, *open* "
        "where one is open, and *budget-dependent* where they differ; – where there are not two.",
        counted_over_budgets(table),
        "## The six at each number of images",
        "The difference is that of the two models as they are named: where less is claimed, the thesis' side is below "
        "0.",
        first.drop(columns=["words", "closing", "counts"]).to_markdown(index=False, disable_numparse=True),
        f"## Every claim\n\nNumbers, intervals and p-values: {links}.  *To close it*: " + claims.CLOSING,
        table.sort_values("question", kind="stable").to_markdown(index=False),
    )
    return "\n\n".join(filter(None, parts)) + "\n"


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
        runs = _range(table.runs[table.runs > 0])
        heads[f"{profile}\nwidth {p.width}\n{images}\n{runs} run{'s' * (runs != '1')}"] = table
    style.plt.rcParams.update(style.STYLE)
    first = {i for i, claim in enumerate(thesis.CLAIMS) if (claim.a, claim.b, claim.metric) in {q[1:4] for q in ASKED}}
    figure = comparison_figures.forest(heads, first)
    style.write(figure, storage.figures_dir() / "comparison.png")
    with storage.atomic(storage.figures_dir() / "comparison.md") as beside:
        beside.write_text(markdown(found, rankings(found)))
