"""New images to classes and probabilities, by every model of an ensemble.

python -m experiments.predict --models=DIR --images=FOLDER --out=OUT
python -m experiments.predict --models=DIR --descriptors=DIR --out=OUT     images described before

The images are described with the protocol the models were trained on. Writes OUT/predictions.csv (label, probabilities,
carcinoma score) and OUT/submission.csv (the authors' form: name,label without header), and keeps the descriptors in
OUT/descriptors, so that a second run goes on from there.

Time: as experiments.extract per image, then about a second a model.
"""

from experiments import flags
from histojax import predict
from histojax.errors import InputError

flags.define_path("models", "Folder of models, as experiments.train writes it.")
flags.define_path("images", "Folder of images to predict.", required=False)
flags.define_path("descriptors", "Folder of their descriptors; by default OUT/descriptors.", required=False)
flags.define_path("out", "Folder to write predictions to.")
flags.define_positive()
flags.define_computing()


def main() -> None:
    images, descriptors, out = flags.path("images"), flags.path("descriptors"), flags.path("out")
    if images is None and descriptors is None:
        raise InputError("pass --images (a folder of images), or --descriptors (images described before)")
    descriptors = descriptors or out / "descriptors"
    counts = predict.run(
        flags.path("models"), images, descriptors, out, flags.FLAGS.positive_classes, **flags.computing()
    )
    print(f"{counts}: {out / 'predictions.csv'}")


if __name__ == "__main__":
    flags.run(main, __doc__)
