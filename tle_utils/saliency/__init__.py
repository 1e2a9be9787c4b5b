"""Why: importance maps by networks that never saw the participant, their scores against the truth, sanity checks.

Throughout this door:

- maps (``images``) are arrays of shape (n, 160, 160) in the layout of `slices.load_slices` (1 mm, z downwards, x from
  left to right), signed where their method is: positive where something speaks for the explained class; each is scaled
  to a greatest absolute value of 1;
- ``x`` is what a network reads, float32, shape (n, rows, columns, channels), and ``weights``, shape (n, classes), say
  which score of it is explained (`attribution.target_weights`);
- ``explained`` is a `maps.Explained`, ``truth`` a `scores.Truth`, ``participants`` the table of
  `participants.load_participants`, and ``folds`` is the list of `crossval.Fold` on which the networks were trained;
- ``method`` and ``layer`` name a kind of map; the layer of a method that looks at the input is `attribution.INPUT`;
- ``workers`` are processes side by side, on which no result depends.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attribution": ["DEFAULT", "INPUT"],
        "ensembles": ["explain_hemispheres"],
        "maps": ["Explained", "deviations", "explain_folds"],
        "sanity_checks": ["ALIKE", "check_maps", "train_on_random_labels", "unfit", "verdicts"],
        "scores": [
            "CASES",
            "NETWORK_FREE",
            "Truth",
            "by_cases",
            "by_region",
            "expectations",
            "score_maps",
            "score_rows",
            "summarise",
            "truth_slice",
        ],
        "volume_truth": ["places", "train_on_volumes"],
    },
)
