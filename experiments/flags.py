"""Flags derived from `histojax.config`, and the one way every script ends after an error."""

import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags, logging

from histojax import config
from histojax.config import PRESETS, Protocol, Runtime, View
from histojax.errors import InputError
from histojax.utils.files import as_path, is_local

if TYPE_CHECKING:
    from histojax.datasets import Dataset
    from histojax.datasets.folds import Folds
    from histojax.prediction.bundle import Bundle
    from histojax.prediction.uncertainty import PredictionOptions

FLAGS = flags.FLAGS
STOPPED = "stopped; run the same command again to go on from here"


def define_protocol(*parts: str) -> None:
    """Defines --protocol, and a flag for each field of its parts, such as `extraction` and `boosting`."""
    flags.DEFINE_enum("protocol", "paper", list(PRESETS), "Preset that the flags below start from.")
    for part in parts:
        for field in dataclasses.fields(getattr(PRESETS["paper"], part)):
            default = getattr(getattr(PRESETS["paper"], part), field.name)
            whose = "paper" if part in ("extraction", "boosting") else "default"
            text = f"{config.options(getattr(PRESETS['paper'], part))[field.name].help} ({whose}: {config.as_text(default)})"
            if isinstance(default, tuple):
                flags.DEFINE_list(field.name, None, text)
            elif isinstance(default, str):
                flags.DEFINE_string(field.name, None, text)
            elif isinstance(default, int):
                flags.DEFINE_integer(field.name, None, text)
            else:
                flags.DEFINE_float(field.name, None, text)


def protocol(*parts: str) -> Protocol:
    """The preset with the given flags laid over it, checked."""
    chosen = PRESETS[FLAGS.protocol]
    for part in parts:
        given = {
            field.name: FLAGS[field.name].value
            for field in dataclasses.fields(getattr(chosen, part))
        }
        given = {name: value for name, value in given.items() if value is not None}
        if "views" in given:
            given["views"] = tuple(View.parse(name) for name in given["views"])
        if "encoders" in given:
            given["encoders"] = tuple(given["encoders"])
        chosen = dataclasses.replace(
            chosen, **{part: dataclasses.replace(getattr(chosen, part), **given)}
        )
    config.check(chosen)
    return chosen


def define_path(name: str, text: str, required: bool = True) -> None:
    """A file or folder."""
    flags.DEFINE_string(name, None, text, required=required)


def path(name: str) -> Path | None:
    """The value of a path flag; None where it was not given."""
    return as_path(FLAGS[name].value) if FLAGS[name].value else None


def define_bool(name: str, text: str) -> None:
    """A switch that is off by default."""
    flags.DEFINE_bool(name, False, text)


def define_list(name: str, text: str, required: bool = False) -> None:
    """Names, separated by commas."""
    flags.DEFINE_list(name, None, text, required=required)


def define_data(required: bool = True) -> None:
    """Where labelled images are."""
    text = "Labelled images: a folder of class folders, BACH's folder as unzipped, or a table image,label[,group]."
    define_path("data", text, required=False)
    define_tfds("data", required)
    flags.DEFINE_list(
        "classes",
        None,
        "Class names in the order wished; by default BACH's order, else alphabetical.",
    )


def define_tfds(other: str, required: bool = False) -> None:
    """Images that TFDS has prepared, in place of those that another flag names."""
    text = f"A data set that TFDS has prepared as array_record, in place of --{other}: NAME[/CONFIG][:VERSION]."
    flags.DEFINE_string("tfds", None, text)
    define_path(
        "tfds_data_dir",
        "Where TFDS keeps it ($TFDS_DATA_DIR or ~/tensorflow_datasets).",
        required=False,
    )
    flags.DEFINE_string("tfds_split", "train", "Its split.")
    flags.mark_flags_as_mutual_exclusive([other, "tfds"], required)


def prepared() -> tuple[str, Path | None, str]:
    """The values of those flags, as the functions of `histojax.datasets.tfds` take them."""
    return FLAGS.tfds, path("tfds_data_dir"), FLAGS.tfds_split


def data() -> Path | None:
    """The labelled images of --data, or the label table of --tfds; None where neither is given.

    Raises:
      InputError: as for `prepared.table`.
    """
    from histojax.datasets.tfds import label_table

    return label_table(*prepared()) if FLAGS.tfds else path("data")


