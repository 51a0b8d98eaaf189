"""Which encoder: several on the same images and folds, with what each costs.

histojax compare_encoders --data=DATA --out=OUT --encoders=ResNet,VGG      extracts and trains
histojax compare_encoders --data=TABLE --out=OUT --descriptors=uni=DIR1,virchow=DIR2
histojax compare_encoders --data=DATA --out=OUT --encoders=VGG --descriptors=DIR

Encoders of --encoders are extracted, one after the other, and timed. --descriptors are folders that
histojax extract or import_descriptors wrote: NAME=DIR takes all in it for one encoder, DIR each
encoder in it for one. Trees and linear heads (--learners) are trained on each with the same folds
and seeds; heads have the defaults of --protocol. --models=NAME=DIR takes an ensemble that is
trained already, if its folds are the same; it counts among those of its learner.

Writes OUT/encoders.html: which encoder is best by ROC AUC, and from which of the others no
difference can be told; accuracy, ROC AUC, log-loss and calibration error; the difference of each
pair, with an interval of its own and one that holds together with those of all pairs; how alike
they answer; what their blends bring; and what each costs. Intervals resample whole groups where
they are known. The same numbers are in OUT/encoders.csv, agreement.csv and costs.csv. Below
OUT/ENCODER are its descriptors and models. After a stop, the same command goes on.

Time: that of histojax extract for each encoder, and of an ensemble for each learner.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from histojax import config
from histojax.config import Extraction, Option, Protocol, Runtime
from histojax.datasets import Dataset, folds, positive
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import comparison, evaluate, own_data
from histojax.evaluation.encoder_choice import Cost, EncoderComparison, inputs_text
from histojax.extraction import costs, manifests, store
from histojax.learners import ensembles, growth
from histojax.learners.ensembles import Ensemble
from histojax.report import encoders as page
from histojax.utils.files import as_path, require_writable

from . import computing, data, models, protocol, runner, splits, variants
from .flag_types import define, define_path

if TYPE_CHECKING:
    from histojax.images.names import Images

FLAGS = flags.FLAGS
_NAME = re.compile(r"[\w.+-]+")

data.define_labelled()
splits.define_split()
data.define_mpp()
models.define_positive()
protocol.define_preset("extraction", "boosting")
computing.define_runtime("checked", "xla_preset")
variants.define_learners()
define_path("out", "Folder to write everything to.", required=True)
_FOLDERS = "each [NAME=]DIR, separated by commas"
define("descriptors", tuple[str, ...], Option(f"Descriptors that are there: {_FOLDERS}."))
define("models", tuple[str, ...], Option(f"Ensembles that are trained: {_FOLDERS}."))


@dataclasses.dataclass(frozen=True)
class Entrant:
    """An encoder that takes part.

    Attributes:
      descriptors: their folder.
      configurations: those of it that are the encoder's.
      extraction: what is extracted; None where the descriptors are there.
    """

    descriptors: Path
    configurations: tuple[str, ...]
    extraction: Extraction | None = None


def main() -> None:
    data.refuse_inside_data("out")
    entrants = folders_given()
    extracts = FLAGS["encoders"].present or not (entrants or FLAGS["models"].value)
    dataset = data.dataset(None if extracts else slides(entrants.values()))
    if extracts:
        suit = protocol.suited_to(dataset.paths, FLAGS.mpp)
        chosen = protocol.from_flags("extraction", "boosting", suit=suit)
        protocol.refuse_idle(chosen.extraction)
        entrants = joined(to_extract(chosen.extraction), entrants)
    else:
        computing.refuse_where_imported(why="without --encoders nothing is extracted")
        chosen = protocol.from_flags("boosting")
    trained = models_given(entrants)
    require_two({*entrants, *(name for _, name in trained)})
    print(positive.choose(dataset.classes, FLAGS.positive_classes).reason)
    require_writable(FLAGS.out)
    with models.split_kept_with_models(FLAGS.out):
        split = split_of(dataset, chosen, trained)
        describe(dataset, entrants, computing.runtime() if extracts else Runtime())
        runs = {learner: {} for learner in FLAGS.learners}
        for name, entrant in entrants.items():
            for learner in FLAGS.learners:
                of_learner = models_of(name, learner)
                names = entrant.configurations
                variants.train(entrant.descriptors, of_learner, split, names, chosen, learner)
                runs[learner][name] = of_learner, names
        for (learner, name), ensemble in trained.items():
            runs[learner][name] = ensemble.root, ensemble.configurations
    print(page.write(FLAGS.out, compared(entrants, runs)), end="")
    print(f"{FLAGS.out / 'encoders.html'}, encoders.csv, agreement.csv, costs.csv")


def pairs_given(flag: str) -> list[tuple[str, Path]]:
    """Name and folder of each value of a flag; the name is empty where there is none."""
    pairs = [text.rpartition("=")[::2] for text in FLAGS[flag].value or ()]
    for name, _ in pairs:
        if name and not _NAME.fullmatch(name):
            raise InputError(f"--{flag} has the name {name!r}, expected letters, digits and ._+-")
    return [(name, as_path(path)) for name, path in pairs]


def folders_given() -> dict[str, Entrant]:
    """The encoders of --descriptors by name."""
    entrants = {}
    for given, folder in pairs_given("descriptors"):
        names = store.configurations(folder)
        if not names:
            raise InputError(f"--descriptors: {folder} holds no descriptors")
        by_encoder = {}
        for name in names:
            made = manifests.read(folder, name)
            encoder = made["protocol"]["encoder"] if made else config.split(name)[0]
            by_encoder.setdefault(given or encoder, []).append(name)
        found = {name: Entrant(folder, tuple(of)) for name, of in by_encoder.items()}
        entrants = joined(entrants, found)
    return entrants


def models_given(entrants: Collection[str]) -> dict[tuple[str, str], Ensemble]:
    """The ensembles of --models by learner and name."""
    pairs = pairs_given("models")
    if nameless := [folder for name, folder in pairs if not name]:
        raise InputError(
            f"--models has {nameless[0]}, expected NAME=DIR, such as uni={nameless[0]}"
        )
    loaded = {}
    for name, folder in pairs:
        ensemble = ensembles.load(folder)
        loaded = joined(loaded, {(learner_of(name, ensemble), name): ensemble})
    if both := sorted({name for _, name in loaded} & {*entrants}):
        raise InputError(f"{both[0]} is to be trained, and is in --models: give one another name")
    return loaded


def joined(some: dict, others: dict) -> dict:
    """Both; InputError where an encoder is in both."""
    if twice := sorted({*some} & {*others}):
        name = twice[0] if isinstance(twice[0], str) else twice[0][1]
        raise InputError(f"{name} is named twice: give one another name, as in NAME=DIR")
    return some | others


def require_two(names: Collection[str]) -> None:
    """Raises InputError where there is nothing to compare."""
    if len(names) < 2:
        raise InputError(
            f"{', '.join(names)} alone cannot be compared, expected at least two encoders: name "
            "more of --encoders, or folders of --descriptors"
        )


def to_extract(extraction: Extraction) -> dict[str, Entrant]:
    """The encoders of a protocol, each with a folder below OUT."""
    entrants = {}
    for encoder in extraction.encoders:
        own = variants.of_encoder(extraction, encoder)
        folder = FLAGS.out / encoder / variants.DESCRIPTORS
        entrants[encoder] = Entrant(folder, own.configurations, own)
    return entrants


def slides(entrants: Iterable[Entrant]) -> "Images | None":
    """The slides that all encoders have imported descriptors of; None if any was computed here."""
    found = [manifests.imported_slides(each.descriptors, each.configurations) for each in entrants]
    if not found or None in found:
        return None
    return {name: path for name, path in found[0].items() if all(name in of for of in found)}


def split_of(dataset: Dataset, chosen: Protocol, trained: dict[tuple[str, str], Ensemble]) -> Folds:
    """The split in OUT: that of the ensembles of --models, or a new one.

    Raises:
      InputError: an ensemble has other folds.
    """
    path = FLAGS.out / ensembles.FOLDS
    if trained and not path.exists():
        folds.save(next(iter(trained.values())).folds, path)
    boosting = chosen.boosting
    split = splits.load_or_make(FLAGS.out, dataset, boosting.folds, boosting.fold_seed)
    fold_of = dict(zip(split.names, split.folds.tolist(), strict=True))
    for (_, name), ensemble in trained.items():
        if dict(zip(ensemble.folds.names, ensemble.folds.folds.tolist(), strict=True)) != fold_of:
            raise InputError(
                f"{ensemble.root} ({name}) was trained on other folds than those of {path}: train "
                "it again with a copy of that file in its folder, or compare the scores as they "
                "are by histojax compare"
            )
    return split


def describe(dataset: Dataset, entrants: dict[str, Entrant], runtime: Runtime) -> None:
    """Extracts what is missing, once all is found to be usable; checks what is there."""
    new = {name: each for name, each in entrants.items() if each.extraction}
    for each in entrants.values():
        if each.extraction:
            variants.check(dataset.images, each.extraction, FLAGS.mpp, runtime)
        else:
            own_data.require_same_files(dataset, each.descriptors)
    for name, each in new.items():
        variants.extract(FLAGS.out / name, dataset.images, each.extraction, FLAGS.mpp, runtime)


def models_of(name: str, learner: str) -> Path:
    """Where an encoder's ensemble goes."""
    return FLAGS.out / name / learner


