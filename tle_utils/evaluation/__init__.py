"""How good, how sure, where it fails: metrics, tests, calibration, sets of answers, model choice, other cohorts.

Throughout this door:

- ``predictions`` : table of `tle_utils.models.predictions` (pandas.DataFrame), of one model or of many; a ``table`` is
  one of a single model, and ``rows`` are some of its rows, already checked. Test rows are judged.
- ``participants`` : pandas.DataFrame, one row per participant, with ``participant_id`` and ``group`` (true class).
  ``groups`` is that column: sequence of str, ``control``, ``left`` and ``right``.
- ``folds`` : list of `tle_utils.models.crossval.Fold`, positions in ``participants``.
- ``metric`` : name of a metric of `metrics.fold_metrics`, such as ``lateralization_accuracy``.
- ``bins`` : int, groups of about equally many rows; equal probabilities stay in one, so there may be fewer.
- ``coverage`` : float between 0 and 1, how often a set of answers is to hold the true class.
- ``counts`` : pandas.DataFrame, a confusion table with the paper's nine columns, one row per split.
- ``volumes`` : pandas.DataFrame from `regions.read_regional_volumes`, columns (region, hemisphere), ml.
- ``sites`` : sequence of str, site of each participant; ``factors`` : from `sites.site_factors`.
- ``cohort`` : `generalisation.Cohort`; ``net`` : `generalisation.NetTraining`, how the multi-task net takes part.
- ``y_mm`` : sequence of int, MNI y coordinates of coronal slices in mm.
- ``seed`` : int; with the same seed all draws (bootstrap, folds, sites, labels) are the same.
- ``workers`` : int, processes side by side; no result depends on it.
- ``ci_low``, ``ci_high`` : ends of a 95 % interval that counts participants, not rows. Repeats are averaged.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": [
            "BINS",
            "brier",
            "calibration_table",
            "expected_calibration_error",
            "fused",
            "recalibrated",
            "reliability_table",
        ],
        "conformal": [
            "coverage_curve",
            "coverage_range",
            "least_participants",
            "prediction_sets",
            "sides_only",
            "summarise_sets",
        ],
        "curves": [
            "TASKS",
            "learning_curve",
            "mean_curves",
            "needed_sentence",
            "needed_shares",
            "needed_text",
            "noise_curve",
            "published_points",
            "run_points",
            "sclerosis_curves",
        ],
        "generalisation": [
            "NetTraining",
            "demonstrate_leakage",
            "other_cohorts",
            "predict_other_cohort",
            "read_cohort",
            "second_phantom",
            "small_slices",
        ],
        "metrics": ["fold_metrics", "model_metrics"],
        "model_choice": [
            "CHOSEN",
            "COMPARATOR",
            "UNTRAINED",
            "as_trained",
            "choose_model",
            "choose_within_folds",
            "folds_of",
            "gather",
            "on_validation",
            "take",
        ],
        "model_tests": ["compare_models", "corrected_ttest", "gap_closed", "pairwise", "results_table", "subgroups"],
        "phantom_targets": ["against_real", "against_targets", "example_slices", "measure_cohorts"],
        "published": [
            "paper_confusion_table",
            "paper_summary",
            "published_figures",
            "published_table",
            "split_accuracy",
        ],
        "sites": [
            "NO_SITE_EFFECT",
            "batch_verdict",
            "deal_sites",
            "plant_sites",
            "predict_batches",
            "signature",
            "site_factors",
            "site_scenarios",
            "sites_left_out",
        ],
    },
)
