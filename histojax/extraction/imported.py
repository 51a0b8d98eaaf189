"""Descriptors made of features that others computed: how a slide's tiles become [A, D].

<root>/<configuration>/<image name>.npy   float32 [A, D], as ours: see `store`
<root>/<configuration>/manifest.json      the recipe as the protocol: see `Recipe`

A is the number of random draws of tiles, or 1 where all tiles are pooled into one vector.
"""

import dataclasses

from histojax.extraction.feature_files import Source
from histojax.extraction.manifests import Manifest

POOLINGS = ("p-norm", "mean", "none")
_UNKNOWN_WEIGHTS = {"source": "not known: the features were imported"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How features became descriptors, so that those of new slides are made alike.

    Attributes:
      source: what the feature files hold.
      pooling: of tiles: `p-norm`, `mean`, or `none`, where each row is a vector of the slide.
      p: exponent of the p-norm; None for other poolings.
      draws: random draws of tiles from each slide, A; 1 where all tiles are taken.
      tiles: of a draw; None takes all.
      seed: of the draws.
    """

    source: Source
    pooling: str
    p: float | None = None
    draws: int = 1
    tiles: int | None = None
    seed: int = 0

    def manifest(self) -> Manifest:
        """The manifest of its descriptors, without versions."""
        fields = {name: value for name, value in vars(self).items() if name != "source"}
        source = {name: value for name, value in vars(self.source).items() if value is not None}
        return {"protocol": source | fields, "weights": dict(_UNKNOWN_WEIGHTS)}

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Recipe":
        """The recipe that `manifest` wrote."""
        protocol = dict(manifest["protocol"])
        names = {field.name for field in dataclasses.fields(Source)} & protocol.keys()
        source = Source(**{name: protocol.pop(name) for name in names})
        return cls(source, **protocol)
