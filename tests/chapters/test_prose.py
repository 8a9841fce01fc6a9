import re

import pandas as pd

from lensdet.chapters.prose import by_model, filled, rounded


def test_prose_has_the_numbers_of_its_tables_and_a_dash_for_what_is_not_there():
    table = pd.DataFrame({"model": ["A b", "C"], "metric": ["recall", "recall"], "mean": [0.91234, 0.5]})
    words = (
        "{recall[A b]:.3f}, {recall[D]:+.2f}, {recall[D]:.0%}, {verdict[C]}, {n:,}, nanometre, -0.5 to +1, Clopper-1"
    )
    said = filled(words, **by_model(table), verdict=pd.Series({"A": "higher"}), n=1234).data
    assert said == "0.912, –, –, –, 1,234, nanometre, −0.5 to +1, Clopper-1"


def test_a_table_is_read_without_numbers_of_rows_and_with_dashes():
    table = pd.DataFrame({"of": ["x", None], "n": [65536, 2], "mean": [0.12345, float("nan")]}, index=[7, 7])
    html = rounded(table, 2).to_html()
    assert re.findall(r"<td.*?>(.*?)</td>", html) == ["x", "65,536", "0.12", "–", "2", "–"] and ">7<" not in html


def test_a_spread_of_one_run_is_a_dash():
    table = pd.DataFrame({"model": ["A", "A"], "metric": ["recall", "F_beta"], "spread": [0.01, float("nan")]})
    assert filled("{F_beta[A]:.3f}", **by_model(table, "spread")).data == "–"
