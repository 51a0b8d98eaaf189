"""Image classification sets prepared by TFDS as array_record, unpacked into ordinary image files.

label_table(name, ...) -> CSV for `datasets.load`
image_paths(name, ...) -> paths, whether labelled or not

The encoded images of a split are unpacked once, byte for byte, into the cache, beside their label
table: `tfds/<name>/<config>/<version>/<split>-<build>/images`, where <build> tells one build of the
data set from the next. TensorFlow is not needed, and tensorflow_datasets only for unpacking.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from histojax.datasets import dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files, temporaries
from histojax.utils.progress import Progress

# Features that may name an image or its group: the first scalar one that the data set has is used.
_NAME_FEATURES = ("name", "id", "image_id", "filename", "file_name")
_GROUP_FEATURES = ("group", "patient", "patient_id", "subject", "subject_id")
_GROUP_FEATURES += ("case", "case_id", "slide", "slide_id")
# By how the bytes of an image begin.
_SUFFIXES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}

_INFO, _FEATURES = "dataset_info.json", "features.json"  # Written by TFDS.
_TABLE, _IMAGES, _UNPACKED = "labels.csv", "images", "unpacked.json"
_COLUMNS = ("image", "label", "group")
# Of each image so many blocks of bytes go into a digest, spread over it: to read all of them before
# each run would take as long as to copy the data.
_DIGEST, _BLOCKS, _BLOCK = "sha256_of_blocks", 16, 4096
_NAME_FORM = re.compile(r"(\w+)(?:/([^/:]+))?(?::(\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Names that any file system and any table can hold.
_FILE_NAME = re.compile(r"\w([\w .,()+=@-]{0,150}[\w)+=@-])?")


class _Example(NamedTuple):
    """An encoded image with its name, label and group, each empty where unknown."""

    encoded: bytes
    name: str
    label: str
    group: str


def label_table(
    name: str,
    data_dir: str | Path | None = None,
    split: str = "train",
    cache: str | Path | None = None,
) -> Path:
    """The label table of a split, image,label[,group], beside its unpacked images.

    Arguments and errors are those of `unpacked_folder`; also InputError if an image has no label.
    """
    table = unpacked_folder(name, data_dir, split, cache).parent / _TABLE
    if not table.exists():
        raise InputError(
            f"split {split} of {name} has images without a label: predict it, or name another split"
        )
    return table


def image_paths(
    name: str,
    data_dir: str | Path | None = None,
    split: str = "test",
    cache: str | Path | None = None,
) -> tuple[Path, ...]:
    """The images of a split, sorted by name; see `unpacked_folder`."""
    return tuple(dataset.list_images(unpacked_folder(name, data_dir, split, cache)))


def unpacked_folder(
    name: str, data_dir: str | Path | None, split: str, cache: str | Path | None
) -> Path:
    """The folder of the images of a split, which are unpacked if they are not yet.

    Args:
      name: NAME[/CONFIG][:VERSION] as TFDS writes it; the only config and the newest version may be
        left out.
      data_dir: where TFDS keeps it; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      split: such as train.
      cache: where to unpack; by default $HISTOJAX_CACHE or ~/.cache/histojax.

    Raises:
      InputError: there is no such data set, config, version or split; it is not stored as
        array_record; its examples do not have one image and at most one label each; its files are
        damaged; or what was unpacked before is not complete.
    """
    default = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    data_dir = files.as_path(data_dir or str(default))
    cache = files.as_path(cache) if cache else files.default_cache()
    build = _find_build(name, data_dir)
    _require_readable(build, split)
    target = cache / "tfds" / build.relative_to(data_dir) / f"{split}-{_build_id(build)}"
    if not target.exists():
        _unpack(build, split, target)
    record = files.read_json(target / _UNPACKED, ("images", "bytes"))
    measured = _measure(target)
    if _DIGEST not in record:  # Of an earlier version.
        del measured[_DIGEST]
    if changed := files.differences(measured, record):
        raise InputError(
            f"{target} is not as it was unpacked ({'; '.join(changed)}): remove it, it is made anew"
        )
    return target / _IMAGES


def _find_build(name: str, data_dir: Path) -> Path:
    """The folder of the newest version that NAME[/CONFIG][:VERSION] can mean.

    Raises:
      InputError: nothing fits, or several configs do.
    """
    form = _NAME_FORM.fullmatch(name)
    if not form:
        raise InputError(
            f"--tfds={name} is not of the form NAME[/CONFIG][:VERSION], such as bach or "
            "bach/photos:1.0.0"
        )
    if not files.is_local(data_dir):
        raise InputError(
            f"{data_dir} is not on this machine, where array_record files have to be: copy it"
        )
    dataset_name, wanted_config, wanted_version = form.groups()
    root = data_dir / dataset_name
    builds = {}
    for info in [*root.glob(f"*/{_INFO}"), *root.glob(f"*/*/{_INFO}")]:
        version = info.parent.name
        if _VERSION.fullmatch(version):
            config = info.parent.parent.relative_to(root).name
            builds[config, tuple(map(int, version.split(".")))] = info.parent
    if not builds:
        raise InputError(
            f"{root} holds nothing that TFDS has prepared, expected [CONFIG/]VERSION/{_INFO}: "
            "build it, or pass --tfds_data_dir"
        )
    fitting = {
        (config, version): build
        for (config, version), build in builds.items()
        if wanted_config in (None, config) and wanted_version in (None, build.name)
    }
    if len({config for config, _ in fitting}) != 1:
        available = ", ".join(
            f"{dataset_name}/{config}:{build.name}" if config else f"{dataset_name}:{build.name}"
            for (config, _), build in sorted(builds.items())
        )
        raise InputError(
            f"--tfds={name} names {len(fitting)} of what {data_dir} holds; name one of {available}"
        )
    return fitting[max(fitting)]


def _require_readable(build: Path, split: str) -> None:
    """Raises InputError unless there is such a split, as array_record, with TFDS's own features."""
    info = files.read_json(build / _INFO, ("splits",))
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "array_record":
        raise InputError(
            f"{build} is stored as {file_format}, which only TensorFlow reads: prepare it with "
            "--file_format=array_record"
        )
    described = info["splits"] if isinstance(info["splits"], list) else [None]
    names = [item.get("name") if isinstance(item, dict) else None for item in described]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{build / _INFO} is damaged (splits without names): copy it again")
    splits = sorted(names)
    if split not in splits:
        raise InputError(f"{build} has no split {split}: it has {', '.join(splits)}")
    # TFDS imports the class that a feature names, which could be anybody's code.
    if foreign := sorted(_foreign_classes(files.read_json(build / _FEATURES, ()))):
        raise InputError(
            f"{build} has features of other packages than tensorflow_datasets: {', '.join(foreign)}"
        )


