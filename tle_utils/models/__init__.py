"""What is fitted, and its out-of-fold predictions: the paper's networks, the multi-task network, simple comparators.

Everything fitted or chosen here is fitted on the training part of a fold. Throughout this door:

participants : pandas.DataFrame
    One row per participant, in the order of the slices or volumes beside it: ``participant_id``, ``group``.
groups : numpy.ndarray
    Class of each participant: control, left, right.
folds, fold : sequence of crossval.Fold, crossval.Fold
    Who trains, validates and tests: positions in `participants`. A comparator also takes plain
    ``(train, validation, test)``.
settings : settings.Training or settings.MultitaskOptions
    How a network is built and trained.
x : numpy.ndarray
    Slices, float32, shape (n, rows, columns, slices).
y_mm : sequence of int
    MNI y coordinates of the slices in mm.
volumes : pandas.DataFrame
    From `regions.read_regional_volumes`.
seed : int
    Of everything random: shuffles, weights, noise, dropout, inner folds, permutations.
workers : int
    Processes side by side; no result depends on it.
label : str
    Name of the model in the table of predictions.

A function that predicts returns the table of predictions (pandas.DataFrame) that `predictions` describes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baselines": ["AUTOHS_LEFT_BELOW", "AUTOHS_RIGHT_ABOVE", "autohs_answers", "comparators", "leave_one_out"],
        "crossval": ["cross_validate", "make_folds"],
        "hemispheres": ["VOXEL_MM", "load_hemispheres"],
        "ideal_observer": ["IDEAL_OBSERVER", "ideal_predictions", "read_truth"],
        "multitask": ["load_inputs"],
        "networks": ["build", "convolutions", "layer_table", "parameter_counts"],
        "predictions": ["AS_TRAINED"],
        "regional": ["cross_validate_regions"],
        "settings": [
            "HemisphereOptions",
            "MultitaskOptions",
            "Training",
            "parameter_counts_of",
            "preset",
            "published_counts",
        ],
    },
)
