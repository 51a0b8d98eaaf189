"""The official ImageNet files of the paper's encoders: where they are, downloaded once, checked."""

from collections.abc import Iterable
from pathlib import Path

from histojax import encoders
from histojax.encoders import Encoder
from histojax.encoders.sources import WeightFile
from histojax.errors import InputError
from histojax.utils import download


def md5s(encoder: Encoder) -> set[str]:
    """Checksums of the official files of an encoder, of either generation."""
    rows: Iterable[Encoder] = (encoder,)
    if encoder.name == "ResNet":
        rows = (encoder, *encoders.RESNET_VARIANTS.values())
    return {row.weight_file.md5 for row in rows if row.weight_file}


def place(official: WeightFile, cache: Path, weights_dir: Path | None) -> Path:
    """Where an official file is read from, whether it is there or not."""
    return weights_dir / official.file if weights_dir else cache / official.md5[:8] / official.file


def require(encoder: Encoder, cache: Path, weights_dir: Path | None) -> tuple[Path, str]:
    """Path and md5 of the encoder's verified weight file.

    It is taken from `weights_dir` alone if that is given, else from the cache or downloaded. In
    `weights_dir` either generation of the ResNet-50 file will do: they share a name.
    """
    official = encoder.weight_file
    if official is None:
        raise InputError(
            f"there are no ImageNet weights for {encoder.name}: use --weights={encoder.name}=FILE "
            "with a file of weights, or --weights=random"
        )
    accepted = {official.md5}
    path = place(official, cache, weights_dir)
    if weights_dir is None:
        if not path.exists():
            download.fetch(official.url, path, official.md5)
    else:
        if not path.exists():
            raise InputError(
                f"{path} does not exist: put the file of {official.url} (md5 {official.md5}) "
                "into --weights_dir"
            )
        accepted = md5s(encoder)
    md5 = download.md5(path)
    if md5 not in accepted:
        raise InputError(
            f"{path} has md5 {md5}, expected {' or '.join(sorted(accepted))}: not used. If it is "
            "damaged, remove it and fetch it again; if it holds weights of your own, pass "
            f"--weights={encoder.name}={path}"
        )
    return path, md5