def _foreign_classes(description: Any) -> set[str]:
    """The classes that a description of features names, except TFDS's own."""
    foreign, pending = set(), [description]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
            class_name = str(item.get("pythonClassName", "tensorflow_datasets."))
            if not class_name.startswith("tensorflow_datasets."):
                foreign.add(class_name)
    return foreign


def _build_id(build: Path) -> str:
    """Twelve hexadecimal digits that change when the data set is built again."""
    stats = [(path.name, path.stat()) for path in files.list_folder(build)[1]]
    identity = [
        (name, stat.st_size, stat.st_mtime_ns) for name, stat in stats if not name.startswith(".")
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def _measure(target: Path) -> dict[str, int | str]:
    """How many images were unpacked, how many bytes they and their table have, and a digest."""
    images = dataset.list_images(target / _IMAGES) if (target / _IMAGES).is_dir() else []
    table = [target / _TABLE] if (target / _TABLE).exists() else []
    sizes, digest = 0, hashlib.sha256()
    for path in (*images, *table):
        size = path.stat().st_size
        sizes += size
        with path.open("rb", buffering=0) as file:
            for place in range(0, size, max(_BLOCK, size // _BLOCKS)):
                file.seek(place)
                digest.update(file.read(_BLOCK))
    return {"images": len(images), "bytes": sizes, _DIGEST: digest.hexdigest()}


def _unpack(build: Path, split: str, target: Path) -> None:
    """Writes the images of a split, and their table if all have labels; whole or not at all."""
    temporaries.remove_left(target.parent)
    temporary = target.with_name(temporaries.new_name())
    images = temporary / _IMAGES
    try:
        images.mkdir(parents=True)
        suffixes, examples = [], []
        for i, example in enumerate(_read_examples(build, split)):
            suffix = _suffix(example.encoded)
            if suffix is None:
                raise InputError(f"{build}: image {i + 1} of split {split} is no PNG, JPEG or TIFF")
            (images / f".{i}").write_bytes(example.encoded)
            suffixes.append(suffix)
            examples.append(example._replace(encoded=b""))
        stems = _file_names(split, [example.name for example in examples])
        rows = []
        for i, example in enumerate(examples):
            file_name = f"{stems[i]}{suffixes[i]}"
            (images / f".{i}").rename(images / file_name)
            rows.append((f"{_IMAGES}/{file_name}", example.label, example.group))
        if all(label for _, label, _ in rows):
            width = 3 if any(group for _, _, group in rows) else 2
            table = [row[:width] for row in rows]
            files.write_csv(temporary / _TABLE, table, _COLUMNS[:width])
        files.write_json(temporary / _UNPACKED, _measure(temporary))
        if not target.exists():  # Another process may have been faster.
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _suffix(encoded: bytes) -> str | None:
    """The file ending of an encoded image, None if it is no PNG, JPEG or TIFF."""
    for start, suffix in _SUFFIXES.items():
        if encoded.startswith(start):
            return suffix
    return None


def _read_examples(build: Path, split: str) -> Iterator[_Example]:
    """Yields the examples of a split.

    Raises:
      InputError: there is not one image feature, or more than one label feature; or files are
        damaged.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"--tfds needs a package: {error}; pip install tensorflow-datasets"
        ) from error
    with _as_input_error(build):
        builder = tfds.builder_from_directory(build)
        source = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        count = len(source)
    features = builder.info.features
    images = [key for key in features if type(features[key]) is tfds.features.Image]
    labels = [key for key in features if type(features[key]) is tfds.features.ClassLabel]
    if len(images) != 1 or len(labels) > 1:
        raise InputError(
            f"{build} has {len(images)} images ({', '.join(images)}) and {len(labels)} labels "
            f"({', '.join(labels)}) an example: expected one image and one label"
        )
    name, group = (
        next((key for key in keys if key in features and features[key].shape == ()), None)
        for keys in (_NAME_FEATURES, _GROUP_FEATURES)
    )
    used = tfds.features.FeaturesDict(
        {key: features[key] for key in (*images, *labels, *filter(None, (name, group)))}
    )
    decoders = {images[0]: tfds.decode.SkipDecoding()}
    with Progress("unpack", count, "images") as bar:
        for i in range(count):
            with _as_input_error(build):
                example = used.deserialize_example_np(source[i], decoders=decoders)
                # What array_record makes of some files that are cut short.
                if not example[images[0]]:
                    raise ValueError(f"example {i + 1} of split {split} is empty")
                label = int(example[labels[0]]) if labels else -1
                image = _Example(
                    encoded=example[images[0]],
                    name=_as_text(example[name]) if name else "",
                    label=features[labels[0]].int2str(label) if label >= 0 else "",
                    group=_as_text(example[group]) if group else "",
                )
            yield image
            bar.add(1)


@contextlib.contextmanager
def _as_input_error(build: Path) -> Iterator[None]:
    """Turns any error of TFDS or array_record, some from C++, into an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{build} cannot be read: {error}. Build or copy it again") from error


def _as_text(value: Any) -> str:
    """A name or group, which may be a number."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _file_names(split: str, names: list[str]) -> list[str]:
    """File names without ending: the images' own where files can have them, else numbers."""
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    stems = [path.stem if path.suffix.lower() in reader.SUFFIXES else path.name for path in paths]
    unique = len({stem.casefold() for stem in stems}) == len(stems)
    if unique and all(map(_FILE_NAME.fullmatch, stems)):
        return stems
    digits = len(str(len(names)))
    return [f"{split}-{i:0{digits}d}" for i in range(1, len(names) + 1)]
