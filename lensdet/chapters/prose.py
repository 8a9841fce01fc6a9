"""Sentences of a notebook, written by hand, with numbers that its tables fill in, and these tables to be read."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler


def filled(template: str, **numbers: Any) -> Markdown:
    """Prose with numbers in it, as ``{recall[F_1 Soft loss]:.3f}`` says; a dash where these parameters have none.

    Parameters
    ----------
    template : str
        Markdown, as `str.format` takes it.
    **numbers
        What it names: numbers, texts, or of these Series and dictionaries.
    """
    given = {name: _or_nan(value) for name, value in numbers.items()}
    words = re.sub(r"[+-]?nan\b ?%?", "–", template.format(**given))
    return Markdown(re.sub(r"(?<![\w-])-(?=\d)", "−", words))  # a minus, not a hyphen


def by_model(table: pd.DataFrame, values: str = "mean") -> dict[str, dict[str, float]]:
    """Numbers by metric and model, for `filled`, of a table with a row a model and metric."""
    wide = table.pivot_table(index="model", columns="metric", values=values, aggfunc="first", dropna=False)
    return {metric: wide[metric].to_dict() for metric in wide}


def rounded(table: pd.DataFrame, digits: int = 3) -> Styler:
    """A table to be read: so many decimals, a dash for what is not there, no numbers of rows."""
    return table.reset_index(drop=True).style.format(precision=digits, na_rep="–", thousands=",").hide()


def _or_nan(value):
    if isinstance(value, pd.Series | Mapping):
        return defaultdict(lambda: float("nan"), value)
    return value
