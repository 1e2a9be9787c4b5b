import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import TWO, make_table, random_table
from scipy import stats

from tle_utils.base.errors import TLEError
from tle_utils.evaluation import metrics, model_tests, published
from tle_utils.figures import tables as figures_tables

HEADINGS = [
    "Controls labeled Left TLE",
    "Correctly labeled Controls",
    "Controls labeled Right TLE",
    "Left TLE labeled Controls",
    "Correctly labeled Left TLE",
    "Left TLE labeled Right TLE",
    "Right TLE labeled Controls",
    "Correctly labeled Right TLE",
    "Right TLE labeled Left TLE",
]


def test_paper_tables_recompute_to_402_and_416_of_500():
    for figure, correct, text in (("figure_8", 402, 0.66), ("figure_12", 416, 0.71)):
        counts = published.published_table(figure)
        found = published.paper_summary(counts)
        assert list(counts.columns) == HEADINGS
        assert counts.sum(axis=1).tolist() == [50] * 10
        assert (found["correct"], found["n"]) == (correct, 500)
        assert found["accuracy"] == pytest.approx(correct / 500)
        assert published.published_figures(figure)["accuracy_in_text"] == text
        assert (found["left_called_of_others"], found["others"]) == (0, 330)


def test_paper_claim_that_deeper_is_better_is_not_supported():
    base, deep = (published.split_accuracy(published.published_table(f"figure_{n}")) for n in (8, 12))
    found = model_tests.corrected_ttest(deep, base, n_train=450, n_test=50)
    assert found["difference"] == pytest.approx(0.028)
    assert found["p"] == pytest.approx(0.664, abs=0.001)
    assert found["ci_low"] < 0 < found["ci_high"]


def test_own_confusion_table_has_the_papers_shape():
    table = random_table(0, n=90, folds=5)
    counts = published.paper_confusion_table(table)
    assert list(counts.columns) == HEADINGS
    assert counts.index.tolist() == [0, 1, 2, 3, 4]
    matrix = metrics.confusion(table)
    assert counts["Left TLE labeled Right TLE"].sum() == matrix.loc["left", "right"]
    assert counts["Right TLE labeled Left TLE"].sum() == matrix.loc["right", "left"]
    folds = metrics.fold_metrics(table).query("metric == 'accuracy'")["value"]
    assert published.split_accuracy(counts).to_numpy() == pytest.approx(folds.to_numpy())
    with pytest.raises(TLEError, match="needs control, left and right"):
        published.paper_confusion_table(random_table(0, classes=TWO))


def test_published_names_are_checked_and_entries_have_sources():
    for name in ("figure_8", "figure_12", "replication", "original_study", "follow_up"):
        assert published.published_figures(name)["source"]
    assert published.published_figures("original_study")["accuracy"] == 0.85
    with pytest.raises(TLEError, match="no 'figure_3'.*figure_12"):
        published.published_figures("figure_3")
    with pytest.raises(TLEError, match="'replication' has no confusion table"):
        published.published_table("replication")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