def learner_of(name: str, ensemble: Ensemble) -> str:
    """What a trained ensemble counts among; InputError where nothing of its kind is compared."""
    learner = variants.TREES if ensemble.learner in ("trees", "xgboost") else ensemble.learner
    if learner not in FLAGS.learners:
        raise InputError(
            f"--models={name}={ensemble.root} is {learner}, and --learners is "
            f"{','.join(FLAGS.learners)}: add it there, or leave it out"
        )
    return learner


def compared(
    entrants: dict[str, Entrant], runs: dict[str, dict[str, tuple[Path, tuple[str, ...]]]]
) -> EncoderComparison:
    """What the page shows of the ensembles: folder and configurations by encoder, by learner."""
    seconds, made, inputs, notes = {}, {}, {}, []
    for learner, of_learner in runs.items():
        for name, (folder, _) in of_learner.items():
            ensemble = ensembles.load(folder)
            seconds.setdefault(name, {})[learner] = ensembles.training_seconds(ensemble)
            made[name] = manifests.weights_text(ensemble.extractions.values())
            inputs[name] = inputs_text(ensemble)
            if grown := growth.check(ensemble).text:
                notes.append(f"{name}, {learner}: {grown}")
    found = {
        learner: comparison.restrict_to_common_images(
            {
                name: evaluate.load_out_of_fold(folder, FLAGS.positive_classes, names)
                for name, (folder, names) in of_learner.items()
            }
        )
        for learner, of_learner in runs.items()
        if len(of_learner) > 1
    }
    if not found:
        raise InputError("no learner has two encoders to compare: name more, or other --learners")
    cost = {name: cost_of(entrants.get(name), of) for name, of in seconds.items()}
    return EncoderComparison(found, cost, made, notes, inputs)


def cost_of(entrant: Entrant | None, seconds: dict[str, float | None]) -> Cost:
    """What an encoder costs; of a trained ensemble only the training is known."""
    if entrant is None:
        return Cost(None, None, seconds)
    width = sum(store.width(entrant.descriptors, name) for name in entrant.configurations)
    return Cost(width, costs.read(entrant.descriptors.parent), seconds)


if __name__ == "__main__":
    runner.run(main, __doc__)