def define_size(width: int, height: int) -> None:
    """What photos must measure."""
    flags.DEFINE_integer("width", width, "Width of every photo, in pixels.", lower_bound=1)
    flags.DEFINE_integer("height", height, "Height of every photo, in pixels.", lower_bound=1)


def define_folds() -> None:
    """How the labelled images are split, and what their groups are."""
    text = "stratified by class; grouped: whole patients or slides too (where they are known, the default); or paper."
    flags.DEFINE_enum("fold_maker", None, config.FOLD_MAKERS, text)
    define_groups()
    text = (
        "An image of unknown group is one of its own, or of one group together, or only trained on."
    )
    flags.DEFINE_enum("unknown_groups", "own", config.UNKNOWN_GROUPS, text)
    define_path("paper_folds", "The authors' folds-10.pkl, for --fold_maker=paper.", False)


def define_groups() -> None:
    """What the groups of the labelled images are."""
    define_path(
        "groups",
        "Table of the patient or slide of each image: CSV, or BACH's patient spreadsheet.",
        False,
    )
    define_text("group_column", "Its column of groups, where the header does not tell.")


def define_fold_count() -> None:
    """How many folds, and the seed of the split, where no protocol has flags for them."""
    flags.DEFINE_integer(
        "folds", config.Boosting.folds, config.options(config.Boosting)["folds"].help, lower_bound=2
    )
    flags.DEFINE_integer(
        "fold_seed",
        config.Boosting.fold_seed,
        config.options(config.Boosting)["fold_seed"].help,
        lower_bound=0,
    )


def dataset() -> "Dataset":
    """The labelled images of --data or --tfds, with the groups of --groups."""
    from histojax import datasets
    from histojax.datasets import groups

    found = datasets.load(data(), classes())
    return groups.add_groups(found, path("groups"), FLAGS.group_column) if FLAGS.groups else found


def paper_split(data: "Dataset") -> "Folds | None":
    """The authors' split, where --fold_maker=paper asks for it."""
    from histojax.datasets import paper_folds

    if (FLAGS.fold_maker == "paper") != bool(FLAGS.paper_folds):
        raise InputError("--fold_maker=paper and --paper_folds=folds-10.pkl go together")
    return paper_folds.load(path("paper_folds"), data) if FLAGS.paper_folds else None


def split(models: Path, data: "Dataset", count: int, seed: int) -> "Folds":
    """The split in the models' folder, or a new one by the flags, saved there."""
    from histojax.datasets import folds  # Here alone: extraction needs no scikit-learn.
    from histojax.learners import ensembles

    maker = paper_split(data) or FLAGS.fold_maker
    found = folds.load_or_make(
        models / ensembles.FOLDS, data, count, seed, maker, FLAGS.unknown_groups
    )
    print(f"split: {found.origin}")
    return found


def refuse_inside_data(*names: str) -> None:
    """Raises InputError where an output folder lies in the folder of --data, where it would become a class."""
    place = path("data")
    for name in names:
        if (
            place is not None
            and place.is_dir()
            and absolute(path(name)).is_relative_to(absolute(place))
        ):
            raise InputError(
                f"--{name}={path(name)} lies inside --data={place}: name a folder outside of the data"
            )


def absolute(place: Path) -> Path:
    """The path without links and dots; a URI as it is."""
    return place.resolve() if is_local(place) else place


def classes() -> tuple[str, ...] | None:
    """The value of --classes."""
    return tuple(FLAGS.classes) if FLAGS.classes else None


def define_ensemble(workers: int | None = None) -> None:
    """What the ensemble is trained on, and by how many processes, where it is trained by some."""
    text = "Configurations to train on, such as ResNet-0.5-400; by default all that are found."
    flags.DEFINE_list("configurations", None, text)
    if workers is not None:
        flags.DEFINE_integer(
            "workers", workers, "Training processes, of one thread each.", lower_bound=1
        )


def configurations() -> tuple[str, ...]:
    """Those of --configurations, or all that --descriptors holds.

    Raises:
      InputError: it holds none, or not those.
    """
    from histojax.extraction import store

    descriptors = path("descriptors")
    found = store.configurations(descriptors)
    if not found:
        raise InputError(f"{descriptors} holds no descriptors: run histojax extract first")
    if unknown := sorted(set(FLAGS.configurations or ()) - set(found)):
        raise InputError(
            f"{descriptors} has no descriptors of {', '.join(unknown)}; it has {', '.join(found)}"
        )
    return tuple(FLAGS.configurations or found)


