"""Scans written by tests."""

import nibabel as nib


def save_scan(path, data, affine, codes=None):
    """Write a volume, its voxels stored in the order of some axis codes; returns the path."""
    image = nib.Nifti1Image(data, affine)
    if codes:
        orientation = nib.orientations
        image = image.as_reoriented(
            orientation.ornt_transform(orientation.io_orientation(affine), orientation.axcodes2ornt(codes))
        )
    image.set_sform(image.affine, code=4)
    image.set_qform(image.affine, code=4)
    nib.save(image, path)
    return path
