"""How crops are taken: scale or microns per pixel, and side."""

import dataclasses

from histojax.errors import InputError

MPP_RANGE = (0.05, 20.0)  # Microns per pixel that images may be resampled to.


@dataclasses.dataclass(frozen=True)
class View:
    """How crops are taken: the image's scale or pixel size, and the crops' side in pixels there.

    Attributes:
      scale: of the image as it is read; 1 where the pixel size is stated.
      crop_size: side of a crop, px.
      mpp: microns per pixel that the image is resampled to when it is read; None for a scale.
    """

    scale: float
    crop_size: int
    mpp: float | None = None

    @classmethod
    def in_microns(cls, mpp: float, crop_size: int) -> "View":
        """Crops at a pixel size, in microns per pixel."""
        return cls(1.0, crop_size, mpp)

    @property
    def resolution(self) -> str:
        """What crops are cut at: a scale such as 0.5, or microns per pixel, such as 0.5mpp."""
        return str(self.scale) if self.mpp is None else f"{self.mpp}mpp"

    @property
    def name(self) -> str:
        """As in the authors' folder names: 0.5-400, 1.0-800; in microns 0.5mpp-224."""
        return f"{self.resolution}-{self.crop_size}"

    @classmethod
    def parse(cls, name: str) -> "View":
        """The view of that name; InputError where it is none."""
        resolution, _, crop_size = name.partition("-")
        number = resolution.removesuffix("mpp")
        try:
            make = cls if number == resolution else cls.in_microns
            view = make(float(number), int(crop_size))
        except ValueError:
            raise InputError(
                f"view {name!r} is not of the form SCALE-CROPSIZE or MICRONSmpp-CROPSIZE, such as "
                "0.5-400 or 0.5mpp-224"
            ) from None
        low, high = MPP_RANGE
        if view.mpp is not None and not low <= view.mpp <= high:
            raise InputError(
                f"view {name!r}: the microns per pixel must be at least {low} and at most {high}"
            )
        if not (0 < view.scale <= 1 and view.crop_size > 0):
            raise InputError(
                f"view {name!r}: the scale must be above 0 and at most 1, the crop size above 0"
            )
        return view
