"""Images to descriptors: frozen encoders over random stain-augmented crops.

histojax extract --data=DIR --descriptors=OUT              the paper's protocol
histojax extract --data=groups.csv --descriptors=OUT --weights=random --views=0.5-192,0.5-320 \\
    --augmentations=4 --crops=6                            a small one, untrained encoders
histojax extract --data=DIR --descriptors=OUT --encoders=UNI --weights_dir=FOLDER --views=native \\
    --crop_layout=grid --augmentations=1 --stain=none      tiles at 0.5 um, as feature tools do
histojax extract --tfds=bach --descriptors=OUT             what TFDS has prepared, labelled or not

Writes OUT/<encoder>-<view>/<image>.npy, float32 (augmentations, channels), a manifest.json
beside them, and OUT/stain_qc.csv. After a stop, the same command goes on at the first image that is
missing. --dry_run says beforehand how much time, memory and disk the run will take.

--crop_mode=hybrid is an approximation for protocols of many augmentations and crops, such as the
paper's, of which it computes a fifteenth; each run measures and prints how far it is from exact
on the same crops.

Several processes, on one machine or many, can share a run: start each with --coordinator=HOST:PORT
--num_processes=N --process_id=I (or --distributed, where JAX knows the cluster). Paths may be
gs://.

Time: the paper's protocol on 400 images is 2.4 million crops, 210 PFLOP: a task for an accelerator.
Two processor cores do 0.15 to 0.2 TFLOP/s. The rate and the time left are shown.
"""

from absl import flags

from histojax import datasets
from histojax.errors import InputError
from histojax.extraction import crop_errors, dry_run, extract
from histojax.images.names import Images
from histojax.utils.progress import format_duration

from . import computing, data, protocol, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled(required=False)
data.define_mpp()
protocol.define_preset("extraction")
computing.define_runtime("checked", "xla_preset")
computing.define_processes()
define_path("images", "Folder of images without labels, in place of --data.")
define_path("descriptors", "Folder to write descriptors to.", required=True)
flags.DEFINE_bool(
    "dry_run", False, "Measure for a minute what the run would take, and write no descriptors."
)


def main() -> None:
    data.refuse_inside_data("descriptors")
    named = images()
    suit = protocol.suited_to(named.values(), FLAGS.mpp)
    extraction = protocol.from_flags("extraction", suit=suit).extraction
    protocol.refuse_idle(extraction)
    work = named, extraction, FLAGS.descriptors
    options = {"runtime": computing.runtime(), **computing.processes(), "mpp": FLAGS.mpp}
    if FLAGS.dry_run:
        print(dry_run.run(*work, **options).text())
        return
    summary = extract.run(*work, **options)
    print(
        f"descriptors extracted from {summary.extracted} images, {summary.done_before_count} were "
        f"done before: {FLAGS.descriptors}"
    )
    if summary.extracted:
        share, seconds = summary.waited / summary.seconds, format_duration(summary.seconds)
        print(f"{seconds}, of which the device waited for decoding {share:.1%}")
    if summary.crop_errors:
        print(crop_errors.table(summary.crop_errors))


def images() -> Images:
    """The images of the one flag that names some, by name."""
    if [FLAGS.data, FLAGS.images, FLAGS.tfds].count(None) != 2:
        raise InputError(
            "pass one of --data (labelled images), --images (a folder of unlabelled ones) and "
            "--tfds (a data set that TFDS has prepared)"
        )
    if FLAGS.data:
        return data.told(
            datasets.load(
                FLAGS.data, data.classes(), with_groups=False, site_columns=data.site_columns()
            )
        ).images
    return data.unlabelled()


if __name__ == "__main__":
    runner.run(main, __doc__)
