import base64
import io
import re

import numpy as np
import pandas as pd
import pytest

from tle_utils.figures import tables


def test_a_value_stands_with_its_interval_and_missing_ones_are_dashes():
    table = pd.DataFrame(
        {
            "lateralization_accuracy": [0.8, np.nan],
            "lateralization_accuracy_low": [0.76, np.nan],
            "lateralization_accuracy_high": [0.83, np.nan],
            "difference": [-0.1, -0.001],
            "ci_low": [-0.2, np.nan],
            "ci_high": [0.05, np.nan],
        }
    )
    found = tables.texts(table, 2)
    assert list(found.columns) == ["lateralization accuracy", "difference", "95 % CI"]
    assert found.to_numpy().tolist() == [["0.80 [0.76, 0.83]", "−0.10", "−0.20 to 0.05"], ["–", "0.00", "–"]]


def test_counts_have_no_decimals_and_small_p_values_no_zero():
    assert tables.texts(pd.DataFrame({"n": [64.0, "127 studies"]}))["n"].tolist() == ["64", "127 studies"]
    found = tables.texts(pd.DataFrame({"n": [64.0, np.nan], "p_holm": [0.0004, np.nan], "met": [True, False]}))
    assert found.to_numpy().tolist() == [["64", "< 0.001", "yes"], ["–", "–", "no"]]


def test_nothing_is_cut_and_labels_are_escaped():
    long = "word " * 60 + "<script>alert(1)</script>"
    page = tables.shown(pd.DataFrame({"reason": [long]})).data
    assert "&lt;script&gt;" in page and "<script>" not in page and "..." not in page


@pytest.mark.parametrize(("index", "columns"), [(None, 1), (pd.Index(["control"], name="class"), 2)])
def test_numbers_of_rows_are_left_out(index, columns):
    page = tables.shown(pd.DataFrame({"n": [5]}, index=index)).data
    assert page.count("<td>") + page.count("<th>control") == columns
    assert 'class="dataframe"' in page


def test_the_name_of_the_rows_stands_in_the_line_of_names():
    page = tables.shown(pd.DataFrame({"n": [5]}, index=pd.Index(["control"], name="class"))).data
    head = page[: page.index("</thead>")]
    assert head.count("<tr") == 1 and ">class<" in head


def test_only_names_are_put_into_words_not_what_a_cell_says():
    found = tables.texts(pd.DataFrame({"metric": ["balanced_accuracy", "auc"], "target": ["all", "0.7_0.8"]}))
    assert found.to_numpy().tolist() == [["balanced accuracy", "all"], ["AUC", "0.7_0.8"]]
    assert tables.texts(pd.DataFrame({"sizes": [[60, 120]]}))["sizes"].tolist() == ["[60, 120]"]


def test_what_every_row_says_is_said_once_and_what_no_row_says_not_at_all():
    table = pd.DataFrame({"model": ["a", "b"], "n": [32, 32], "auc": [0.7, 0.8], "flags": ["", ""]})
    page = tables.shown(table).data
    assert re.findall("<th>(.*?)</th>", page) == ["model", "AUC"] and "<p>In every row: n 32.</p>" in page
    alike = tables.shown(table[["n"]].set_axis(pd.Index(["left", "right"], name="class"))).data
    assert "<th>n</th>" in alike and "In every row" not in alike, "a table of equal counts stays a table"


def test_a_single_row_stands_upright():
    row = pd.DataFrame({"auc": [0.7], "flags": [""]}, index=pd.Index(["net"], name="model"))
    page = tables.shown(row.assign(n=9)).data
    assert re.findall("<t[hd]>(.*?)</t[hd]>", page) == ["model", "net", "AUC", "0.700", "n", "9"]
    assert "<thead>" not in page


def downloaded(shown):
    """The table that the link of a shown one saves."""
    content = re.search(r'href="data:text/tab-separated-values;base64,([^"]*)"', shown.data)[1]
    return pd.read_csv(io.BytesIO(base64.b64decode(content)), sep="\t")


def test_the_download_of_a_table_has_every_digit_and_every_column():
    table = pd.DataFrame({"model": ["a", "b"], "n": 32, "accuracy": [0.123456789, np.nan]})
    table = table.assign(accuracy_low=1 / 3, accuracy_high=2 / 3)
    pd.testing.assert_frame_equal(downloaded(tables.shown(table)), table)
    found = downloaded(tables.shown(tables.readable(table, ["accuracy"])))
    assert found["accuracy"].tolist() == [f"0.123456789 [{1 / 3}, {2 / 3}]", f"– [{1 / 3}, {2 / 3}]"]


def test_a_word_can_mean_something_else_here():
    assert "wrong labels" in tables.shown(pd.DataFrame({"wrong": [1]}), wrong="wrong labels").data


def test_a_comparison_says_both_values_the_interval_and_what_was_tested():
    test = {"model_a": "net", "model_b": "volumes", "metric": "lateralization_accuracy", "n": 40, "value_a": 0.7}
    test |= {"value_b": 0.65, "difference": 0.05, "ci_low": -0.1, "ci_high": 0.2, "p_corrected": 0.4, "reason": ""}
    said = tables.comparison_text(test)
    assert "0.70 against 0.65, +5.0 points (95 % CI −10.0 to +20.0; corrected p = 0.400; n = 40), no evidence" in said
    assert tables.gain_text(test).startswith("+5.0 points against volumes (95 % CI −10.0 to +20.0; corrected p")
    alone = tables.comparison_text(test | {"p_corrected": np.nan, "reason": "one fold"})
    assert alone.endswith("n = 40), no test: one fold.")
