"""How the template maps onto a scan: a matrix and warps, in world coordinates, and what is carried along them."""

import dataclasses

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tle_utils.imaging import atlas

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # world coordinates of nibabel to those of ITK


def to_sitk(volume, affine):
    """SimpleITK image of an array; the affine may turn and scale but not shear."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T))
    size = nib.affines.voxel_sizes(affine)
    image.SetSpacing(size.tolist())
    image.SetDirection((FLIP[:3, :3] @ (affine[:3, :3] / size)).ravel().tolist())
    image.SetOrigin((FLIP[:3, :3] @ affine[:3, 3]).tolist())
    return image


def volume_change(shift, mm=1.0):
    """Jacobian determinant of x → x + shift(x): volume of each voxel after it over that before, float32.

    `shift` has shape (3, x, y, z) and the unit of `mm`, the distance between voxels.
    """
    x, y, z = (list(np.gradient(part, mm)) for part in shift.astype(np.float32))
    x[0], y[1], z[2] = x[0] + 1, y[1] + 1, z[2] + 1
    return x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0])


@dataclasses.dataclass(frozen=True)
class Warp:
    """A displacement of the template, x → x + shift(x), and its inverse, in world coordinates.

    `shift` and `inverse`, shape (x, y, z, 3), are in mm on the grid of `affine`, whose axes are those of the world, and
    zero beyond it.
    """

    shift: np.ndarray
    inverse: np.ndarray
    affine: np.ndarray

    @classmethod
    def of(cls, shift, affine):
        """The warp with a shift, and the inverse found for it by fixed-point iteration on its own grid."""
        grid, inverse = np.indices(shift.shape[:3], dtype=np.float32), np.zeros_like(shift)
        for _ in range(12):
            where = grid + np.moveaxis(inverse, -1, 0) / affine[0, 0]
            moved = [ndimage.map_coordinates(shift[..., i], where, order=1, mode="nearest") for i in range(3)]
            inverse = -np.stack(moved, axis=-1)
        return cls(shift, inverse, affine)

    def transform(self, back=False):
        """As a transform of SimpleITK, forward or back."""
        shift = self.inverse if back else self.shift
        image = sitk.GetImageFromArray((shift * [-1, -1, 1]).transpose(2, 1, 0, 3), isVector=True)
        image.CopyInformation(to_sitk(np.zeros(shift.shape[:3], np.float32), self.affine))
        return sitk.DisplacementFieldTransform(image)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How the template maps onto a scan: the warps (`Warp`) from the last to the first, then the matrix."""

    matrix: np.ndarray
    warps: tuple

    @staticmethod
    def _linear(matrix):
        turned = FLIP @ matrix @ FLIP
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(turned[:3, :3].ravel().tolist())
        transform.SetTranslation(turned[:3, 3].tolist())
        return transform

    def to_template(self, volume, affine):
        """Sample a native volume on the template grid (linear)."""
        steps = [self._linear(self.matrix), *(warp.transform() for warp in self.warps)]
        return _resample(volume, affine, atlas.SHAPE, atlas.AFFINE, steps)

    def to_native(self, volume, shape, affine):
        """Sample a volume on the template grid at the voxels of a native grid (linear)."""
        steps = [warp.transform(back=True) for warp in reversed(self.warps)]
        steps.append(self._linear(np.linalg.inv(self.matrix)))
        return _resample(volume, atlas.AFFINE, shape, affine, steps)

    def jacobian(self):
        """Native volume per template volume at every template voxel (affine and warps together)."""
        determinant = np.full(atlas.SHAPE, np.linalg.det(self.matrix[:3, :3]), np.float32)
        for i, warp in enumerate(self.warps):
            later = [other.transform() for other in self.warps[i + 1 :]]
            growth = volume_change(np.moveaxis(warp.shift, -1, 0), warp.affine[0, 0]) - 1
            determinant *= 1 + _resample(growth, warp.affine, atlas.SHAPE, atlas.AFFINE, later)
        return determinant


def _resample(volume, affine, shape, target, steps):
    """Sample `volume` at the voxels of a grid; `steps` are transforms, the last one is applied first."""
    work = sitk.ResampleImageFilter()
    work.SetReferenceImage(to_sitk(np.empty(shape, np.uint8), target))
    if steps:
        work.SetTransform(sitk.CompositeTransform(steps))
    work.SetInterpolator(sitk.sitkLinear)
    work.SetNumberOfThreads(1)
    return sitk.GetArrayFromImage(work.Execute(to_sitk(volume.astype(np.float32), affine))).T
