"""Everything that is drawn, and tables as readers see them.

Throughout this door `predictions` are out-of-fold predictions (`models.predictions`), `results` come from
`model_tests.results_table` (one row per model, a value with the ends of its 95 % interval in ``<value>_low`` and
``<value>_high``, ``n`` participants) and `y_mm` is the MNI y coordinate of a slice in mm.
Figures of numbers are those of plotly, pictures of brains those of matplotlib. Left is the participant's left.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "brains": [
            "at_mm",
            "brain_viewer",
            "contact_sheet",
            "group_slices",
            "importance_rows",
            "phantom_examples",
            "way_of_a_scan",
        ],
        "card": ["hippocampi"],
        "comparison": [
            "accuracy_curves",
            "condition_points",
            "coverage_figure",
            "pairs_matrix",
            "paper_accuracies",
            "paper_metrics",
            "paper_splits",
            "set_answers",
        ],
        "interactive": ["SliceCase", "confusion_cases", "side_roc", "slice_browser", "threshold_explorer"],
        "numbers": [
            "COLOURS",
            "NAMES",
            "loss_curves",
            "model_intervals",
            "reliability",
            "volume_scatter",
            "zscore_figure",
        ],
        "people": ["people_list"],
        "phantom": ["cohort_points", "effects_forest", "measured_effects", "regions_beside", "sclerosis_axis"],
        "saliency": [
            "cascade_lines",
            "glass_brain",
            "kind_name",
            "map_grid",
            "saliency_takeaways",
            "truth_points",
            "truth_texts",
            "volume_text",
        ],
        "tables": [
            "comparison_text",
            "download_link",
            "gain_text",
            "interval_text",
            "readable",
            "settings_table",
            "shown",
            "word",
        ],
    },
)
