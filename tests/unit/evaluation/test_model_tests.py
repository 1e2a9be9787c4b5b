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


def test_the_side_is_counted_among_the_papers_patients():
    counts = published.published_table("figure_12")
    found, sides = published.paper_summary(counts), published.split_accuracy(counts, ("left", "right"))
    assert (found["lateralized"], found["patients"]) == (255, 330)
    assert sides.mean() == pytest.approx(255 / 330) and sides.iloc[0] == pytest.approx(26 / 33)


def test_published_people_of_ideas_add_up():
    facts = published.published_figures("ideas")
    called, all_three = facts["called"], facts["accuracy"]
    assert sum(sum(row.values()) for row in called.values()) == all_three["n"] == 254
    assert sum(called[name][name] for name in called) / 254 == pytest.approx(all_three["value"], abs=5e-4)
    assert facts["lateralization_accuracy"]["n"] == 173 and called["left"]["right"] + called["right"]["left"] == 1


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


@pytest.mark.parametrize("metric", model_tests.CORRECT_ANSWERS)
def test_a_difference_is_that_of_the_table_of_results_and_of_all_comparisons(metric):
    """Folds of unequal size, where a mean over folds is another number."""
    tables = [random_table(s, n=50, signal=s, model=f"m{s}", folds=4) for s in (0, 1, 2)]
    tables = [table.assign(fold=np.minimum(np.arange(50) // 7, 3)) for table in tables]
    values = model_tests.results_table(pd.concat(tables)).set_index("model")[metric]
    pairs = model_tests.pairwise(pd.concat(tables), metric).set_index(["model_a", "model_b"])
    found = model_tests.compare_models(tables[2], tables[0], metric)
    assert (found["value_a"], found["value_b"]) == pytest.approx((values["m2"], values["m0"]))
    assert found["difference"] == pytest.approx(values["m2"] - values["m0"])
    row = pairs.loc[("m0", "m2")]
    ends = ["difference", "ci_high", "ci_low", "p_corrected"]
    assert row[ends].tolist() == pytest.approx(
        [-found[n] for n in ("difference", "ci_low", "ci_high")] + [found[ends[3]]]
    )
    if metric == "lateralization_accuracy":
        gap = model_tests.gap_closed(pd.concat(tables), "m2", "m0", "m1")
        assert [gap[n] for n in ("gain", "gain_low", "gain_high", "n")] == pytest.approx(
            [found[n] for n in ("difference", "ci_low", "ci_high", "n")]
        )


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


def test_subgroups_show_what_calling_everybody_alike_would_reach():
    table = make_table(["left"] * 9 + ["right"] * 3, [[0.6, 0.25, 0.15]] * 12)
    people = table[["participant_id"]].assign(mts=False)
    row = model_tests.subgroups(table, people, "mts").iloc[0]
    assert row["lateralization_accuracy"] == row["larger_side"] == row["largest_class"] == 0.75
    assert row["correct"] == "0 of 12"
    text = figures_tables.readable(row.to_frame().T, ["lateralization_accuracy"]).iloc[0]
    assert text["larger_side"] == "0.75" and text["correct"] == "0 of 12"
    two = make_table(["left"] * 9 + ["right"] * 3, [[0.6, 0.4]] * 12, ("left", "right"))
    found = figures_tables.readable(model_tests.subgroups(two, people, "mts"), ["accuracy"])
    assert "correct" not in found and found.loc[0, "largest_class"] == "0.75"
