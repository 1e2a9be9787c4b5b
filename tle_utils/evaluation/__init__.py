"""How good, how sure, where it fails: metrics, tests, calibration, sets of answers, model choice, other cohorts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["batch_verdict", "predict_batches", "signature"],
        "calibration": [
            "brier",
            "calibration_table",
            "expected_calibration_error",
            "fused",
            "recalibrated",
            "reliability_table",
        ],
        "conformal": ["coverage_curve", "least_participants", "prediction_sets", "sides_only", "summarise_sets"],
        "generalisation": ["other_cohorts", "predict_other_cohort", "read_cohort", "second_phantom"],
        "metrics": ["binary_metrics", "fold_metrics", "multiclass_metrics"],
        "model_choice": ["AS_TRAINED", "UNTRAINED", "choose_model", "folds_of", "gather", "on_validation"],
        "model_tests": ["compare_models", "corrected_ttest", "gap_closed", "pairwise", "results_table", "subgroups"],
        "phantom_targets": ["against_targets", "draw_cohort", "example_slices", "measure_cohorts", "realised_effects"],
        "published": [
            "paper_confusion_table",
            "paper_summary",
            "published_beside",
            "published_figures",
            "published_table",
            "split_accuracy",
        ],
        "robustness": ["ends_text", "learning_curve", "noise_curve"],
        "sites": ["NO_SITE_EFFECT", "deal_sites", "plant_sites", "site_factors", "site_scenarios", "sites_left_out"],
        "slice_leakage": ["demonstrate_leakage", "small_slices"],
    },
)