def define_text(name: str, text: str) -> None:
    """A line of text."""
    flags.DEFINE_string(name, None, text)


def define_mpp() -> None:
    """The pixel size of images, where their files do not tell."""
    text = "Microns per pixel of the images, where files do not say it or are wrong; needed where --target_mpp is set."
    flags.DEFINE_float("mpp", None, text, lower_bound=0.01, upper_bound=20.0)
    flags.register_validator("mpp", lambda mpp: mpp is None or mpp == mpp, "--mpp is no number")


def define_images() -> None:
    """Images without labels."""
    define_path(
        "images",
        "A folder of images, one image, or a list (.txt, or .csv with a column image).",
        False,
    )
    define_tfds("images")


def define_labelled_images() -> None:
    """Labelled images in their place."""
    define_path(
        "data",
        "Labelled images in place of --images: class folders or a table; says how good it is.",
        False,
    )


def no_images() -> bool:
    """Whether neither --images nor --tfds was given."""
    return not FLAGS.images and not FLAGS.tfds


def images() -> tuple[Path, ...]:
    """The images of --images, or of --tfds.

    Raises:
      InputError: there are none, or two of one name.
    """
    from histojax.datasets import tfds, unlabelled

    return tfds.image_paths(*prepared()) if FLAGS.tfds else unlabelled.find_images([path("images")])


def define_model() -> None:
    """What predicts."""
    define_path("bundle", "File of histojax bundle, in place of --models.", required=False)
    define_path(
        "models", "Folder of models, as histojax train or histojax probe writes it.", required=False
    )
    define_path(
        "trained_on",
        "With --models: the folder of the training images' descriptors.",
        required=False,
    )
    flags.mark_flags_as_mutual_exclusive(["bundle", "models"], required=True)
    define_positive()


def model() -> "Bundle":
    """The models of --bundle or --models.

    Raises:
      InputError: they are unusable, or a flag does not go with --bundle.
    """
    from histojax.prediction import bundle

    if not FLAGS.bundle:
        return bundle.from_models(
            path("models"), FLAGS.positive_classes, descriptors=path("trained_on")
        )
    if unfit := [name for name in ("trained_on", "positive_classes") if FLAGS[name].value]:
        raise InputError(f"--{unfit[0]} goes with --models: the bundle has its own")
    return bundle.load(path("bundle"))


def define_prediction_options() -> None:
    """What is wanted of predictions."""
    text = "Share of images whose class shall be in the prediction set."
    flags.DEFINE_float("coverage", 0.9, text, lower_bound=0.01, upper_bound=0.999)
    text = "Sensitivity that the operating point is to have; by default the bundle's, or 0.95."
    flags.DEFINE_float("sensitivity", None, text, lower_bound=0.01, upper_bound=1.0)
    text = "Classes that a prediction set may have before the answer is abstained from; by default half of all."
    flags.DEFINE_integer("largest_set", None, text, lower_bound=1)


def prediction_options() -> "PredictionOptions":
    """The values of those flags."""
    from histojax.prediction.uncertainty import PredictionOptions

    return PredictionOptions(FLAGS.coverage, FLAGS.sensitivity, FLAGS.largest_set)


def define_integer(name: str, default: int | None, text: str, lower_bound: int = 1) -> None:
    """A whole number."""
    flags.DEFINE_integer(name, default, text, lower_bound=lower_bound)


def define_float(name: str, default: float | None, text: str) -> None:
    """A number."""
    flags.DEFINE_float(name, default, text)


def define_weights() -> None:
    """Where ImageNet weights are."""
    define_path(
        "weights_dir",
        "Folder with the official weight files, for machines without network.",
        required=False,
    )
    define_path(
        "weights_cache",
        "Folder for weight files ($HISTOJAX_CACHE or ~/.cache/histojax).",
        required=False,
    )


def weight_files() -> Runtime:
    """Where ImageNet weights are, by the flags of `define_weights`."""
    return Runtime(cache=path("weights_cache"), weights_dir=path("weights_dir"))


