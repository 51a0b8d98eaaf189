"""Protocols in which encoders take the views that they were published with."""

import dataclasses
from collections.abc import Sequence

from histojax import encoders
from histojax.config import Extraction, View, as_text
from histojax.errors import InputError


def view_of(encoder: str) -> View | None:
    """The view that an encoder was published with; None where it has none."""
    native = encoders.get(encoder).native
    return native and View.in_microns(native.mpp, native.crop_size)


def require(extraction: Extraction) -> None:
    """Raises InputError where an encoder has no view of its own, naming all such."""
    without = [name for name in extraction.encoders if view_of(name) is None]
    if without:
        verb = "has" if len(without) == 1 else "have"
        raise InputError(
            f"--views=native: {', '.join(without)} {verb} no native view, since a convolutional "
            "network takes images of any size and scale: name views, such as "
            f"--views={as_text(Extraction().views)}, or --views=auto, which takes native ones "
            "where encoders have them"
        )


def with_native_views(extraction: Extraction, others: Sequence[View] = ()) -> Extraction:
    """The protocol with each encoder's native view; those without one take the `others`."""
    of_encoder = {name: view_of(name) for name in extraction.encoders}
    pairs = tuple(
        (name, view)
        for name, native in of_encoder.items()
        for view in ([native] if native else others)
    )
    views = tuple(dict.fromkeys(view for _, view in pairs))
    own = pairs if len(pairs) < len(of_encoder) * len(views) else ()
    return dataclasses.replace(extraction, views=views, own_views=own)
