"""A trained ensemble packed into one file, with its model card.

histojax bundle --models=DIR --descriptors=DIR --out=FILE.histojax
histojax bundle --models=DIR --descriptors=DIR --data=IMAGES --out=FILE.histojax
histojax predict --bundle=FILE.histojax --images=NEW --out=OUT

The file alone is enough to predict new images. It holds the models, the protocol, the classes,
calibration and operating point, what the training images' descriptors and stain were like, versions
and checksums, and the encoders' ImageNet weights (at most about 100 MB an encoder; --checksums_only
leaves them out, and predicting then needs the official files). Weights from a file go in too, but
for those that are gated, whose licence has terms (CC BY-NC-ND, non-commercial) or that take more
than 1 GiB: these it knows by their SHA-256, and predicting needs the file. Random weights are drawn
again from their seed. With --data, the training images, it also holds what places in them are like
(at most 512, by one more pass of the encoders over at most 128 images), without which heat maps
cannot say which of their places are unlike any training image. It holds no image and no name of
one, but the SHA-256 of each, by which predictions mark those trained on. FILE.md, beside it, is the
model card, which is in the file too.

Where descriptors were imported, there are no encoders to include: the bundle holds the recipe, by
which histojax predict --features imports the features of new slides.
"""

import dataclasses

from absl import flags

from histojax import datasets
from histojax.errors import InputError
from histojax.evaluation import own_data
from histojax.extraction import store
from histojax.learners import ensembles
from histojax.prediction import bundle, bundled_encoders, model_card
from histojax.prediction.out_of_distribution import ReferenceDistribution
from histojax.utils import archive, files

from . import computing, data, models, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

define_path("models", "Folder of models that histojax train or probe wrote.", required=True)
define_path(
    "descriptors",
    "Folder of the training images' descriptors, which new images are compared with.",
    required=True,
)
define_path("out", "File to write.", required=True)
flags.DEFINE_string(
    "data_licence",
    None,
    "Source and licence of the training images, in a line, for the model card.",
)
flags.DEFINE_bool(
    "checksums_only", False, "Keep checksums of the encoders' weights, not the weights."
)
models.define_positive()
models.define_sensitivity()
data.define_labelled(required=False)
data.define_mpp()
computing.define_weights()


def main() -> None:
    archive.check_path(FLAGS.out)
    if FLAGS.out.suffix == ".md":
        raise InputError(f"--out={FLAGS.out} would be the model card: name a .histojax file")
    files.require_writable(FLAGS.out.parent)
    made = bundle.from_models(
        FLAGS.models,
        FLAGS.positive_classes,
        FLAGS.sensitivity,
        FLAGS.descriptors,
        {"data_licence": FLAGS.data_licence},
    )
    print(made.positive_reason)
    if made.imported:
        computing.refuse_where_imported("checksums_only")
        if data.label_table():
            print("note: --data is not needed: heat maps, which it is for, need an encoder")
    elif data.label_table():
        made = dataclasses.replace(made, places=_places(made))
    weights = {}
    if not FLAGS.checksums_only:
        weights = bundled_encoders.variables(made, computing.weight_files())
        for note in bundled_encoders.notes(bundled_encoders.withheld(made)):
            print(f"note: {note}")
    card = model_card.card(made, weights)
    identity = bundle.write(FLAGS.out, made, FLAGS.models, card, weights)
    card_path = FLAGS.out.with_suffix(".md")
    files.write_text(card_path, card)
    size = FLAGS.out.stat().st_size / 2**20
    print(f"{FLAGS.out}: {size:.1f} MiB, identity {identity}; model card: {card_path}")
    models.print_doubts(FLAGS.models)


def _places(made: bundle.Bundle) -> ReferenceDistribution:
    """Places in the training images of --data; InputError where these are other images."""
    from histojax.extraction import compiled, devices
    from histojax.heatmap import typicality

    dataset = datasets.load(data.label_table(), data.classes(), with_groups=False)
    folds = ensembles.load(FLAGS.models).folds
    own_data.check_images(folds, dataset, data.label_table())
    paths = dict(zip(dataset.names, dataset.paths, strict=True))
    if unknown := sorted(set(folds.names) - set(paths)):
        raise InputError(
            f"--data lacks {len(unknown)} of the {len(folds.names)} images that the models of "
            f"{FLAGS.models} were trained on ({', '.join(unknown[:3])}): pass the training images"
        )
    pixel_sizes = store.pixel_sizes(FLAGS.descriptors)
    if FLAGS.mpp and (others := {*pixel_sizes.values()} - {float(f"{FLAGS.mpp:g}")}):
        raise InputError(
            f"--mpp={FLAGS.mpp:g}, but images were described at {min(others):g} um per pixel in "
            f"{FLAGS.descriptors}: leave --mpp out, since the size that is recorded there is taken"
        )
    devices.split_cpu()
    compiled.keep_by_default(FLAGS.weights_cache)
    encoder_set = bundled_encoders.load(made, computing.weight_files())
    return typicality.fit(folds, paths, encoder_set, made.configurations, pixel_sizes)


if __name__ == "__main__":
    runner.run(main, __doc__)
