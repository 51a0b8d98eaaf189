"""Everything in one command: labelled images to models, report and predictions.

histojax mine DATA                    inspection, descriptors, models, report, bundle
histojax mine DATA NEW                and predictions and heat maps of the images in NEW
histojax mine DATA --weights=random --augmentations=4 --crops=6          a quick trial

DATA is a folder of class folders, BACH's folder as unzipped, or a table image,label[,group]; NEW is
a folder, an image or a list. Everything goes below --run, where every other script finds it by the
same flag:

inspection/inspection.html      what is unusual about the images
descriptors, models             what was extracted, and the ensemble
report/report.html              how good the models are
bundle.histojax, bundle.md      the models in one file, and their model card
predictions/predictions.csv     a row for each image in NEW; heatmaps/<image>/overview.html, its map

Where --run holds imported descriptors (histojax import_descriptors --run=RUN), DATA is a table that
names their slides, and NEW are new features: neither images nor encoders are needed, so there is no
inspection and there are no heat maps, and flags of these are refused.

Before the long work starts, it asks what the data leave open (such as which class is positive), by
one message that says what to pass. Each step then says in a line what was decided and where its
files are. What is decided here, each by a flag of its own that has the last word: the views and the
pixel size, by the images; the folds, by classes and groups; --protocol, small for few images or
groups, else paper; and on a CPU, 4 augmentations of 6 crops in place of 50 of 20. With --protocol,
all of its numbers hold.

Where images are copies of each other, or overlap, and would be in two folds, it asks, too:
--group_copies keeps them in one, and --nogroup_copies goes on as it is.

After a stop, the same command goes on. On an accelerator, or with --overlap, a configuration is
trained while the next one is extracted; lines tell when each was. The exit code is 3 where some
images in NEW failed. For research, not for diagnosis.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags, logging

from histojax.config import PRESETS, Extraction, Option, Protocol
from histojax.datasets import Dataset, copies, positive
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.inspection import inspection, recommend
from histojax.inspection.findings import PROBLEM
from histojax.report import inspection as pages
from histojax.utils.files import require_writable
from histojax.utils.words import quantity

from . import computing, data, models, protocol, runner, splits
from .flag_types import AUTO, define, define_path

if TYPE_CHECKING:
    from . import pipeline

FLAGS = flags.FLAGS
POSITIONAL = ("data", "new")  # Flags whose values may be passed without their names.

# Fewer images, or groups where they are known, are few.
_FEW_IMAGES, _FEW_GROUPS = 200, 20
# What a CPU can do in minutes where nothing else is asked for.
_ON_CPU = {"augmentations": 4, "crops": 6}

data.define_labelled()
splits.define_split()
data.define_site_columns()
data.define_mpp()
protocol.define_preset("extraction", "boosting", default=None)
computing.define_runtime("checked", "xla_preset")
models.define_workers()
models.define_positive()
models.define_sensitivity()
define_path(
    "new",
    "Images to predict and to map: a folder, one image, or a list. Of imported descriptors: "
    "features.",
)
define("run", Path, Option("Folder to write everything to."), "runs/mine")
flags.DEFINE_bool(
    "overlap",
    None,
    "Train a configuration while the next one is extracted. Default: on an accelerator, since a "
    "CPU has nothing to spare.",
)
flags.DEFINE_bool("heatmaps", True, "Map the images in NEW, too.")
flags.DEFINE_string(
    "data_licence",
    None,
    "Source and licence of the labelled images, in a line, for the model card.",
)


def main() -> None:
    from . import pipeline  # Not above: the processes that train import this file, without JAX.

    data.refuse_inside_data("run")
    if FLAGS.new:
        data.refuse_inside_data("new")
    descriptors = FLAGS.run / "descriptors"
    imported = store.configurations(descriptors)
    slides = manifests.imported_slides(descriptors, imported)
    if slides:
        computing.refuse_where_imported("heatmaps", "overlap")
        print(f"descriptors: {len(slides)} slides, {', '.join(imported)}: {descriptors}")
    dataset = splits.with_copies(data.dataset(slides), FLAGS.run / "models")
    counts = Counter(dataset.classes[label] for label in dataset.labels)
    listed = ", ".join(f"{name} {counts[name]}" for name in dataset.classes)
    print(f"data: {len(dataset.labels)} images, {listed}")
    print(positive.choose(dataset.classes, FLAGS.positive_classes).reason)
    if slides:
        chosen = choose_for_imported(dataset, imported)
        require_writable(FLAGS.run)
        plan = dataclasses.replace(plan_of(dataset, chosen), imported=imported, features=FLAGS.new)
        pipeline.claim(plan)
        if not pipeline.carry_out_imported(plan):
            sys.exit(runner.PARTLY_FAILED)
        return
    new = data.find_unlabelled(FLAGS.new) if FLAGS.new else {}
    runtime = computing.runtime()
    chosen = choose(dataset)
    require_writable(FLAGS.run)
    extraction, boosting = chosen.extraction, chosen.boosting
    encoder_set = pipeline.load_encoders(dataset.images, extraction, FLAGS.mpp, runtime)
    sources = {loaded.file.get("file", loaded.source) for loaded in encoder_set.encoders.values()}
    used, mesh = (*encoder_set.encoders, *sources), encoder_set.engine.mesh
    devices = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    print(f"encoders: {', '.join(used)}, on {devices}")
    with models.split_kept_with_models(FLAGS.run / "models"):
        plan = dataclasses.replace(
            plan_of(dataset, chosen),
            new=new,
            heatmaps=FLAGS.heatmaps,
            mpp=FLAGS.mpp,
            runtime=runtime,
            overlap=FLAGS.overlap,
        )
        pipeline.claim(plan, encoder_set)
        inspected, problems = inspect(extraction, boosting.folds)
        if not any(plan.job.models.glob("*/seed*")):  # Else it would come late.
            page = FLAGS.run / "inspection" / pages.PAGE
            splits.ask_about_copies(inspected.image_set, plan.dataset, plan.split, page)
    all_done = pipeline.carry_out(plan, encoder_set)
    if problems:
        print(f"all this rests on images with {quantity(problems, 'problem')}, listed above")
    if not all_done:
        sys.exit(runner.PARTLY_FAILED)


def plan_of(dataset: Dataset, chosen: Protocol) -> "pipeline.Plan":
    """What is to be done with labelled images; makes their split."""
    from . import pipeline

    boosting = chosen.boosting
    return pipeline.Plan(
        run=FLAGS.run,
        source=data.label_table(),
        dataset=dataset,
        split=splits.load_or_make(
            FLAGS.run / "models", dataset, boosting.folds, boosting.fold_seed
        ),
        protocol=chosen,
        positive_classes=tuple(FLAGS.positive_classes),
        sensitivity=FLAGS.sensitivity,
        workers=FLAGS.workers,
        data_licence=FLAGS.data_licence,
    )


def choose_for_imported(dataset: Dataset, configurations: Sequence[str]) -> Protocol:
    """The protocol of trees by the flags, and for the rest by the slides and their groups."""
    why = "as asked for"
    if FLAGS.protocol is None:
        FLAGS.protocol, why = _preset(dataset)
    _fill_folds(dataset)
    chosen = protocol.from_flags("boosting")
    folds, seeds = chosen.boosting.folds, chosen.boosting.seeds
    print(
        f"protocol: {FLAGS.protocol}, {why}. {folds} folds, {quantity(seeds, 'seed')}: "
        f"{len(configurations) * folds * seeds} models"
    )
    return chosen


def choose(dataset: Dataset) -> Protocol:
    """The protocol by the flags, and for the rest by the images, their groups and the device."""
    if FLAGS.protocol is None:
        FLAGS.protocol, why = _preset(dataset)
        FLAGS.views = FLAGS.views or AUTO
        why += _spare_a_cpu()
    else:
        why = "as asked for"
    _fill_folds(dataset)
    suit = protocol.suited_to(dataset.paths, FLAGS.mpp)
    chosen = protocol.from_flags("extraction", "boosting", suit=suit)
    extraction, boosting = chosen.extraction, chosen.boosting
    protocol.refuse_idle(extraction)
    print(
        f"protocol: {FLAGS.protocol}, {why}. {', '.join(extraction.configurations)}; "
        f"{quantity(extraction.augmentations, 'augmentation')} of {extraction.crops_text}; "
        f"{boosting.folds} folds, {quantity(boosting.seeds, 'seed')}: {chosen.models} models"
    )
    return chosen


def _preset(dataset: Dataset) -> tuple[str, str]:
    """The preset for as many images and groups, and why."""
    images, groups = len(dataset.labels), len(copies.known(dataset.groups))
    known = f" in {groups} groups" if groups else ""
    few = images < _FEW_IMAGES or 0 < groups < _FEW_GROUPS
    return "small" if few else "paper", f"for {images} images{known}"


def _spare_a_cpu() -> str:
    """Sets the numbers that a CPU can cope with where they were not passed; what to say of it."""
    import jax

    if jax.default_backend() != "cpu":
        return ""
    spared = {name: value for name, value in _ON_CPU.items() if FLAGS[name].value is None}
    if FLAGS.crop_layout == "grid":
        spared.pop("crops", None)  # There, the image decides.
    for name, value in spared.items():
        FLAGS[name].value = value
    theirs = " ".join(
        f"--{name}={getattr(PRESETS[FLAGS.protocol].extraction, name)}" for name in spared
    )
    return f", with less work for a CPU ({theirs} is the paper's)" if spared else ""


def _fill_folds(dataset: Dataset) -> None:
    """Lowers --folds to the most that the images can fill, where no flag is about folds."""
    asked = (FLAGS.folds, FLAGS.fold_maker, FLAGS.paper_folds)
    if any(asked):
        return
    boosting = PRESETS[FLAGS.protocol].boosting
    count, why = recommend.most_folds(
        dataset, boosting.folds, FLAGS.fold_seed or boosting.fold_seed, FLAGS.unknown_groups
    )
    if count is None:
        raise InputError(why)
    if count < boosting.folds:
        print(f"folds: {why}")
        FLAGS.folds = count


def inspect(extraction: Extraction, folds: int) -> tuple[inspection.Inspection, int]:
    """Writes the inspection of the labelled images; prints and counts its problems."""
    options = inspection.Options(
        FLAGS.mpp,
        data.classes(),
        FLAGS.groups,
        FLAGS.group_column,
        FLAGS.site_columns,
        folds,
        FLAGS.fold_seed or 0,
        FLAGS.run,
    )
    out, verbosity = FLAGS.run / "inspection", logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # What is converted is a finding.
    inspected = inspection.inspect(data.label_table(), extraction, options)
    logging.set_verbosity(verbosity)
    pages.write(out, inspected)
    problems = [finding.message for finding in inspected.findings if finding.severity == PROBLEM]
    for message in problems:
        print(f"PROBLEM: {message}")
    counts = [len(problems), len(inspected.findings) - len(problems)]
    found = ", ".join(
        quantity(n, unit) for n, unit in zip(counts, ("problem", "note"), strict=True)
    )
    print(f"inspection: {found}: {out / pages.PAGE}", flush=True)
    return inspected, len(problems)


if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
