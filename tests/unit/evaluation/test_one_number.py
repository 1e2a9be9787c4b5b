"""The check of a run's tables finds what stands with two values, and nothing where the package made them."""

import json

import numpy as np
import pandas as pd
import pytest
from makers import random_table
from quantities import contradictions, texts_without_a_table

from tle_utils.base.files import write_table
from tle_utils.evaluation import curves, metrics, model_tests
from tle_utils.evaluation.model_choice import CHOSEN, COMPARATOR
from tle_utils.figures import tables
from tle_utils.models.ideal_observer import IDEAL_OBSERVER

NAMES = {CHOSEN: 1.0, COMPARATOR: 0.5, IDEAL_OBSERVER: 3.0}


@pytest.fixture
def run(tmp_path):
    """Tables of two chapters of a run, on folds of unequal size."""
    fold = np.minimum(np.arange(60) // 7, 3)
    everyone = pd.concat([random_table(3, signal=s, model=name).assign(fold=fold) for name, s in NAMES.items()])
    results, pairs = model_tests.results_table(everyone), model_tests.pairwise(everyone)
    gap = model_tests.gap_closed(everyone, CHOSEN, COMPARATOR, IDEAL_OBSERVER)
    for chapter in ("03_lateralization_baseline", "07_model_comparison"):
        for name, table in {"results": results, "comparisons": pairs, "gap": pd.DataFrame([gap])}.items():
            write_table(tmp_path / chapter / f"{name}.tsv", table, decimals=6)
    points = curves.run_points(everyone, 0.5).assign(ours=True)
    write_table(tmp_path / "10_sclerosis" / "points.tsv", points, decimals=6)
    return tmp_path, everyone, pairs.iloc[0].to_dict()


def say(folder, text):
    output = {"data": {"text/plain": text}, "metadata": {"scrapbook": {"name": "deep-text"}}}
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "notebooks" / "03_lateralization_baseline.ipynb").write_text(
        json.dumps({"cells": [{"outputs": [output]}]})
    )


def test_what_the_package_says_twice_it_says_alike(run):
    folder, everyone, pair = run
    found, twice = contradictions(folder)
    assert not found and twice > 30
    own = metrics.model_metrics(everyone[everyone["model"] == CHOSEN])
    say(
        folder, f"{tables.interval_text(own, 'auc_left_right')} {tables.comparison_text(pair)} {tables.gain_text(pair)}"
    )
    assert texts_without_a_table(folder) == ([], 3)


def test_a_mean_over_folds_beside_a_pooled_value_is_found(run):
    folder, everyone, pair = run
    by_fold = metrics.fold_metrics(everyone).query("metric == 'lateralization_accuracy'")
    means = by_fold.groupby("model")["value"].mean()
    ends = {"ci_low": -0.3, "ci_high": 0.3, "difference": means[CHOSEN] - means[COMPARATOR]}
    old = pair | ends | {"value_a": means[CHOSEN], "value_b": means[COMPARATOR]}
    write_table(folder / "03_lateralization_baseline" / "comparisons.tsv", pd.DataFrame([old]), decimals=6)
    found, _ = contradictions(folder)
    assert len(found) == 3 and all("03_lateralization_baseline/comparisons.tsv" in line for line in found)
    say(folder, tables.gain_text(old))
    (folder / "03_lateralization_baseline" / "comparisons.tsv").unlink()
    assert len(texts_without_a_table(folder)[0]) == 1


def test_another_seed_of_the_bootstrap_is_found(run, monkeypatch):
    folder, everyone, _ = run
    monkeypatch.setattr(metrics, "SEED", 1)
    write_table(folder / "07_model_comparison" / "results.tsv", model_tests.results_table(everyone), decimals=6)
    found, _ = contradictions(folder)
    assert found and all("auc" in line or "balanced" in line for line in found)
    own = metrics.model_metrics(everyone[everyone["model"] == CHOSEN])
    assert own.set_index("metric").loc["auc_left_right", "ci_low"] > 0
