"""Does stain normalisation help: four settings on the same folds and crops.

histojax ablate_stain --data=DATA --out=OUT --encoders=VGG
histojax ablate_stain --data=groups.csv --out=OUT --encoders=VGG,ResNet --views=0.5-192 \\
    --augmentations=4 --crops=6 --seeds=3

Extracts descriptors in four settings: none leaves colours as they are, normalise has
--stain_normalizer alone, augment has --stain_augmentation alone, both has both (the paper's way).
The crops are the same, and without stain augmentation the augmentations of an image differ in their
crops alone. Trees and linear heads (--learners) are trained on each with the same folds and seeds.

Writes OUT/stain.html: for each encoder and learner, by how much normalisation changed the ROC AUC,
without stain augmentation and with it, and whether it can be told that it helps; likewise stain
augmentation; accuracy, log-loss and calibration error with the paired intervals of all these
differences, of whole groups where they are known. And how robust it all is: how far descriptors of
the same crops move when the amounts of both stains are varied by the gains of the augmentation,
beside the distance between images, and how many answers change, of models trained in each setting.
The same numbers are in OUT/stain.csv and distances.csv. Below OUT/ENCODER/SETTING are descriptors
and models. After a stop, the same command goes on.

Time: four times that of histojax extract for each encoder, and of an ensemble for each learner.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags

from histojax import config
from histojax.config import Extraction, Protocol
from histojax.datasets import positive
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import evaluate, robustness
from histojax.evaluation.robustness import Movement
from histojax.extraction import manifests, store
from histojax.learners import ensembles, scoring
from histojax.report import stain_settings as page
from histojax.report.stain_settings import AUGMENT, BOTH, NONE, NORMALISE, StainAblation
from histojax.utils.files import require_writable

from . import computing, data, models, protocol, runner, splits, variants
from .flag_types import define_path

FLAGS = flags.FLAGS
# Each setting's descriptors of the same crops in plain and in varied colours.
_COLOURS = {
    NONE: (NONE, AUGMENT),
    NORMALISE: (NORMALISE, BOTH),
    AUGMENT: (NONE, AUGMENT),
    BOTH: (NORMALISE, BOTH),
}
_OFF = "none"

data.define_labelled()
splits.define_split()
data.define_mpp()
models.define_positive()
protocol.define_preset("extraction", "boosting", but="stain")
computing.define_runtime("checked", "xla_preset")
variants.define_learners()
define_path("out", "Folder to write everything to.", required=True)


def main() -> None:
    data.refuse_inside_data("out")
    dataset = data.dataset()
    suit = protocol.suited_to(dataset.paths, FLAGS.mpp)
    chosen = protocol.from_flags("extraction", "boosting", suit=suit)
    protocol.refuse_idle(chosen.extraction)
    settings = settings_of(chosen.extraction)
    print(positive.choose(dataset.classes, FLAGS.positive_classes).reason)
    runtime = computing.runtime()
    require_writable(FLAGS.out)
    with models.split_kept_with_models(FLAGS.out):
        boosting = chosen.boosting
        split = splits.load_or_make(FLAGS.out, dataset, boosting.folds, boosting.fold_seed)
        encoders = chosen.extraction.encoders
        for encoder in encoders:
            own = variants.of_encoder(settings[NONE], encoder)
            variants.check(dataset.images, own, FLAGS.mpp, runtime)
        ablations = {}
        for encoder in encoders:
            own = {name: variants.of_encoder(each, encoder) for name, each in settings.items()}
            for name, extraction in own.items():
                folder = FLAGS.out / encoder / name
                variants.extract(folder, dataset.images, extraction, FLAGS.mpp, runtime)
            ablations[encoder] = ablate(encoder, own, split, chosen)
    gains = chosen.extraction.gain_low, chosen.extraction.gain_high
    print(page.write(FLAGS.out, ablations, gains), end="")
    print(f"{FLAGS.out / 'stain.html'}, stain.csv, distances.csv")


def settings_of(extraction: Extraction) -> dict[str, Extraction]:
    """The protocol in the four settings.

    Raises:
      InputError: a stain step to be judged is none, or a setting does not go with the rest.
    """
    steps = extraction.stain_normalizer, extraction.stain_augmentation
    for flag, step in zip(("stain_normalizer", "stain_augmentation"), steps, strict=True):
        if step == _OFF:
            raise InputError(f"--{flag}=none leaves nothing to judge: name the one to judge")
    normalizer, augmentation = steps
    settings = {
        name: dataclasses.replace(
            extraction, stain_normalizer=of_normalizer, stain_augmentation=of_augmentation
        )
        for name, of_normalizer, of_augmentation in (
            (NONE, _OFF, _OFF),
            (NORMALISE, normalizer, _OFF),
            (AUGMENT, _OFF, augmentation),
            (BOTH, normalizer, augmentation),
        )
    }
    for setting in settings.values():
        config.check(Protocol(extraction=setting))
    return settings


def ablate(
    encoder: str, settings: Mapping[str, Extraction], split: Folds, chosen: Protocol
) -> StainAblation:
    """Trains what is missing of an encoder's ensembles, and judges them."""
    names = settings[NONE].configurations
    folders = {setting: FLAGS.out / encoder / setting for setting in settings}
    descriptors = {
        setting: {
            name: store.read(folder / variants.DESCRIPTORS, name, split.held_out().names)
            for name in names
        }
        for setting, folder in folders.items()
    }
    runs, movements = {}, {}
    for learner in FLAGS.learners:
        for folder in folders.values():
            of_folder = folder / variants.DESCRIPTORS, folder / learner
            variants.train(*of_folder, split, names, chosen, learner)
        runs[learner] = {
            setting: evaluate.load_out_of_fold(folder / learner, FLAGS.positive_classes, names)
            for setting, folder in folders.items()
        }
        movements[learner] = {
            setting: movement(folder / learner, setting, descriptors)
            for setting, folder in folders.items()
        }
    distances = {
        (name, normalised): robustness.distances(*(descriptors[each][name] for each in colours))
        for name in names
        for normalised, colours in ((False, _COLOURS[NONE]), (True, _COLOURS[NORMALISE]))
    }
    made = manifests.read(folders[NONE] / variants.DESCRIPTORS, names[0])
    return StainAblation(manifests.weights_text([made]), runs, movements, distances)


def movement(
    models: Path, setting: str, descriptors: Mapping[str, Mapping[str, np.ndarray]]
) -> Movement:
    """How a setting's answers move from plain colours to varied ones, of the same crops."""
    ensemble = ensembles.load(models)
    plain, varied = (
        np.mean(
            [
                scoring.score_held_out(ensemble, name, array).mean(axis=0)
                for name, array in descriptors[colours].items()
            ],
            axis=0,
        )
        for colours in _COLOURS[setting]
    )
    return robustness.movement(plain, varied)


if __name__ == "__main__":
    runner.run(main, __doc__)
