"""Brains with a known truth: phantom cohorts matched to published effects, T1w phantoms, planted losses."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "volumes": ["Knobs"],
    },
)