def test_corrected_test_is_stricter_than_the_paired_one_and_symmetric(pairs):
    a, b = np.array(pairs).T
    found, back = (model_tests.corrected_ttest(*both, 90, 10) for both in ((a, b), (b, a)))
    if found["reason"]:
        assert np.isnan(found["p"])
        return
    assert found["p"] == pytest.approx(back["p"])
    assert found["difference"] == pytest.approx(-back["difference"])
    assert found["p"] >= stats.ttest_rel(a, b).pvalue - 1e-12
    assert model_tests.corrected_ttest(a, b, 1e12, 1e-6)["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-3)


def test_identical_models_get_a_reason_and_no_p():
    table = random_table(1)
    found = model_tests.compare_models(table, table.assign(model="twin"))
    assert found["reason"] == "the same difference in every fold"
    assert np.isnan(found["p_corrected"])
    assert found["p_mcnemar"] == 1


def test_leave_one_out_is_compared_by_mcnemar():
    tables = [random_table(1, signal=s, model=str(s)).assign(fold=np.arange(60)) for s in (0.2, 2.0)]
    found = model_tests.compare_models(*tables)
    assert np.isnan(found["p_corrected"])
    assert "McNemar" in found["reason"]
    assert found["p_mcnemar"] < 0.01


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    a = np.array([1] * 9 + [0] * 2 + [1] * 30 + [0] * 5, bool)
    b = np.array([0] * 9 + [1] * 2 + [1] * 30 + [0] * 5, bool)
    found = model_tests.mcnemar_exact(a, b)
    assert (found["only_a"], found["only_b"]) == (9, 2)
    assert found["p"] == pytest.approx(stats.binomtest(2, 11).pvalue)


def test_holm_keeps_nan_and_orders():
    assert model_tests.holm([0.01, np.nan, 0.04, 0.03])[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(model_tests.holm([0.01, np.nan])[1])


def test_comparison_counts_the_training_part():
    good, weak = random_table(2, n=90, signal=2.0), random_table(2, n=90, signal=0.3, model="weak")
    found = model_tests.compare_models(good, weak)
    values = [metrics.fold_metrics(t).query("metric == 'accuracy'")["value"] for t in (good, weak)]
    assert found["p_corrected"] == pytest.approx(model_tests.corrected_ttest(*values, 60, 30)["p"])
    kept = good.assign(split="validation", fold=(good["fold"] + 1) % 3)
    found = model_tests.compare_models(pd.concat([good, kept]), weak)
    assert found["p_corrected"] == pytest.approx(model_tests.corrected_ttest(*values, 30, 30)["p"])


def test_lateralization_is_compared_among_patients():
    good, weak = random_table(3, n=90, signal=2.0), random_table(3, n=90, signal=0.3, model="weak")
    found = model_tests.compare_models(good, weak, "lateralization_accuracy")
    assert found["only_a"] + found["only_b"] <= 60
    assert found["p_mcnemar"] < 0.01


def test_models_on_other_folds_or_people_are_refused():
    table = random_table(4)
    with pytest.raises(TLEError, match="'sub-0000' is in different folds"):
        model_tests.compare_models(table, table.assign(model="b", fold=(table["fold"] + 1) % 3))
    with pytest.raises(TLEError, match="'sub-0005' is tested by one model only"):
        model_tests.compare_models(table, table.assign(model="b").drop(index=5))
    with pytest.raises(TLEError, match="metric 'f1' is not one of this task: accuracy"):
        model_tests.compare_models(table, table.assign(model="b"), "f1")


def test_results_table_has_a_row_a_model_with_n_positive_class_interval_and_flags():
    stuck = make_table(["control", "left"] * 15, [[0.6, 0.4]] * 30, TWO, model="stuck")
    stuck["participant_id"] = "x" + stuck["participant_id"]
    found = model_tests.results_table(pd.concat([random_table(6), stuck])).set_index("model")
    assert found.index.tolist() == ["net", "stuck"]
    assert found.loc["net", "positive"] == "left (against right)"
    assert found.loc["stuck", "positive"] == "left"
    assert found.loc["stuck", "classes"] == "15 control, 15 left"
    assert found.loc["net", "accuracy_low"] < found.loc["net", "accuracy"] < found.loc["net", "accuracy_high"]
    assert "always predicts control" in found.loc["stuck", "flags"]
    assert "ppv: never predicted" in found.loc["stuck", "undefined"]
    text = figures_tables.readable(found.reset_index(), ["accuracy", "ppv"]).set_index("model")
    assert text.loc["stuck", "ppv"] == "–"
    assert text.loc["stuck", "accuracy"].startswith("0.50 [0.3")


def test_subgroups_cover_everyone_and_show_what_is_not_known():
    table = random_table(7, n=90)
    rng = np.random.default_rng(0)
    people = table[["participant_id"]].sample(frac=1, random_state=0).reset_index(drop=True)
    people["age"] = rng.uniform(18, 70, 90).round()
    people["mts"] = pd.array(rng.choice([True, False, None], 90), dtype="boolean")
    for by, count in (("age", 3), ("mts", 3)):
        found = model_tests.subgroups(table, people, by)
        assert found["n"].sum() == 90
        assert len(found) == count
        assert (found["n"] * found["accuracy"]).sum() == pytest.approx((table["group"] == table["predicted"]).sum())
    assert found["subgroup"].tolist() == ["False", "True", "not known"]
    with pytest.raises(TLEError, match="no column 'scanner'"):
        model_tests.subgroups(table, people, "scanner")
    with pytest.raises(TLEError, match="has predictions but no row"):
        model_tests.subgroups(table, people.iloc[:5], "age")