def define_runtime() -> None:
    """What changes how extraction runs but not what it gives."""
    text = "Crops that go through an encoder at a time (whole images with --crop_mode=shared), on all devices together; "
    text += "by default what memory allows, tried once and remembered in the cache."
    flags.DEFINE_integer("crops_per_step", None, text, lower_bound=1)
    define_weights()
    text = "xla, or pallas: the fused pooling kernel, for --crop_mode=exact on a GPU (interpreted, so slow, on a CPU)."
    flags.DEFINE_enum("pooling", "xla", ["xla", "pallas"], text)
    text = "Folder, or gs:// path, to keep compiled programs in, so that a later run need not compile them again."
    flags.DEFINE_string("compilation_cache", None, text)


def runtime() -> Runtime:
    """The values of those flags."""
    # Imported here, since the scripts that train trees and evaluate them need no jax.
    from histojax.extraction import devices

    devices.split_cpu()
    if FLAGS.compilation_cache:
        devices.keep_compiled(FLAGS.compilation_cache)
    return dataclasses.replace(
        weight_files(), crops_per_step=FLAGS.crops_per_step, pooling=FLAGS.pooling
    )


def define_processes() -> None:
    """Several processes, on one machine or many, that share one run."""
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, where the processes of one run meet."
    )
    flags.DEFINE_integer("num_processes", None, "How many processes share the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0 on.", lower_bound=0)
    text = "Meet the other processes by the cluster's environment (Slurm, MPI, TPU pods and others that JAX knows)."
    flags.DEFINE_bool("distributed", False, text)


def processes() -> dict[str, int]:
    """Meets the other processes, if there are to be any: this one's number, and how many there are."""
    given = [FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id]
    if all(value is None for value in given) and not FLAGS.distributed:
        return {}
    if not FLAGS.distributed and any(value is None for value in given):
        raise InputError(
            "--coordinator, --num_processes and --process_id go together (or pass --distributed alone)"
        )
    if (
        FLAGS.process_id is not None
        and FLAGS.num_processes is not None
        and FLAGS.process_id >= FLAGS.num_processes
    ):
        raise InputError(
            f"--process_id={FLAGS.process_id} of --num_processes={FLAGS.num_processes}: they count from 0"
        )
    from histojax.extraction import devices

    process, count = devices.join(*given)
    return {"process": process, "processes": count}


def define_positive() -> None:
    """Which classes are carcinoma."""
    text = "Classes that count as carcinoma; by default InSitu and Invasive, or the second of two classes."
    flags.DEFINE_list("positive_classes", [], text)


def define_sensitivity() -> None:
    """What the operating point is to reach."""
    text = "Sensitivity for carcinoma that the operating point is chosen for, on other folds than it is judged on."
    flags.DEFINE_float("sensitivity", 0.95, text, lower_bound=0.01, upper_bound=1.0)


def take(name: str, value: str) -> None:
    """Gives a flag a value that was written without its name, checked as if it had been with it."""
    try:
        setattr(FLAGS, name, value)
    except flags.Error as error:
        raise InputError(str(error)) from error


def run(main: Callable[[], None], doc: str, positional: str | None = None) -> None:
    """Runs a script: an error of input or machine becomes one message on standard error and exit code 1.

    Args:
      main: the script.
      doc: its help.
      positional: a flag whose value may also be given without its name.
    """

    def guarded(arguments: list[str]) -> None:
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # So that workers and temporary files are cleared.
        try:
            if positional and len(arguments) == 2 and FLAGS[positional].value is None:
                take(positional, arguments.pop())
            if len(arguments) > 1:
                raise InputError(
                    f"unexpected argument {arguments[1]!r}: flags are written --name=value, see --help"
                )
            main()
        except InputError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(
                f"error: {error.filename or 'a file'}: {error.strerror or error}. What was finished is kept"
            )
        except MemoryError:
            sys.exit(
                "error: out of memory. What was finished is kept: run again with fewer --workers or crops a step"
            )
        except KeyboardInterrupt:
            sys.exit(STOPPED)
        except RuntimeError as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            sys.exit(
                STOPPED
            )  # Stopped while a checkpoint was written: its threads cannot be had any more.

    sys.modules["__main__"].__doc__ = doc
    for flag in FLAGS.flags_by_module_dict()[__name__]:
        FLAGS.register_key_flag_for_module(
            sys.argv[0], flag
        )  # So that --help shows the script's flags.
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    app.run(guarded)
