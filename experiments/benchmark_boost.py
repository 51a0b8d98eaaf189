"""How long an ensemble takes to train: LightGBM in a loop, ours, and XGBoost.

histojax benchmark_boost                           a sample at the paper's size, 5 rounds of 70
histojax benchmark_boost --rounds=70 --turns=3     all rounds, three times
histojax benchmark_boost --arms=paper,fast --workers=1 --seeds=5

Every arm trains the same sample of made-up descriptors, two folds of a configuration with --seeds
models each, into a folder of its own, in processes of its own; the arms take turns, --turns times,
and the median time counts. The plain loop is one process of one thread that bins anew for each
model; ours go through `boost.train`. Each arm also runs with a single round, and seconds a model
are those, binning and start included, and 69 times what a further round took. Processor seconds are
beside them: on a machine that does other work too, only those of one worker mean much. Memory is
the most that any one process held, what it maps of shared files included.
"""

import importlib.util
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import lightgbm as lgb
import numpy as np
from absl import flags

from histojax.config import BACH_CLASSES, BOOSTS, Boosting
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import boost, ensembles, trees
from histojax.learners.training import TrainingJob
from histojax.utils.progress import format_duration

from . import runner
from .flag_types import define_path

FLAGS = flags.FLAGS

flags.DEFINE_integer("images", 400, "Images; a tenth is held out.", lower_bound=80)
flags.DEFINE_integer("augmentations", 50, "Rows of an image.", lower_bound=1)
flags.DEFINE_integer("channels", 2048, "Channels of a descriptor.", lower_bound=1)
flags.DEFINE_integer("seeds", 2, "Models of each of the two folds.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Boosting rounds, of 70.", lower_bound=2)
flags.DEFINE_integer("turns", 1, "Times each arm is run.", lower_bound=1)
flags.DEFINE_integer(
    "workers", boost.default_workers(), "Processes of the arms with all workers.", lower_bound=1
)
_KINDS = ("plain", *BOOSTS)
flags.DEFINE_list(
    "arms",
    None,
    f"What is timed, of {', '.join(_KINDS)}; the first has the others beside it. Default: all that "
    "are installed.",
)
define_path("scratch", "Folder for descriptors and models while it runs. Default: the system's.")

CONFIGURATION = "ResNet-0.5-400"
CORES = 16  # For which 300 models are projected, by processor seconds.
SAMPLED = 2  # Folds of ten whose models are trained.
Arm = tuple[str, int]  # plain, or of --boost; and how many workers.


