"""Why: importance maps by networks that never saw the participant, their scores against the truth, sanity checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attribution": ["INPUT", "METHODS"],
        "maps": ["deviations", "explain_folds"],
        "sanity_checks": ["ALIKE", "check_maps", "train_on_random_labels", "unfit", "verdicts"],
        "scores": [
            "CASES",
            "NETWORK_FREE",
            "SIDES",
            "by_cases",
            "by_region",
            "in_space",
            "plane",
            "score_maps",
            "score_rows",
            "summarise",
            "truth_slice",
        ],
    },
)
