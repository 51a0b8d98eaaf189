"""A set of images with copies in it, to see what copies do to accuracy.

python -m experiments.measuring.grouped_copies --data=DATA --out=OUT [--every=2]

Writes each image of DATA as OUT/CLASS/NAME.png, and of every second a copy, NAME_copy.png: turned
by any angle, mirrored or not, and cut to the largest square that lies within it at every angle. So
some published sets are augmented; patients are left out, as there.
"""

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image

from histojax import datasets
from histojax.images import reader
from histojax.utils import files

FLAGS = flags.FLAGS


def turned(rgb: np.ndarray, degrees: float, mirrored: int) -> np.ndarray:
    """An image uint8 [H, W, 3] about its centre: uint8 [S, S, 3], S = min(H, W) / sqrt(2)."""
    image = Image.fromarray(rgb[:, ::-1] if mirrored else rgb)
    side = int(min(image.size) / np.sqrt(2))
    left, top = ((length - side) // 2 for length in image.size)
    image = image.rotate(degrees, Image.Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def main(argv: Sequence[str]) -> None:
    del argv
    rng, dataset = np.random.default_rng(0), datasets.load(FLAGS.data)
    for i, (name, path) in enumerate(dataset.images.items()):
        rgb, label = reader.read(path), dataset.classes[dataset.labels[i]]
        folder, change = files.as_path(FLAGS.out) / label, (rng.uniform(0, 360), rng.integers(2))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb).save(folder / f"{name}.png")
        if i % FLAGS.every == 0:
            Image.fromarray(turned(rgb, *change)).save(folder / f"{name}_copy.png")
    print(f"{len(dataset.labels)} images, and copies of one in {FLAGS.every}: {FLAGS.out}")


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Labelled images.", required=True)
    flags.DEFINE_string("out", None, "Folder to write to.", required=True)
    flags.DEFINE_integer("every", 2, "Which images have a copy.", lower_bound=1)
    app.run(main)
