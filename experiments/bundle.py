"""A trained ensemble packed into one file, from which alone new images can be predicted; with its model card.

histojax bundle --models=DIR --descriptors=DIR --out=FILE.histojax
histojax predict --bundle=FILE.histojax --images=NEW --out=OUT

The file holds the models, the protocol, the classes, calibration and operating point, what the training images'
descriptors and stain were like, versions and checksums, and the encoders' ImageNet weights (about 100 MB an encoder at
most; --checksums_only leaves them out, and predicting then needs the official files). Random weights are drawn again
from their seed. No image and no name is in it. FILE.md, beside it, is the model card, which is in the file too.
"""

from experiments import flags
from histojax.prediction import bundle, model_card
from histojax.utils import files

flags.define_path("models", "Folder of models, as histojax train or histojax probe writes it.")
flags.define_path(
    "descriptors", "Folder of the training images' descriptors, which new images are compared with."
)
flags.define_path("out", "File to write.")
flags.define_positive()
flags.define_sensitivity()
flags.define_text(
    "data_licence", "Source and licence of the training images, in a line, for the model card."
)
flags.define_bool("checksums_only", "Leave the encoders' weights out, and keep their checksums.")
flags.define_weights()


def main() -> None:
    models, out = flags.path("models"), flags.path("out")
    about = {"data_licence": flags.FLAGS.data_licence}
    made = bundle.from_models(
        models,
        flags.FLAGS.positive_classes,
        flags.FLAGS.sensitivity,
        flags.path("descriptors"),
        about,
    )
    weights = {} if flags.FLAGS.checksums_only else encoders(made)
    card = model_card.card(made, weights)
    identity = bundle.write(out, made, models, card, weights)
    files.write_text(out.with_suffix(".md"), card)
    print(
        f"{out}: {out.stat().st_size / 2**20:.1f} MiB, identity {identity}; model card: {out.with_suffix('.md')}"
    )


def encoders(made: bundle.Bundle) -> dict[str, bundle.Flat]:
    """The variables that cannot be drawn from a seed."""
    from histojax.prediction import predict

    return predict.encoder_variables(made, flags.weight_files())


if __name__ == "__main__":
    flags.run(main, __doc__)
