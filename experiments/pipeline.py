"""Every step from labelled images to predictions, in this process: what mine and demo run.

RUN/descriptors  models  report  bundle.histojax  bundle.md  predictions  heatmaps

Each step prints a line: what it did, and where it is. After a stop, the same plan goes on.
"""

import contextlib
import dataclasses
from pathlib import Path

from histojax.config import Extraction, Protocol, Runtime
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation.operating_point import TARGET_SENSITIVITY
from histojax.extraction import engine, extract, loaded_encoders, pending, store
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import heatmap, passes, typicality
from histojax.images.names import Images
from histojax.learners import background, boost
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, bundled_encoders, features, model_card, predict
from histojax.prediction.bundle import Bundle
from histojax.report.write import write_report
from histojax.utils import files
from histojax.utils.progress import format_duration, from_to, now


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done, and with what.

    Attributes:
      run: the folder that everything goes below.
      source: the labelled images as the user named them, for the pictures of the report.
      dataset: the labelled images.
      split: their folds, saved in RUN/models.
      protocol: extraction and boosting.
      positive_classes: names, as the user passed them; empty to have them chosen.
      sensitivity: of the operating point.
      new: images to predict; empty for none.
      heatmaps: whether they are mapped too.
      mpp: microns per pixel of all images; None to believe each file.
      runtime: devices, and where weights are.
      workers: processes that train.
      overlap: whether a configuration is trained while the next one is extracted; None for where
        the device is no CPU.
      data_licence: source and licence of the images, for the model card.
      imported: configurations of the imported descriptors in RUN/descriptors, which no image is
        needed for; empty to extract from images.
      features: new features to predict, of imported descriptors.
    """

    run: Path
    source: Path
    dataset: Dataset
    split: Folds
    protocol: Protocol
    positive_classes: tuple[str, ...] = ()
    sensitivity: float = TARGET_SENSITIVITY
    new: Images = dataclasses.field(default_factory=dict)
    heatmaps: bool = True
    mpp: float | None = None
    runtime: Runtime = Runtime()
    workers: int = dataclasses.field(default_factory=boost.default_workers)
    overlap: bool | None = None
    data_licence: str | None = None
    imported: tuple[str, ...] = ()
    features: Path | None = None

    @property
    def job(self) -> TrainingJob:
        """Descriptors to models."""
        configurations = self.imported or self.protocol.extraction.configurations
        return TrainingJob(
            self.run / "descriptors", self.run / "models", self.split, configurations
        )


def load_encoders(
    images: Images, extraction: Extraction, mpp: float | None = None, runtime: Runtime = Runtime()
) -> EncoderSet:
    """The encoders of a plan, once its images are found to be usable; nothing is written.

    Raises:
      InputError: images do not fit the views, or weights are missing.
    """
    pending.check_inputs(images, extraction, mpp, runtime)
    try:
        return loaded_encoders.load_encoders(extraction, runtime)
    except InputError as error:
        if "--weights_dir" not in str(error):
            raise
        raise InputError(
            f"{error}. Nothing was extracted yet. Without these files only a trial is possible: "
            "--weights=random takes UNTRAINED encoders"
        ) from error


def claim(plan: Plan, encoder_set: EncoderSet | None = None) -> None:
    """Records what descriptors and models are made of, before any long work.

    There is no `encoder_set` where descriptors were imported.

    Raises:
      InputError: the folder holds those of another protocol, which are not mixed; heat maps are
        asked for, and the strides of an encoder do not fit; or --boost=xgboost lacks its package.
    """
    if plan.new and plan.heatmaps:
        passes.check_encoders(encoder_set)
    there = {path.parent.name for path in plan.job.models.glob("*/seed*")}
    if others := sorted(there - {*plan.job.configurations}):
        raise InputError(
            f"{plan.job.models} holds models of {', '.join(others)}, which this run would not "
            "train: pass the same flags as before, or another --run"
        )
    boost.check(plan.protocol.boosting)
    plan.job.start(plan.protocol.boosting.learner, plan.protocol.boosting)
    if encoder_set:
        extract.claim(encoder_set, plan.job.descriptors)


def carry_out(plan: Plan, encoder_set: EncoderSet) -> bool:
    """Carries out a plan with its encoders.

    Returns:
      Whether every new image was predicted, and mapped.

    Raises:
      InputError: as for the steps; what was finished is kept.
    """
    describe_and_train(plan, encoder_set)
    print(_evaluate(plan), flush=True)
    packed = _pack(plan, encoder_set)
    return not plan.new or _predict(plan, packed, encoder_set)


def carry_out_imported(plan: Plan) -> bool:
    """Carries out a plan whose descriptors were imported: trains, evaluates, packs, predicts.

    Returns:
      Whether every new slide was predicted.

    Raises:
      InputError: as for the steps; what was finished is kept.
    """
    _train(plan)
    print(_evaluate(plan), flush=True)
    packed = _pack(plan)
    if plan.features is None:
        return True
    out = plan.run / "predictions"
    summary = features.predict_features(packed, [plan.features], out)
    print(f"predictions: {summary.text(packed)}\n{out / 'predictions.csv'}", flush=True)
    return not summary.failed


def _train(plan: Plan) -> None:
    """Trains what is missing, and says how many models there are."""
    job, boosting = plan.job, plan.protocol.boosting
    start = now()
    trained = boost.train(job, boosting, plan.workers)
    if trained:
        print(f"training: {trained} models, {from_to(start)}")
    count = len(job.configurations) * boosting.seeds * boosting.folds
    print(f"training: {count} models: {job.models}", flush=True)


def describe_and_train(plan: Plan, encoder_set: EncoderSet) -> None:
    """Extracts what is missing and trains what is missing, beside each other on an accelerator.

    A CPU has nothing to spare for training while it extracts. There, unless asked otherwise, images
    are extracted for all configurations at a time, and models are trained afterwards.
    """
    job, boosting = plan.job, plan.protocol.boosting
    files.require_writable(job.descriptors)
    overlap = plan.overlap
    if overlap is None:
        overlap = encoder_set.engine.platform != "cpu"
    parts, train = [encoder_set], contextlib.nullcontext(lambda configurations: None)
    if overlap:
        parts = by_configuration(encoder_set)
        train = background.training(job, boosting, plan.workers)
    extracted, seconds = 0, 0.0
    with train as finished:
        for part in parts:
            start, names = now(), ", ".join(part.extraction.configurations)
            summary = extract.extract_images(plan.dataset.images, part, job.descriptors, plan.mpp)
            if summary.extracted:
                print(f"extraction: {names}, {from_to(start)}", flush=True)
            extracted, seconds = max(extracted, summary.extracted), seconds + summary.seconds
            finished(part.extraction.configurations)
    done_before = len(plan.dataset.images) - extracted
    took = f" in {format_duration(seconds)}" if extracted else ""
    print(
        f"extraction: {extracted} images{took}, {done_before} were done before: {job.descriptors}"
    )
    _train(plan)


def by_configuration(encoder_set: EncoderSet) -> list[EncoderSet]:
    """The same encoders and devices, a part of the protocol at a time, each with its own pass."""
    whole = encoder_set.extraction
    return [
        dataclasses.replace(
            encoder_set,
            extraction=dataclasses.replace(whole, encoders=(name,), views=views),
            encoders={name: encoder_set.encoders[name]},
        )
        for name, views in engine.passes(whole.pairs, whole)
    ]


def _evaluate(plan: Plan) -> str:
    """Writes the report; what it says first, and where it is."""
    report = plan.run / "report"
    text = write_report(
        plan.job.models,
        report,
        plan.positive_classes,
        plan.sensitivity,
        plan.source,
        plan.job.descriptors,
    )
    first = text.split("\n\n")[0].rstrip()
    return f"{first}\nevaluation: {report / 'report.html'}, and in words {report / 'summary.txt'}"


def _pack(plan: Plan, encoder_set: EncoderSet | None = None) -> Bundle:
    """Writes the bundle and its model card; where nothing has changed, the same ones again.

    So heat maps and predictions by it are still those of this bundle, and are not made anew.
    """
    out = plan.run / "bundle.histojax"
    made = bundle.from_models(
        plan.job.models,
        plan.positive_classes,
        plan.sensitivity,
        plan.job.descriptors,
        {"data_licence": plan.data_licence},
    )
    about, places = made.about | {"models": made.identity}, None
    before = _bundle_of(made.identity, out)
    if before is not None:
        about["created"], places = before.about["created"], before.places
    if places is None and plan.new and plan.heatmaps:
        places = typicality.fit(
            plan.split,
            plan.dataset.images,
            encoder_set,
            made.configurations,
            store.pixel_sizes(plan.job.descriptors),
        )
    made = dataclasses.replace(made, about=about, places=places)
    weights = bundled_encoders.variables(made, plan.runtime)
    card, card_path = model_card.card(made, weights), out.with_suffix(".md")
    bundle.write(out, made, plan.job.models, card, weights)
    files.write_text(card_path, card)
    without = "; what heat maps compare with the training images is added once there are new images"
    without = "" if places or plan.imported else without
    print(f"bundle: {out}, with the model card {card_path}{without}", flush=True)
    for note in bundled_encoders.notes(bundled_encoders.withheld(made)):
        print(f"note: {note}", flush=True)
    return bundle.load(out)


def _bundle_of(models: str, path: Path) -> Bundle | None:
    """The bundle of an earlier run, if it is of the same models."""
    with contextlib.suppress(InputError, OSError):
        before = bundle.load(path)
        if before.about.get("models") == models:
            return before
    return None


def _predict(plan: Plan, packed: Bundle, encoder_set: EncoderSet) -> bool:
    """Predicts and maps the new images; whether all could be."""
    out = plan.run / "predictions"
    images = predict.ImageFiles(plan.new, plan.mpp)
    summary = predict.predict_images(packed, images, out, encoder_set=encoder_set)
    print(f"predictions: {summary.text(packed)}\n{out / 'predictions.csv'}", flush=True)
    if not plan.heatmaps:
        return not summary.failed
    out = plan.run / "heatmaps"
    options = heatmap.HeatmapOptions(mpp=plan.mpp)
    maps = heatmap.map_images(
        packed, plan.new, out, options, predicted=summary, encoder_set=encoder_set
    )
    print(f"heat maps: {maps.text(out)}", flush=True)
    return not (summary.failed or maps.failed)
