"""Encoders on BACH by eva's and THUNDER's protocols, with the published figures.

histojax published --protocol=eva-bach --data=BACH --encoders=UNI2-h --weights=UNI2-h=FILE --out=OUT
histojax published --protocol=thunder-bach --data=BACH --encoders=UNI,Phikon --weights_dir=DIR \\
    --out=OUT

--data is BACH as unzipped, all 400 photos: their names decide who is fitted to and who is reported.
Each photo is resized to 224 px and cut to its middle (no stain step, no augmentation), the frozen
encoder describes it, and a linear layer is fitted to the descriptors with five seeds.

eva-bach: 268 photos to fit, 132 reported, balanced accuracy, AdamW. The best epoch is chosen by the
132 themselves, as eva does, which flatters. thunder-bach: 218 photos to fit, 50 to choose learning
rate, weight decay and epoch by, the same 132 reported, macro F1, Adam: nothing is chosen by what is
reported. Neither compares with the paper's 87.2 %, which is of other splits and another metric.

Prints the table; writes OUT/published.html, published.csv, published.json and predictions.csv. The
descriptors are kept in OUT/descriptors, where the next run finds them.

Time on two cores: 400 images of 224 px once through VGG-16 take about a minute of processor time,
the heads of an encoder 10 s.
"""

import dataclasses

import numpy as np
from absl import flags

from histojax import encoders
from histojax.config import Extraction, Option, Runtime
from histojax.datasets import Dataset
from histojax.datasets.bach import challenge
from histojax.datasets.bach.published_protocols import PROTOCOLS, PublishedProtocol, Split
from histojax.errors import InputError
from histojax.evaluation import published_protocols as evaluation
from histojax.evaluation.published_protocols import Judged
from histojax.extraction import centre_crops, compiled, loaded_encoders, manifests
from histojax.extraction.centre_crops import CentreEncoder
from histojax.extraction.manifests import Manifest
from histojax.images import reader
from histojax.learners import published_heads
from histojax.learners.published_heads import Head
from histojax.report import published_protocols as report
from histojax.utils.files import require_writable

from . import computing, data, protocol, runner
from .flag_types import define, define_path

FLAGS = flags.FLAGS

data.define_labelled()
data.define_groups()
define(
    "protocol",
    str,
    Option("Whose protocol it is; its numbers are fixed.", choices=tuple(PROTOCOLS)),
    required=True,
)
protocol.define_fields(
    Extraction(), "encoders", "weights", "weights_seed", "precision", without_default=["encoders"]
)
computing.define_weights()
define_path("out", "Folder to write the figures and descriptors to.", required=True)


def main() -> None:
    chosen = PROTOCOLS[FLAGS.protocol]
    data.refuse_inside_data("out")
    if FLAGS.encoders is None:
        raise InputError("--encoders is needed: the encoders to judge, such as --encoders=UNI2-h")
    extraction = protocol.laid_over(Extraction())
    dataset = data.dataset()
    split = chosen.split(dataset)
    compiled.keep_by_default(FLAGS.weights_cache)
    runtime = computing.weight_files()
    for name in extraction.encoders:  # Before the first is read, which may take long.
        loaded_encoders.file_of(encoders.get(name), extraction, runtime)
    require_writable(FLAGS.out)
    are_photos, notices = doubts(dataset, split)
    judged, made = [], []
    for name in extraction.encoders:
        alone = dataclasses.replace(extraction, encoders=(name,))
        of_encoder, manifest = judge(chosen, alone, runtime, dataset, split, are_photos)
        judged.append(of_encoder)
        made.append(manifest)
    notices.append(manifests.weights_text(made))
    print(report.write(FLAGS.out, chosen, judged, dataset, split, notices))
    print(f"{FLAGS.out / 'published.html'}, published.csv, published.json, predictions.csv")


def doubts(dataset: Dataset, split: Split) -> tuple[bool, list[str]]:
    """Whether these are BACH's photos by their size, and what else is to be said of the images."""
    notices = []
    sizes = {name: reader.size(path) for name, path in dataset.images.items()}
    others = [name for name, size in sizes.items() if size != challenge.SIZE]
    if others:
        height, width = sizes[others[0]]
        notices.append(
            f"These are not BACH's photos: {len(others)} images, such as {others[0]} of {width} x "
            f"{height} px, are not {challenge.SIZE[1]} x {challenge.SIZE[0]}. Published figures do "
            "not apply, and are left out."
        )
    if both := evaluation.groups_in_both(dataset, split.fitted, split.reported):
        notices.append(
            f"{len(both)} patients have images among those fitted to and those reported: "
            f"{', '.join(both[:5])}{', ...' if both[5:] else ''}."
        )
    return not others, notices


def judge(
    chosen: PublishedProtocol,
    extraction: Extraction,
    runtime: Runtime,
    dataset: Dataset,
    split: Split,
    are_photos: bool,
) -> tuple[Judged, Manifest]:
    """Describes the images by the only encoder of a protocol, fits heads and judges them.

    The encoder is gone afterwards: several would not fit in memory together.

    Returns:
      The figures, and what made the descriptors.
    """
    (loaded,) = loaded_encoders.fold_encoders(extraction, runtime).values()
    crop = centre_crops.crop_of(loaded.encoder, chosen.own_resizing)
    centre = CentreEncoder(loaded, crop, extraction, chosen.class_token_alone)
    descriptors = centre_crops.describe(dataset.paths, centre, FLAGS.out / "descriptors")
    labels, classes = np.array(dataset.labels), len(dataset.classes)
    heads = published_heads.fit(chosen, split, descriptors, labels, classes)
    best, last = (
        tuple(
            evaluation.labelled(
                dataset, split.reported, head.predict(descriptors[split.reported], of_last)
            )
            for head in heads
        )
        for of_last in (False, True)
    )
    manifest, said = centre.manifest(), tuple(map(as_text, heads))
    weights = manifests.source_text(manifest["weights"])
    applies = are_photos and manifests.UNTRAINED not in manifests.weights_text([manifest])
    name = loaded.encoder.name
    figures = evaluation.judge(chosen, name, weights, centre.text, best, last, said, applies)
    return figures, manifest


def as_text(head: Head) -> str:
    """What was chosen of a seed."""
    return (
        f"epoch {head.epoch} of {head.epochs}, learning rate {head.learning_rate:g}, weight decay "
        f"{head.weight_decay:g}, {head.score:.4f} where it was chosen"
    )


if __name__ == "__main__":
    runner.run(main, __doc__)
