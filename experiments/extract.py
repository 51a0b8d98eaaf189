"""Images to descriptors: frozen encoders over random crops of stain-augmented images.

histojax extract --data=DIR --descriptors=OUT                 the paper's protocol
histojax extract --data=groups.csv --descriptors=OUT --weights=random \\
    --views=0.5-192,0.5-320 --augmentations=4 --crops=6                    a small one, untrained encoders
histojax extract --tfds=bach --descriptors=OUT                what TFDS has prepared, labelled or not

Writes OUT/<encoder>-<scale>-<crop>/<image>.npy, float32 (augmentations, channels), a manifest.json beside them, and
OUT/stain_qc.csv. Run again after a stop, it goes on at the first image that is missing. --dry_run tells beforehand what
time, memory and disk it will take. --crop_mode=shared is an approximation, and ten times faster where crops are large
and overlap much, as the paper's do; histojax compare_crop_modes shows how close it is on your data.

Several processes, on one machine or many, share a run: start each with --coordinator=HOST:PORT --num_processes=N
--process_id=I (or --distributed, where JAX knows the cluster). Paths may be gs://.

Time: the paper's protocol on 400 images is 2.4 million crops, 207 PFLOP: a task for an accelerator. Two processor cores
do 0.15 to 0.2 TFLOP/s. The rate and the time left are shown.
"""

from pathlib import Path

from experiments import flags
from histojax import datasets
from histojax.datasets import tfds, unlabelled
from histojax.errors import InputError
from histojax.extraction import dry_run, extract
from histojax.utils.progress import format_duration

flags.define_data(required=False)
flags.define_path(
    "images", "Folder of unlabelled images, to be described in place of --data.", required=False
)
flags.define_path("descriptors", "Folder to write descriptors to.")
flags.define_protocol("extraction")
flags.define_mpp()
flags.define_runtime()
flags.define_processes()
flags.define_bool(
    "dry_run", "Measure for a minute, tell what the run would take, and write no descriptors."
)


def main() -> None:
    flags.refuse_inside_data("descriptors")
    paths = images()
    extraction = flags.protocol("extraction").extraction
    arguments = (paths, extraction, flags.path("descriptors"))
    options = flags.processes() | {"mpp": flags.FLAGS.mpp, "runtime": flags.runtime()}
    if flags.FLAGS.dry_run:
        print(dry_run.run(*arguments, **options).text())
        return
    outcome = extract.run(*arguments, **options)
    print(
        f"{outcome.described} images described, {outcome.done_before} were done before: {flags.path('descriptors')}"
    )
    if outcome.described:
        share = outcome.waited / outcome.seconds
        print(
            f"{format_duration(outcome.seconds)}, of which the device waited for decoding {share:.1%}"
        )
    if outcome.fallbacks:
        print(
            f"{len(outcome.fallbacks)} images took the reference stains: see {flags.path('descriptors')}/stain_qc.csv"
        )


def images() -> tuple[Path, ...]:
    """The images of the one flag that names some."""
    if (
        sum(value is not None for value in (flags.FLAGS.data, flags.FLAGS.images, flags.FLAGS.tfds))
        != 1
    ):
        raise InputError(
            "pass one of --data (labelled images), --images (a folder of unlabelled ones) and --tfds (a data set that "
            "TFDS has prepared)"
        )
    if flags.FLAGS.tfds:
        return tfds.image_paths(*flags.prepared())
    if flags.FLAGS.images:
        return unlabelled.find_images([flags.path("images")])
    return datasets.load(flags.path("data"), flags.classes()).paths


if __name__ == "__main__":
    flags.run(main, __doc__)
