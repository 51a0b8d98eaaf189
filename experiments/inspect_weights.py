"""What is in a file of weights, and which encoder it fits.

histojax inspect_weights FILE            Keras HDF5, safetensors, .npz, or PyTorch's .pt, .pth, .bin
histojax inspect_weights FILE --names    with every array
histojax inspect_weights FILE --encoders=net.py:ENCODER                   an encoder of yours, too

Prints the kind of the file, its SHA-256, how many arrays and numbers it holds, and each encoder
that it fits: how its arrays are named, what stands before the names, what is left out, and the
SHA-256 of the encoder's variables, which manifests and bundles record. Where it fits none, it says
which it comes closest to, and what is missing, extra or misshapen. Nothing in the file is run.
--weights=ENCODER=FILE then describes images by it.
"""

import collections

from absl import flags

from histojax.encoders.weight_files import inspect_weights
from histojax.errors import InputError

from . import computing, runner
from .flag_types import define_path

FLAGS = flags.FLAGS
POSITIONAL = ("file",)  # The flag that may be passed without its name.

define_path("file", "The file.")
computing.define_encoders()
flags.DEFINE_bool("names", False, "Print every array: its name, shape and type.")


def main() -> None:
    if FLAGS.file is None:
        raise InputError("name the file: histojax inspect_weights FILE")
    if FLAGS.encoders:
        computing.load_modules()
    found = inspect_weights.inspect(FLAGS.file)
    official = f", ImageNet's official file of {found.official}" if found.official else ""
    print(f"{FLAGS.file}: {found.kind}, SHA-256 {found.sha256}{official}")
    numbers = sum(array.size for array in found.arrays.values())
    kinds = collections.Counter(str(array.dtype) for array in found.arrays.values())
    dtypes = ", ".join(f"{count} of {dtype}" for dtype, count in kinds.most_common())
    print(f"{len(found.arrays)} arrays ({dtypes}), {numbers:,} numbers")
    if FLAGS.names:
        for name, array in found.arrays.items():
            print(f"  {name} {array.shape} {array.dtype}")
    for fit in found.fits:
        print(fit.text)
    if len({fit.sha256 for fit in found.fits}) < len(found.fits):
        print("which of those with the same variables it was made for, a file does not say")
    if not found.fits:
        raise InputError(f"{FLAGS.file} fits no encoder. {found.closest}")


if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
