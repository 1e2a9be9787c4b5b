"""Everything that is drawn, and tables as readers see them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "brains": ["at_mm", "brain_viewer", "contact_sheet", "group_slices", "importance_rows"],
        "comparison": [
            "accuracy_curves",
            "all_models",
            "condition_points",
            "coverage_figure",
            "pairs_matrix",
            "set_answers",
        ],
        "interactive": ["SliceCase", "confusion_cases", "side_roc", "slice_browser", "threshold_explorer"],
        "numbers": [
            "COLOURS",
            "NAMES",
            "accuracy_boxes",
            "comparison_text",
            "gain_text",
            "interval_text",
            "loss_curves",
            "metric_points",
            "model_intervals",
            "patient_volumes",
            "reliability",
            "volume_scatter",
        ],
        "phantom": ["cohort_points", "effects_forest", "measured_effects", "phantom_examples"],
        "saliency": ["cascade_lines", "glass_brain", "kind_name", "map_grid", "saliency_takeaways", "truth_points"],
        "sites": ["readable_signature", "signature_figure"],
        "tables": ["download_link", "readable", "shown", "word"],
    },
)
