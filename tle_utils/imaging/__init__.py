"""From a T1w scan to a grey-matter map on the template grid, and from maps to slices and regions.

Nothing here knows a cohort or a class. Throughout this door:

- lengths are in mm; world coordinates and axes of arrays are RAS, so that the first index grows from left to right;
  left and right are the participant's own.
- ``affine``: voxel to world, shape (4, 4); ``matrix``: world of the template to world of the scan, shape (4, 4).
- ``y_mm``: MNI y coordinates of coronal slices; ``fwhm_mm``: full width at half maximum of a Gaussian, 0 for none.
- ``paths``: grey-matter maps on the template grid, axes in any order; ``groups``: class of each participant.
- ``stack``: slices of participants, (n, rows, columns, slices), in the layout of `slices.load_slices`.
- ``workers``: processes side by side; no result depends on it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "atlas": ["SIDES", "brain_mask"],
        "images": ["write_image"],
        "preprocessing": ["preprocess"],
        "regions": ["read_regional_volumes"],
        "slices": ["POOLED_SHAPE", "PUBLISHED_Y_MM", "SQUARE_MM", "load_slices", "to_volume"],
    },
)
