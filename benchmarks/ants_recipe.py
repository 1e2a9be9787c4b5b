"""The plain ANTs recipe that preprocessing is compared with: N4, mask, SyN, Atropos, all with their defaults.

Run as a script by an interpreter that has antspyx; it needs nothing else of this package::

    python ants_recipe.py scan.nii.gz template.nii.gz grey_matter.nii.gz
"""

import sys


def grey_matter(scan, template, target):
    """Make the modulated grey matter of a T1w scan on the template's grid.

    Parameters
    ----------
    scan, template : str
        Paths of the T1w scan and of the brain-extracted template.
    target : str
        Path of the map to write.
    """
    import ants

    fixed, image = ants.image_read(template), ants.image_read(scan)
    mask = ants.get_mask(image)
    brain = ants.n4_bias_field_correction(image, mask=mask) * mask
    found = ants.registration(fixed, brain, type_of_transform="SyN")
    tissues = ants.atropos(brain, mask, m="[0.2,1x1x1]")  # the default is for slices
    grey = ants.apply_transforms(fixed, tissues["probabilityimages"][1], found["fwdtransforms"])
    ants.image_write(grey * ants.create_jacobian_determinant_image(fixed, found["fwdtransforms"][0]), target)


if __name__ == "__main__":
    grey_matter(*sys.argv[1:])