def make_descriptors(root: Path, shape: tuple[int, int, int], seed: int = 0) -> Folds:
    """Descriptors [N, A, D] whose rows are nearly the same within an image, and ten folds."""
    rng = np.random.default_rng(seed)
    images, augmentations, channels = shape
    labels = np.arange(images) % len(BACH_CLASSES)
    means = rng.normal(0, 0.2, (len(BACH_CLASSES), channels))
    names = tuple(f"image{i:04d}" for i in range(images))
    for name, label in zip(names, labels, strict=True):
        image = means[label] + rng.normal(0, 0.5, channels)
        rows = np.exp(image + rng.normal(0, 0.2, (augmentations, channels)))
        store.write(root, CONFIGURATION, name, rows.astype(np.float32))
    return Folds(names, labels, np.arange(images) // len(BACH_CLASSES) % 10, BACH_CLASSES)


def plain_loop(root: Path, models: Path, split: Folds, boosting: Boosting, workers: int) -> None:
    """What one would write without us."""
    x = store.read(root, CONFIGURATION, split.names)
    for seed in range(boosting.seeds):
        for fold in range(SAMPLED):
            held_out = split.folds == fold
            rows = x[~held_out].reshape(-1, x.shape[-1])
            chosen = trees.parameters(boosting, len(split.classes), seed, fold, len(rows))
            for name in ("histogram_pool_size", "force_col_wise"):
                del chosen[name]
            data = lgb.Dataset(rows, np.repeat(split.labels[~held_out], x.shape[1]))
            booster = lgb.train(chosen, data, num_boost_round=boosting.rounds)
            path = ensembles.model_path(models, CONFIGURATION, seed, fold)
            ensembles.save_model(path, booster.model_to_string(), trees.score(booster, x[held_out]))


def ours(root: Path, models: Path, split: Folds, boosting: Boosting, workers: int) -> None:
    """`boost.train` on the sampled folds; the models of the others count as trained."""
    folds.save(split, models / ensembles.FOLDS)
    for seed in range(boosting.seeds):
        for fold in range(SAMPLED, split.count):
            ensembles.save_model(
                ensembles.model_path(models, CONFIGURATION, seed, fold, boosting.learner),
                "",
                np.zeros((1, 1, 1)),
            )
    ensembles.record_ensemble(models, split, boosting.learner, vars(boosting), boosting.seeds)
    boost.train(TrainingJob(root, models, split, (CONFIGURATION,)), boosting, workers)


def measured(train: Callable[..., None], *arguments: object) -> np.ndarray:
    """What training took in a process of its own: seconds, processor seconds, the largest GiB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=report, args=(sender, train, *arguments))
    process.start()
    sender.close()
    try:
        return np.array(receiver.recv())
    finally:
        process.join()


def report(sender: Connection, train: Callable[..., None], *arguments: object) -> None:
    """Trains and sends what it took."""
    start = time.monotonic()
    train(*arguments)
    seconds = time.monotonic() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(usage.ru_utime + usage.ru_stime for usage in used)
    sender.send((seconds, processor, max(usage.ru_maxrss for usage in used) / 2**20))


def time_arm(arm: Arm, root: Path, split: Folds, rounds: int) -> np.ndarray:
    """Seconds and processor seconds a model, and GiB of the largest process, of one run."""
    kind, workers = arm
    boosting = Boosting(
        seeds=FLAGS.seeds, rounds=rounds, boost="paper" if kind == "plain" else kind
    )
    with tempfile.TemporaryDirectory(dir=FLAGS.scratch) as models:
        train = plain_loop if kind == "plain" else ours
        took = measured(train, root, Path(models), split, boosting, workers)
    return took / [SAMPLED * FLAGS.seeds, SAMPLED * FLAGS.seeds, 1]


def main() -> None:
    rounds, full = FLAGS.rounds, Boosting().rounds
    installed = [kind for kind in BOOSTS if kind != "xgboost" or importlib.util.find_spec(kind)]
    if unknown := [kind for kind in FLAGS.arms or () if kind not in _KINDS]:
        raise InputError(f"--arms has {unknown[0]!r}, expected {', '.join(_KINDS)}")
    kinds = FLAGS.arms or ["plain", *installed]
    arms: list[Arm] = [(kind, 1) for kind in kinds]
    if FLAGS.workers > 1:
        arms += [(kind, FLAGS.workers) for kind in kinds if kind in ("paper", "fast")]
    with tempfile.TemporaryDirectory(dir=FLAGS.scratch) as folder:
        root = Path(folder)
        split = make_descriptors(root, (FLAGS.images, FLAGS.augmentations, FLAGS.channels))
        runs = [
            [[time_arm(arm, root, split, n) for n in (1, rounds)] for arm in arms]
            for _ in range(FLAGS.turns)
        ]
    once, often = np.median(runs, axis=0).transpose(1, 0, 2)  # Each [arms, 3].
    projected = once + (often - once) / (rounds - 1) * (full - 1)
    peaks = np.max(runs, axis=(0, 2))[:, 2]
    rows = FLAGS.images * FLAGS.augmentations * 9 // 10
    print(
        f"{rows} x {FLAGS.channels} rows, {SAMPLED * FLAGS.seeds} models an arm, {rounds} rounds "
        f"scaled to {full}"
    )
    print(
        "trees   workers  s/model  processor s/model  x first  300 models  600 models  "
        "300 on 16 cores  largest process, GiB"
    )
    for (kind, workers), (seconds, processor, _), peak in zip(arms, projected, peaks, strict=True):
        times = "".join(f"{format_duration(count * seconds):>12s}" for count in (300, 600))
        times += f"{format_duration(300 * processor / CORES):>17s}"
        ratio = projected[0, 0] / seconds
        print(
            f"{kind:8s}{workers:7d}{seconds:9.1f}{processor:19.1f}{ratio:9.2f}{times}{peak:22.2f}"
        )


if __name__ == "__main__":
    runner.run(main, __doc__)
