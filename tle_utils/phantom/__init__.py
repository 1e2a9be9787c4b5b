"""Brains with a known truth: phantom cohorts matched to published effects, T1w phantoms, planted losses.

Throughout this door:

- ``group``: true class, ``control``, ``left`` or ``right``; ``index``: which participant of the class, from 0.
- ``knobs``: seed of a cohort and strength of its effects (`Knobs`).
- ``truth``: pandas.DataFrame, ``truth.tsv`` of a phantom cohort or some of its rows; a TLEError names what it lacks.
- ``latent``, ``effect``: logarithm of the regional volumes in ml and the part of it that is disease, one per row of
  `volumes.model_regions`.
- ``side`` and ``effect`` of a planted loss: the participant's side, and the share of the hippocampus that is lost.
- ``workers``: processes side by side; no result depends on it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "measured": ["measured_effects"],
        "planting": ["make_phantom_t1w"],
        "volumes": ["Knobs", "draw_cohort"],
    },
)
