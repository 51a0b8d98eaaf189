"""Any image classification set that TFDS has prepared as array_record, as files that are read as any others are.

table(name, ...) -> a label table      folder(name, ...) -> a folder of images, labelled or not
load(name, ...) -> Dataset             unlabelled(name, ...) -> paths

The encoded images of a split are unpacked once, as they are, into the cache, under a name that tells one build of the
data set from the next: `tfds/<name>/<config>/<version>/<split>-<build>/images`, beside their label table. TensorFlow is
not needed, and tensorflow_datasets only to unpack.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from histojax.datasets import dataset, tables
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files
from histojax.utils.progress import Progress

# Features that name an image, and those that tell its group: the first of each that is there and fits is taken.
NAMES = ("name", "id", "image_id", "filename", "file_name")
GROUPS = (
    "group",
    "patient",
    "patient_id",
    "subject",
    "subject_id",
    "case",
    "case_id",
    "slide",
    "slide_id",
)
TEXTS = (NAMES, GROUPS)
# The endings of images by how their bytes begin.
ENDINGS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}

INFO, FEATURES = "dataset_info.json", "features.json"  # TFDS's own.
TABLE, IMAGES, UNPACKED = "labels.csv", "images", "unpacked.json"
FORM = re.compile(r"(\w+)(?:/([^/:]+))?(?::(\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
# What is a name on any file system, and in any table.
FILE_NAME = re.compile(r"\w([\w .,()+=@-]{0,150}[\w)+=@-])?")


def load(
    name: str,
    data_dir: Path | None = None,
    split: str = "train",
    classes: tuple[str, ...] | None = None,
    cache: Path | None = None,
) -> Dataset:
    """The labelled images of a split, with their groups where a feature tells them.

    Args:
      name: name[/config][:version] as TFDS writes it; the only config and the newest version may be left out.
      data_dir: where TFDS keeps it; $TFDS_DATA_DIR or ~/tensorflow_datasets by default.
      split: such as train.
      classes: as for `datasets.load`.
      cache: where to unpack; $HISTOJAX_CACHE or ~/.cache/histojax by default.

    Raises:
      InputError: as for `table` and `datasets.load`.
    """
    return tables.load(label_table(name, data_dir, split, cache), classes)


def image_paths(
    name: str, data_dir: Path | None = None, split: str = "test", cache: Path | None = None
) -> tuple[Path, ...]:
    """The images of a split, by name, whether labelled or not.

    Raises:
      InputError: as for `folder`.
    """
    return tuple(dataset.list_images(folder(name, data_dir, split, cache)))


def label_table(
    name: str, data_dir: Path | None = None, split: str = "train", cache: Path | None = None
) -> Path:
    """The label table of a split, image,label[,group], beside its unpacked images.

    Raises:
      InputError: as for `folder`, or images have no label.
    """
    found = folder(name, data_dir, split, cache).parent / TABLE
    if not found.exists():
        raise InputError(
            f"split {split} of {name} has images without a label: predict it, or name another split"
        )
    return found


def folder(
    name: str, data_dir: Path | None = None, split: str = "train", cache: Path | None = None
) -> Path:
    """The folder of the images of a split, unpacked if they are not yet.

    Raises:
      InputError: there is no such data set, config, version or split; it is not stored as array_record; an example has
        not just one image and at most one label; its files are damaged; or what was unpacked before is not complete.
    """
    data_dir = data_dir or default_data_dir()
    place = find(name, data_dir)
    require_readable(place, split)
    target = (
        (cache or files.default_cache())
        / "tfds"
        / place.relative_to(data_dir)
        / f"{split}-{build_of(place)}"
    )
    if not target.exists():
        unpack(place, split, target)
    made, there = files.read_json(target / UNPACKED, ("images", "bytes")), measured(target)
    if changed := files.differences(there, made):
        raise InputError(
            f"{target} is not as it was unpacked ({'; '.join(changed)}): remove it, it is made anew"
        )
    return target / IMAGES


def default_data_dir() -> Path:
    """Where TFDS itself looks."""
    return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")


def find(name: str, data_dir: Path) -> Path:
    """The folder of the newest version that `name` may mean.

    Raises:
      InputError: none is meant, or several configs may be.
    """
    form = FORM.fullmatch(name)
    if not form:
        raise InputError(
            f"--tfds={name} is not of the form NAME[/CONFIG][:VERSION], such as bach or bach/photos:1.0.0"
        )
    if not files.is_local(data_dir):
        raise InputError(
            f"{data_dir} is not on this machine, where array_record files have to be: copy it"
        )
    root, (_, config, version) = data_dir / form[1], form.groups()
    built = {}
    for place in (found.parent for found in [*root.glob(f"*/{INFO}"), *root.glob(f"*/*/{INFO}")]):
        if VERSION.fullmatch(place.name):
            built[place.parent.relative_to(root).name, tuple(map(int, place.name.split(".")))] = (
                place
            )
    if not built:
        raise InputError(
            f"{root} holds nothing that TFDS has prepared, expected [CONFIG/]VERSION/{INFO}: build it, or pass "
            "--tfds_data_dir"
        )
    fitting = {
        key: each
        for key, each in built.items()
        if config in (None, key[0]) and version in (None, each.name)
    }
    if len({config for config, _ in fitting}) != 1:
        held = ", ".join(
            f"{form[1]}{'/' * bool(key[0])}{key[0]}:{each.name}"
            for key, each in sorted(built.items())
        )
        raise InputError(
            f"--tfds={name} names {len(fitting)} of what {data_dir} holds; name one of {held}"
        )
    return fitting[max(fitting)]


def require_readable(place: Path, split: str) -> None:
    """Raises InputError unless a data set has the split, as array_record, and no features but TFDS's own."""
    info = files.read_json(place / INFO, ("splits",))
    if (form := info.get("fileFormat", "tfrecord")) != "array_record":
        raise InputError(
            f"{place} is stored as {form}, which only TensorFlow reads: prepare it with --file_format=array_record"
        )
    splits = sorted(each["name"] for each in info["splits"])
    if split not in splits:
        raise InputError(f"{place} has no split {split}: it has {', '.join(splits)}")
    # TFDS imports the class that a feature names, which could be anybody's code.
    if foreign := sorted(foreign_classes(files.read_json(place / FEATURES, ()))):
        raise InputError(
            f"{place} has features of other packages than tensorflow_datasets: {', '.join(foreign)}"
        )


