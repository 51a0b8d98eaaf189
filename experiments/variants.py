"""Variants of a protocol on the same folds, each in a folder: extracted, timed, trained, scored.

OUT/folds.csv                 the split, which all variants share
OUT/VARIANT/descriptors       of the variant, and how long they took: extraction.csv
OUT/VARIANT/trees, linear     an ensemble of each learner

After a stop, the same call goes on.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from histojax.config import HEADS, Extraction, Option, Probe, Protocol, Runtime, options
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.extraction import costs
from histojax.images.names import Images
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob

from .flag_types import define

if TYPE_CHECKING:  # Processes that train import the script, and need no JAX.
    from histojax.extraction.extract import ExtractionSummary
    from histojax.extraction.loaded_encoders import EncoderSet

FLAGS = flags.FLAGS
DESCRIPTORS = "descriptors"
TREES = "trees"


def define_learners() -> None:
    """Defines what is trained on the descriptors of each variant."""
    text = "What is trained on the same descriptors: trees (see --boost) and heads."
    option = Option(text, choices=(TREES, *HEADS))
    define("learners", tuple[str, ...], option, (TREES, HEADS[0]))
    of_heads = options(Probe)["validation_parts"]
    text = f"For heads. {of_heads.help} Default: that of --protocol."
    define("validation_parts", int, dataclasses.replace(of_heads, help=text))


def of_encoder(extraction: Extraction, encoder: str) -> Extraction:
    """The protocol with one of its encoders alone."""
    weights, views = extraction.weights, extraction.views_of(encoder)
    if not isinstance(weights, str):
        weights = tuple(pair for pair in weights if pair[0] == encoder)
    in_microns = all(view.mpp for view in views)  # They state their own pixel size.
    return dataclasses.replace(
        extraction,
        encoders=(encoder,),
        weights=weights,
        views=views,
        own_views=(),
        target_mpp=0.0 if in_microns else extraction.target_mpp,
    )


def _runtime_of(runtime: Runtime, extraction: Extraction) -> Runtime:
    """The same without the files of other encoders."""
    files = tuple(pair for pair in runtime.weight_files if pair[0] in extraction.encoders)
    return dataclasses.replace(runtime, weight_files=files)


def check(images: Images, extraction: Extraction, mpp: float | None, runtime: Runtime) -> None:
    """Raises InputError where images do not fit the views, or weights are missing or unusable.

    So that it is known before the variants in front of it are extracted.
    """
    from histojax import encoders
    from histojax.extraction import loaded_encoders, pending

    runtime = _runtime_of(runtime, extraction)
    pending.check_inputs(images, extraction, mpp, runtime)
    for name in extraction.encoders:
        encoder = encoders.get(name, extraction.resnet_variant)
        # Files of gigabytes are only looked for; others are downloaded and read.
        look = loaded_encoders.file_of if encoder.published else loaded_encoders.weights_of
        look(encoder, extraction, runtime)


def extract(
    folder: Path, images: Images, extraction: Extraction, mpp: float | None, runtime: Runtime
) -> None:
    """Computes the descriptors of a folder below --out; records the time, and prints the pace."""
    from histojax.extraction import extract, loaded_encoders, pending
    from histojax.utils import files

    root, runtime = folder / DESCRIPTORS, _runtime_of(runtime, extraction)
    pending.check_inputs(images, extraction, mpp, runtime)
    files.require_writable(root)
    encoder_set = loaded_encoders.load_encoders(extraction, runtime)
    summary = extract.extract_images(images, encoder_set, root, mpp)
    pace = ""
    if summary.extracted:
        run = _run_of(summary, encoder_set)
        costs.record(folder, run)
        rate = run.crops / run.seconds
        pace = f", {run.crops} crops in {run.seconds:.1f} s, {rate:.3g} crops/s"
    print(
        f"{folder.relative_to(FLAGS.out)}: descriptors extracted from {summary.extracted} images, "
        f"{summary.done_before_count} were done before{pace}",
        flush=True,
    )


def _run_of(summary: "ExtractionSummary", encoder_set: "EncoderSet") -> costs.ExtractionRun:
    """The row of extraction.csv."""
    import jax

    extraction, mesh = encoder_set.extraction, encoder_set.engine.mesh
    crops = summary.inputs
    if extraction.crop_mode == "hybrid":  # Most of its crops are not encoded.
        of_image = extraction.augmentations * extraction.crops * len(extraction.configurations)
        crops = summary.extracted * of_image
    variables = [loaded.variables for loaded in encoder_set.encoders.values()]
    return costs.ExtractionRun(
        datetime.date.today().isoformat(),
        summary.extracted,
        crops,
        round(summary.seconds, 3),
        round(summary.first, 3),
        sum(leaf.nbytes for leaf in jax.tree.leaves(variables)),
        f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
    )


def train(
    descriptors: Path,
    models: Path,
    split: Folds,
    configurations: Sequence[str],
    chosen: Protocol,
    learner: str = TREES,
) -> None:
    """Trains what an ensemble lacks; heads have as many folds and seeds as trees.

    Raises:
      InputError: as for the learners.
    """
    folds.save(split, models / ensembles.FOLDS)
    job = TrainingJob(descriptors, models, split, tuple(configurations))
    if learner == TREES:
        boost.train(job, chosen.boosting, boost.default_workers())
        return
    from histojax.extraction import compiled, devices
    from histojax.learners import probe

    devices.split_cpu()
    compiled.keep_by_default()
    changed = {name: getattr(chosen.boosting, name) for name in ("folds", "fold_seed", "seeds")}
    if FLAGS.validation_parts:
        changed["validation_parts"] = FLAGS.validation_parts
    probe.train(job, dataclasses.replace(chosen.probe, head=learner, **changed))
