"""Who, where the files come from, and their maps: the manifest, checked downloads, tables of participants.

Throughout this door:

- ``cohort`` is a `manifest.Cohort`, what ``load_manifest().cohort(name)`` gives: the manifest is read once, and the
  cohort handed on to all that reads or makes it.
- ``notes`` (list of str) gets a line for everything odd, with file and row where it has them.
- ``participants`` is the table of `participants.load_participants`, one row per participant whose map was made.
- ``group`` is the class: ``control``, ``left``, ``right``, or ``exclude`` for who is left out for a reason.
- ``seed`` decides what is drawn and what is planted where; ``workers`` are processes side by side, on which no result
  depends.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "manifest": ["load_manifest"],
        "participants": ["load_participants"],
        "prepare": ["against_truth", "describe_cohort", "prepare_maps"],
        "unam": ["load_patients", "who_is_analysed", "with_volumes"],
    },
)
