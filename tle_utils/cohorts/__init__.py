"""Who, where the files come from, and their maps: the manifest, checked downloads, tables of participants."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "participants": ["load_participants"],
        "prepare": ["against_truth", "describe_cohort", "prepare_maps"],
        "unam": ["load_patients", "with_volumes"],
    },
)
