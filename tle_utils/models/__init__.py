"""What is fitted, and its out-of-fold predictions: the paper's networks, the multi-task network, simple comparators.

Everything fitted or chosen here is fitted on the training part of a fold.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baselines": ["comparators", "leave_one_out"],
        "crossval": ["cross_validate", "make_folds"],
        "ideal_observer": ["IDEAL_OBSERVER", "ideal_predictions", "read_truth"],
        "multitask": ["cross_validate_multitask", "load_inputs"],
        "multitask_network": ["build_multitask"],
        "networks": ["build", "convolutions", "layer_table", "parameter_counts"],
        "regional": ["cross_validate_regions"],
        "settings": ["MultitaskOptions", "parameter_counts_of", "preset", "published_counts"],
    },
)
