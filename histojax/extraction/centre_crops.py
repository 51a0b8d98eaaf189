"""Descriptors of the middle of each image, without stain step and augmentation, for benchmarks.

OUT/<encoder>-centre-224-of-224-bilinear.npz    descriptors   float32 [files, D]
                                                files         SHA-256 of each image file
                                                manifest      JSON: what made them

An image whose file is there already is not encoded again.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from histojax.config import Extraction
from histojax.encoders import Encoder
from histojax.errors import InputError
from histojax.extraction import manifests, plans
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images import reader
from histojax.images.centre_crop import CentreCrop
from histojax.utils import files, prefetch
from histojax.utils.array_files import npz
from histojax.utils.progress import Progress

_CROPS = {"cpu": 8}  # Of a device at a time, by platform.
_CROPS_ELSEWHERE = 32
_DECODERS = 4
_CLASS_TOKEN = "class_token"


@dataclasses.dataclass(frozen=True)
class CentreEncoder:
    """An encoder that is shown the middle of an image as it is.

    Attributes:
      loaded: the encoder with its variables.
      crop: how the middle is taken.
      extraction: the protocol that it was loaded by; its precision and ResNet variant are taken.
      class_token_alone: whether of a transformer's taps the class token alone is taken.
    """

    loaded: LoadedEncoder
    crop: CentreCrop
    extraction: Extraction
    class_token_alone: bool = False

    @property
    def encoder(self) -> Encoder:
        """The network with the taps that are taken, which resizes nothing itself."""
        encoder = self.loaded.encoder
        token = tuple(tap for tap in encoder.outputs if tap.layer == _CLASS_TOKEN)
        taps = token if token and self.class_token_alone else encoder.outputs
        return dataclasses.replace(encoder, outputs=taps, native=None)

    @property
    def name(self) -> str:
        """Of the file of descriptors, without ending."""
        whole = len(self.encoder.outputs) == len(self.loaded.encoder.outputs)
        return f"{self.encoder.name}-{self.crop.name}{'' if whole else f'-{_CLASS_TOKEN}'}"

    @property
    def text(self) -> str:
        """What the descriptors are, in words."""
        crop, taps = self.crop, " and ".join(tap.layer for tap in self.encoder.outputs)
        return (
            f"{taps}, {self.encoder.width} channels, of the middle {crop.size} px of the image, "
            f"whose shorter side is resized to {crop.resized} px ({crop.resize_filter})"
        )

    def manifest(self) -> manifests.Manifest:
        """What decides the descriptors."""
        made = self.loaded.manifest(self.extraction, self.extraction.views[0])
        known = made["protocol"].get("recipe", {}) | made["protocol"]
        kept = ("encoder", "resnet_variant", "precision", "mean", "divisor")
        protocol = {key: known[key] for key in kept if key in known}
        protocol |= dataclasses.asdict(self.crop)
        protocol |= {"taps": [tap.layer for tap in self.encoder.outputs], "stain": "none"}
        return made | {"protocol": protocol}


def crop_of(encoder: Encoder, own_resizing: bool) -> CentreCrop:
    """224 of 224 px, bilinear; or as the encoder's publishers resize, where that is known."""
    native = encoder.native
    if native is None or not own_resizing:
        return CentreCrop()
    resized = native.resized or native.input_size
    return CentreCrop(resized, native.input_size, native.resize_filter)


def describe(paths: Sequence[Path], centre: CentreEncoder, root: Path) -> np.ndarray:
    """Descriptors of images, float32 [N, D]; those of files seen before are read from `root`.

    They are written after each batch, so that a run that was stopped goes on where it was.

    Raises:
      InputError: an image cannot be read; or the file of descriptors is damaged, or was made in
        another way (the message lists the differences).
    """
    path, encoder = root / f"{centre.name}.npz", centre.encoder
    manifest = centre.manifest()
    known = _read(path, manifest, encoder.width)
    sums = [files.sha256(image) for image in paths]
    missing = [i for i, digest in enumerate(sums) if digest not in known]
    mesh = plans.mesh_of(jax.local_devices())
    size = _CROPS.get(jax.default_backend(), _CROPS_ELSEWHERE) * mesh.size
    variables = jax.device_put(centre.loaded.variables, plans.replicated(mesh))
    shared = NamedSharding(mesh, PartitionSpec(plans.AXIS))
    crops = prefetch.prefetch(
        lambda i: centre.crop(reader.read(paths[i])), missing, 2 * size, _DECODERS
    )
    with Progress(f"describe {encoder.name}", len(missing), "images") as bar:
        for start in range(0, len(missing), size):
            places = missing[start : start + size]
            batch = np.stack([next(crops) for _ in places])
            filled = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
            on_devices = jax.device_put(filled, shared)
            vectors = np.asarray(encoder.descriptors(variables, on_devices))
            if not np.isfinite(vectors[: len(places)]).all():
                raise InputError(
                    f"{encoder.name} gave descriptors of {paths[places[0]]}, or of an image "
                    "after it, that are not finite: the weights are unusable"
                )
            known |= {sums[i]: vector for i, vector in zip(places, vectors, strict=False)}
            _write(path, manifest, known)
            bar.add(len(places))
    return np.stack([known[digest] for digest in sums])


def _write(path: Path, manifest: manifests.Manifest, known: dict[str, np.ndarray]) -> None:
    made = manifest | {"versions": manifests.versions()}
    arrays = {"descriptors": np.stack(list(known.values())), "files": np.array(list(known))}
    files.write_arrays(path, arrays | {"manifest": np.array(json.dumps(made))})


def _read(path: Path, manifest: manifests.Manifest, width: int) -> dict[str, np.ndarray]:
    """Descriptors by the SHA-256 of the image's file; none where there is no file yet."""
    if not path.exists():
        return {}
    try:
        arrays = npz.read_arrays(path.read_bytes())
        descriptors, sums = arrays["descriptors"], arrays["files"].tolist()
        recorded = json.loads(str(arrays["manifest"]))
    except Exception as error:  # zipfile, zlib and NumPy's header reader raise many kinds.
        raise InputError(
            f"{path} cannot be read as descriptors: remove it, and they are made anew"
        ) from error
    if lines := manifests.differences(recorded, manifest | {"versions": manifests.versions()}):
        raise InputError(
            f"{path} was made in another way; name another folder, or remove it to make it anew:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    expected = (len(sums), width)
    if descriptors.shape != expected or descriptors.dtype != np.float32:
        raise InputError(
            f"{path} holds descriptors {descriptors.dtype} {descriptors.shape}, expected float32 "
            f"{expected}: remove it, and they are made anew"
        )
    return dict(zip(sums, descriptors, strict=True))
