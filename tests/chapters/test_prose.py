import pandas as pd

from lensdet.chapters.prose import by_model, filled


def test_prose_has_the_numbers_of_its_tables_and_a_dash_for_what_is_not_there():
    table = pd.DataFrame({"model": ["A b", "C"], "metric": ["recall", "recall"], "mean": [0.91234, 0.5]})
    words = "{recall[A b]:.3f}, {recall[D]:+.2f}, {recall[D]:.0%}, {verdict[C]}, {n:,}, nanometre"
    said = filled(words, **by_model(table), verdict=pd.Series({"A": "higher"}), n=1234).data
    assert said == "0.912, –, –, –, 1,234, nanometre"
