"""From a T1w scan to a grey-matter map on the template grid, and from maps to slices and regions.

Lengths in mm, world coordinates (RAS), sides are the participant's own; nothing here knows a cohort or a class.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atlas": ["brain_mask"],
        "images": ["write_image"],
        "regions": ["read_regional_volumes"],
        "slices": ["POOLED_SHAPE", "PUBLISHED_Y_MM", "SQUARE_MM", "load_slices"],
    },
)