def foreign_classes(described: Any) -> set[str]:
    """The classes that a description of features names, but for TFDS's own."""
    if isinstance(described, list):
        return {name for item in described for name in foreign_classes(item)}
    if not isinstance(described, dict):
        return set()
    own = str(described.get("pythonClassName", "tensorflow_datasets."))
    nested = {name for item in described.values() for name in foreign_classes(item)}
    return nested if own.startswith("tensorflow_datasets.") else nested | {own}


def build_of(place: Path) -> str:
    """Twelve letters that change when the data set is built again."""
    stats = [(path.name, path.stat()) for path in files.list_folder(place)[1]]
    seen = [
        (name, stat.st_size, stat.st_mtime_ns) for name, stat in stats if not name.startswith(".")
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]


def measured(target: Path) -> dict[str, int]:
    """How many images were unpacked, and how many bytes they and their table have."""
    found = dataset.list_images(target / IMAGES) if (target / IMAGES).is_dir() else []
    table = [target / TABLE] if (target / TABLE).exists() else []
    return {"images": len(found), "bytes": sum(path.stat().st_size for path in found + table)}


def unpack(place: Path, split: str, target: Path) -> None:
    """Writes the images of a split, their table if all have labels, and what that makes; whole or not at all."""
    temporary = target.with_name(files.temporary_name())
    try:
        (temporary / IMAGES).mkdir(parents=True)
        told = []
        for i, (encoded, *words) in enumerate(examples(place, split)):
            ending = next(
                (ending for start, ending in ENDINGS.items() if encoded.startswith(start)), None
            )
            if ending is None:
                raise InputError(f"{place}: image {i + 1} of split {split} is no PNG, JPEG or TIFF")
            (temporary / IMAGES / f".{i}").write_bytes(encoded)
            told.append((ending, *words))
        rows = []
        for i, (file_name, (ending, _, label, group)) in enumerate(
            zip(file_names(split, told), told, strict=True)
        ):
            (temporary / IMAGES / f".{i}").rename(temporary / IMAGES / f"{file_name}{ending}")
            rows.append((f"{IMAGES}/{file_name}{ending}", label, group))
        if all(label for _, label, _ in rows):
            width = 3 if any(group for _, _, group in rows) else 2
            files.write_csv(
                temporary / TABLE,
                [row[:width] for row in rows],
                ("image", "label", "group")[:width],
            )
        files.write_json(temporary / UNPACKED, measured(temporary))
        if not target.exists():  # Another process may have been faster.
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def examples(place: Path, split: str) -> Iterator[tuple[bytes, str, str, str]]:
    """The encoded image, name, label and group of each example of a split; empty where they are not known.

    Raises:
      InputError: an example has no image, or several, or several labels; or files are damaged.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"--tfds needs a package: {error}; pip install tensorflow-datasets"
        ) from error
    with damaged(place):
        builder = tfds.builder_from_directory(place)
        source = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        count = len(source)
    features = builder.info.features
    found = [key for key in features if type(features[key]) is tfds.features.Image]
    labels = [key for key in features if type(features[key]) is tfds.features.ClassLabel]
    if len(found) != 1 or len(labels) > 1:
        raise InputError(
            f"{place} has {len(found)} images ({', '.join(found)}) and {len(labels)} labels ({', '.join(labels)}) an "
            "example: expected one image and one label"
        )
    words = [
        next((key for key in keys if key in features and features[key].shape == ()), None)
        for keys in TEXTS
    ]
    kept = tfds.features.FeaturesDict(
        {key: features[key] for key in (*found, *labels, *filter(None, words))}
    )
    with Progress("unpack", count, "images") as bar:
        for i in range(count):
            with damaged(place):
                example = kept.deserialize_example_np(
                    source[i], decoders={found[0]: tfds.decode.SkipDecoding()}
                )
                if not example[
                    found[0]
                ]:  # What array_record makes of some files that are cut short.
                    raise ValueError(f"example {i + 1} of split {split} is empty")
                name, group = (as_text(example[key]) if key else "" for key in words)
                label = int(example[labels[0]]) if labels else -1
            yield (
                example[found[0]],
                name,
                features[labels[0]].int2str(label) if label >= 0 else "",
                group,
            )
            bar.add(1)


@contextlib.contextmanager
def damaged(place: Path) -> Iterator[None]:
    """Whatever TFDS and array_record throw up becomes one message."""
    try:
        yield
    except Exception as error:  # Of their own kinds, some from C++.
        raise InputError(f"{place} cannot be read: {error}. Build or copy it again") from error


def as_text(value: Any) -> str:
    """A name or group, which may be a number."""
    return value.decode() if isinstance(value, bytes) else str(value)


def file_names(split: str, told: list[tuple[str, str, str, str]]) -> list[str]:
    """What the images are called without ending: as the data set names them, or by number where that will not do."""
    names = [PurePosixPath(name.replace("\\", "/")) for _, name, _, _ in told]
    stems = [path.stem if path.suffix.lower() in reader.SUFFIXES else path.name for path in names]
    if all(map(FILE_NAME.fullmatch, stems)) and len({stem.casefold() for stem in stems}) == len(
        stems
    ):
        return stems
    return [f"{split}-{i:0{len(str(len(told)))}d}" for i in range(1, len(told) + 1)]
