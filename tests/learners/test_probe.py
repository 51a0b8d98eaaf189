"""Heads against scikit-learn, what they may see, how they are trained together, and refusals.

`probe_fit` is tested here too, and so are damaged files of heads.
"""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from histojax.config import BACH_CLASSES, Probe, Protocol, check
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.learners import ensembles, heads, probe, probe_fit, scoring
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, predict
from histojax.utils import files
from tests import samples
from tests.running import run

N, A, CLASSES = 36, 3, BACH_CLASSES
WIDTHS = {"ResNet-0.5-400": 40, "VGG-0.5-400": 25}
PROBE = Probe(
    folds=3,
    seeds=2,
    hidden_units=8,
    learning_rate=1e-2,
    batch_rows=16,
    epochs=12,
    patience=4,
    validation_parts=3,
)
HEADS = ("linear", "hidden")


@pytest.fixture(scope="module")
def split() -> Folds:
    return samples.grouped_split()


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory, split) -> Path:
    """Classes that lie apart; some channels far from zero, one constant."""
    root, rng = tmp_path_factory.mktemp("descriptors"), np.random.default_rng(0)
    for configuration, width in WIDTHS.items():
        means, offset = rng.normal(size=(len(CLASSES), width)), rng.choice([0, 1, 300], width)
        for name, label in zip(split.names, split.labels, strict=True):
            rows = rng.normal(means[label], 1.5, (A, width)) + offset
            rows[:, 3] = 7
            store.write(root, configuration, name, rows.astype(np.float32))
    return root


@pytest.fixture
def eight_at_a_time(monkeypatch):
    """One program serves all tests that train heads of one configuration."""
    monkeypatch.setattr(probe, "_models_at_a_time", lambda *_: 8)


def train(
    root: Path, descriptors: Path, split: Folds, parameters: Probe, configurations=WIDTHS, **more
) -> int:
    folds.save(split, root / ensembles.FOLDS)
    return probe.train(
        TrainingJob(descriptors, root, split, tuple(configurations)), parameters, **more
    )


@pytest.fixture(scope="module", params=HEADS)
def trained(request, tmp_path_factory, descriptors, split) -> tuple[Path, Probe, int]:
    """A folder of heads, their parameters, and how often the program was traced."""
    root, parameters = (
        tmp_path_factory.mktemp("models"),
        dataclasses.replace(PROBE, head=request.param),
    )
    fit, traces = probe_fit.fit, []

    def counted(*arguments, **more):
        traces.append(1)
        return fit(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_fit, "fit", counted)
        patch.setattr(
            probe, "_models_at_a_time", lambda *_: 8
        )  # Twelve models in two shares, the second filled up.
        assert train(root, descriptors, split, parameters) == 12
    return root, parameters, len(traces)


def read_head(path, head):
    return heads.parse(head, path.read_bytes(), path)


def head_of(
    root: Path, parameters: Probe, configuration: str, seed: int, fold: int
) -> dict[str, np.ndarray]:
    return read_head(
        ensembles.model_path(root, configuration, seed, fold, parameters.head), parameters.head
    )


def fit_alone(
    x: np.ndarray, labels: np.ndarray, training: np.ndarray, parameters: Probe, seed: int = 0
):
    """One model on standardised rows [N, A, D]; what is not for training is for validation."""
    rows = int(training.sum()) * x.shape[1], int((~training).sum()) * x.shape[1]
    steps, checks = (-(-count // parameters.batch_rows) for count in rows)
    ones = np.ones(x.shape[-1], np.float32)
    model = probe_fit.Model(
        *map(np.int32, (0, seed, 0, x.shape[-1])), training, ~training, 0 * ones, ones
    )
    program = probe_fit.compiled(
        partial(
            probe_fit.fit,
            probe=parameters,
            classes=int(labels.max()) + 1,
            steps=steps,
            checks=checks,
        ),
        Mesh(np.array(jax.devices()[:1]), ("models",)),
    )
    fitted = program(
        jax.tree.map(lambda each: each[None], model),
        x.reshape(1, -1, x.shape[-1]),
        np.repeat(labels, x.shape[1]).astype(np.int32),
    )
    return jax.tree.map(lambda each: np.asarray(each)[0], fitted)


def cross_entropy(layers, x: np.ndarray, labels: np.ndarray) -> float:
    """Written out in float64, by the chosen class."""
    *hidden, (kernel, bias) = [(k.astype(np.float64), b.astype(np.float64)) for k, b in layers]
    for k, b in hidden:
        x = np.maximum(x @ k.T + b, 0)
    z = x @ kernel.T + bias
    return float(
        np.mean(
            np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, labels[:, None], axis=-1)[:, 0]
        )
    )


def test_all_models_come_from_one_trace(trained):
    assert trained[2] == 1


def test_a_linear_head_trained_long_is_the_penalised_logistic_regression_of_scikit_learn():
    rng, n, penalty = np.random.default_rng(1), 90, 0.05
    labels = np.arange(n) % 3
    x = (
        StandardScaler()
        .fit_transform(rng.normal(rng.normal(size=(3, 6))[labels], 1.2))
        .astype(np.float32)[:, None]
    )
    training = np.arange(n) < 60
    parameters = Probe(
        learning_rate=3e-3,
        weight_decay=penalty,
        batch_rows=60,
        epochs=2000,
        patience=2000,
        validation_parts=2,
    )
    # Judged by the rows it is fitted to, so that the last epochs are the best.
    twice, both = np.concatenate([x[training]] * 2), np.concatenate([labels[training]] * 2)
    fitted = fit_alone(twice, both, np.arange(120) < 60, parameters)
    reference = LogisticRegression(C=1 / (60 * penalty), tol=1e-8, max_iter=1000).fit(
        x[training, 0], labels[training]
    )
    ((kernel, bias),) = fitted.layers
    assert fitted.best_epoch > 100

    def objective(kernel, bias):
        layers = ((kernel, bias),)
        return (
            cross_entropy(layers, x[training, 0], labels[training])
            + penalty / 2 * np.square(kernel).sum()
        )

    best = objective(reference.coef_, reference.intercept_)
    assert best - 1e-6 <= objective(kernel, bias) <= best + 1e-2
    ours = (x[~training, 0] @ kernel.T + bias).argmax(axis=1)
    np.testing.assert_array_equal(ours, reference.predict(x[~training, 0]))
    assert np.mean(ours == labels[~training]) > 0.5


def test_a_hidden_layer_tells_separable_classes_apart_as_scikit_learn_does():
    rng, n = np.random.default_rng(2), 120
    labels = np.arange(n) % 3
    x = rng.normal(4 * rng.normal(size=(3, 10))[labels], 1).astype(np.float32)
    x = StandardScaler().fit_transform(x).astype(np.float32)
    training = np.arange(n) < 90
    parameters = dataclasses.replace(PROBE, head="hidden", epochs=60, patience=60)
    hidden, (kernel, bias) = fit_alone(x[:, None], labels, training, parameters).layers
    values = np.maximum(x @ hidden[0].T + hidden[1], 0)
    reference = LogisticRegression().fit(x[training], labels[training])
    np.testing.assert_array_equal((values @ kernel.T + bias).argmax(axis=1), reference.predict(x))


@pytest.mark.parametrize("head", HEADS)
def test_the_best_epoch_is_kept_and_training_ends_after_patience(head):
    rng, n = np.random.default_rng(3), 40
    labels = rng.integers(0, 2, n)  # Nothing to learn but the training images by heart.
    x = rng.normal(labels[:, None, None] * 0.3, 1, (n, 2, 30)).astype(np.float32)
    training = np.arange(n) < 23  # The 34 rows that stop training fill no whole minibatches.
    parameters = dataclasses.replace(
        PROBE, head=head, epochs=50, patience=5, learning_rate=1e-2, weight_decay=0.0
    )
    fitted = fit_alone(x, labels, training, parameters)
    ran = int(np.isfinite(fitted.losses).sum())
    best = int(fitted.losses.argmin()) + 1
    assert best == fitted.best_epoch
    assert ran == best + 5 < 50
    assert fitted.losses[ran - 1] > fitted.losses[best - 1]
    actual = cross_entropy(
        fitted.layers, x[~training].reshape(-1, 30), np.repeat(labels[~training], 2)
    )
    assert actual == pytest.approx(fitted.losses[best - 1], rel=1e-5)


def test_every_training_row_is_seen_in_an_epoch_and_no_other():
    """A step of gradient descent on all rows at once does not depend on their order."""
    rng, n = np.random.default_rng(4), 10
    x, labels, training = (
        rng.normal(size=(n, 2, 5)).astype(np.float32),
        np.arange(n) % 2,
        np.arange(n) < 6,
    )
    parameters = Probe(
        learning_rate=0.1, weight_decay=0.0, batch_rows=12, epochs=1, patience=1, validation_parts=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_fit, "_adam", lambda parameters: optax.sgd(parameters.learning_rate))
        ((kernel, bias),) = fit_alone(x, labels, training, parameters).layers
    rows, truth = (
        x[training].reshape(-1, 5).astype(np.float64),
        np.eye(2)[np.repeat(labels[training], 2)],
    )
    np.testing.assert_allclose(kernel, -0.1 * (0.5 - truth).T @ rows / 12, atol=1e-6)
    np.testing.assert_allclose(bias, -0.1 * (0.5 - truth).mean(axis=0), atol=1e-6)


def test_channels_are_standardised_by_the_training_rows_alone():
    rng = np.random.default_rng(5)
    x = rng.normal(1000, 3, (9, 4, 5)).astype(np.float32)
    x[:, :, 1], x[:6, :, 2] = 0, 0.1
    images = np.arange(9) < 6
    mean, scale = probe._standardisation(probe._image_moments(x), images)
    reference = StandardScaler().fit(x[images].reshape(-1, 5).astype(np.float64))
    np.testing.assert_allclose(mean, reference.mean_, rtol=1e-6)
    np.testing.assert_array_equal(scale[1:3], 0)  # Constant among the training rows.
    np.testing.assert_allclose(scale[[0, 3, 4]], 1 / reference.scale_[[0, 3, 4]], rtol=1e-6)


@pytest.mark.parametrize("trained", ["hidden"], indirect=True)
def test_what_is_held_out_changes_no_weight(descriptors, split, trained, tmp_path, eight_at_a_time):
    root, parameters, _ = trained
    shutil.copytree(descriptors, tmp_path / "descriptors")
    for name in (name for name, fold in zip(split.names, split.folds, strict=True) if fold == 0):
        noise = np.random.default_rng(6).normal(size=(A, 25)).astype(np.float32)
        store.write(tmp_path / "descriptors", "VGG-0.5-400", name, noise)
    train(tmp_path / "models", tmp_path / "descriptors", split, parameters, ["VGG-0.5-400"])
    one, other = (
        head_of(folder, parameters, "VGG-0.5-400", 0, 0) for folder in (root, tmp_path / "models")
    )
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["hidden"], indirect=True)
def test_a_configuration_trained_alone_is_as_beside_a_wider_one(
    descriptors, split, trained, tmp_path, eight_at_a_time
):
    root, parameters, _ = trained
    assert train(tmp_path, descriptors, split, parameters, ["VGG-0.5-400"]) == 6
    for seed, fold in ((0, 0), (1, 2)):
        together, alone = (
            head_of(folder, parameters, "VGG-0.5-400", seed, fold) for folder in (root, tmp_path)
        )
        assert together.keys() == alone.keys()
        for name in together:
            assert together[name].shape == alone[name].shape
            np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["hidden"], indirect=True)
def test_one_device_gives_what_two_give(descriptors, split, trained, tmp_path):
    assert len(jax.devices()) == 2
    root, parameters, _ = trained
    train(tmp_path, descriptors, split, parameters, devices=jax.devices()[:1])
    for configuration in WIDTHS:
        one, two = (
            ensembles.out_of_fold(ensembles.load(folder), configuration)
            for folder in (tmp_path, root)
        )
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("trained", ["hidden"], indirect=True)
def test_a_lost_model_is_made_anew_as_it_was(
    descriptors, split, trained, tmp_path, eight_at_a_time
):
    root, parameters, _ = trained
    shutil.copytree(root, tmp_path / "models")
    lost = ensembles.model_path(tmp_path / "models", "VGG-0.5-400", 1, 1, parameters.head)
    kept = ensembles.model_path(tmp_path / "models", "VGG-0.5-400", 1, 0, parameters.head)
    time = kept.stat().st_mtime_ns
    before = read_head(lost, parameters.head)
    lost.unlink()
    assert train(tmp_path / "models", descriptors, split, parameters) == 1
    assert train(tmp_path / "models", descriptors, split, parameters) == 0
    assert kept.stat().st_mtime_ns == time
    after = read_head(lost, parameters.head)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)
    assert [row["models"] for row in ensembles.read_training_times(tmp_path / "models")] == [
        "12",
        "1",
    ]


def test_seeds_and_folds_differ(trained):
    scores = ensembles.out_of_fold(ensembles.load(trained[0]), "ResNet-0.5-400")
    assert scores.shape == (2, N - 1, A, 4)
    assert scores.dtype == np.float64
    assert not np.allclose(scores[0], scores[1], atol=1e-3)
    np.testing.assert_allclose(scores.sum(axis=-1), 1)
    assert (
        np.mean(scores.mean(axis=(0, 2)).argmax(axis=-1) == np.delete(np.arange(N) % 4, 35)) > 0.8
    )


def test_a_saved_head_predicts_what_was_judged(descriptors, split, trained):
    root, parameters, _ = trained
    x = store.read(descriptors, "VGG-0.5-400", split.names)
    for fold in range(3):
        path = ensembles.model_path(root, "VGG-0.5-400", 1, fold, parameters.head)
        judged = np.load(ensembles.scores_path(path))
        np.testing.assert_allclose(
            scoring.score(parameters.head, path, x[split.folds == fold]), judged, rtol=1e-12
        )


def test_new_images_get_the_mean_of_all_heads(descriptors, split, trained, tmp_path):
    root, parameters, _ = trained
    expected = np.mean(
        [
            heads.score(
                head_of(root, parameters, name, seed, fold),
                store.read(descriptors, name, split.names[:5]),
            )
            for name in WIDTHS
            for seed in range(2)
            for fold in range(3)
        ],
        axis=(0, 2),
    )
    five = {name: store.read(descriptors, name, split.names[:5]) for name in WIDTHS}
    loaded = scoring.load_models(ensembles.load(root))
    np.testing.assert_allclose(loaded.score(five).mean, expected, rtol=1e-12)
    outcome = predict.predict_descriptors(bundle.from_models(root), descriptors, tmp_path)
    assert len(outcome.predictions) == N
    assert len(files.read_csv(tmp_path / "predictions.csv", ())) == N


def copy_with(trained, tmp_path: Path, damage) -> tuple[Path, Probe]:
    root, parameters, _ = trained
    shutil.copytree(root, tmp_path / "models")
    damage(ensembles.model_path(tmp_path / "models", "VGG-0.5-400", 1, 2, parameters.head))
    return tmp_path / "models", parameters


def resave(change):
    """A damage that writes a head's arrays after a change."""

    def damage(path):
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(path, **arrays)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "cannot be read as a head"),
        (lambda path: path.write_bytes(b""), "cannot be read as a head"),
        (lambda path: path.write_text("tree"), "cannot be read as a head"),
        (lambda path: files.write_array(path, np.zeros(3)), "cannot be read as a head"),
        (lambda path: np.savez(path, kernel=np.array([{}], object)), "cannot be read as a head"),
        (resave(lambda arrays: arrays.pop("bias")), "holds .*expected .*kernel, bias of a"),
        (resave(lambda arrays: arrays.update(more=arrays["bias"])), "holds .*more"),
        (
            resave(lambda arrays: arrays.update(bias=arrays["bias"][:3])),
            "as wide as the one before",
        ),
        (resave(lambda arrays: arrays.update(bias=arrays["bias"] * np.nan)), "finite"),
        (
            resave(lambda arrays: arrays.update(kernel=arrays["kernel"].astype(np.float64))),
            "kernel float64",
        ),
        (
            resave(lambda arrays: arrays.update(kernel=arrays["kernel"][0])),
            "as wide as the one before",
        ),
    ],
)
def test_a_damaged_head_is_refused_by_name(trained, descriptors, split, tmp_path, damage, message):
    folder, _ = copy_with(trained, tmp_path, damage)
    with pytest.raises(InputError, match=message) as error:
        scoring.load_models(ensembles.load(folder))
    assert "seed1-fold03.npz" in str(error.value)


def test_descriptors_of_another_width_are_refused(trained):
    loaded = scoring.load_models(ensembles.load(trained[0]))
    with pytest.raises(InputError, match="the descriptors have 26"):
        loaded.score(dict.fromkeys(WIDTHS, np.zeros((1, A, 26), np.float32)))


def test_other_parameters_heads_or_folds_are_refused(descriptors, split, trained):
    root, parameters, _ = trained
    with pytest.raises(InputError, match="parameters.patience: found 4, expected 5"):
        probe.train(
            TrainingJob(descriptors, root, split, tuple(WIDTHS)),
            dataclasses.replace(parameters, patience=5),
        )
    other = HEADS[parameters.head == "linear"]
    with pytest.raises(InputError, match=f"learner: found {parameters.head}, expected {other}"):
        probe.train(
            TrainingJob(descriptors, root, split, tuple(WIDTHS)),
            dataclasses.replace(parameters, head=other),
        )
    moved = dataclasses.replace(split, folds=np.roll(split.folds, 4))
    with pytest.raises(InputError, match="folds_sha256"):
        probe.train(TrainingJob(descriptors, root, moved, tuple(WIDTHS)), parameters)


def test_training_that_diverges_is_refused(descriptors, split, tmp_path):
    wild = dataclasses.replace(PROBE, head="hidden", learning_rate=1e30)
    with pytest.raises(InputError, match="diverged: lower --learning_rate"):
        train(tmp_path, descriptors, split, wild, ["VGG-0.5-400"])
    assert not list(tmp_path.rglob("*.npz"))


def test_configurations_of_different_augmentations_are_refused(split):
    actual = {"one": np.zeros((N, 2, 4), np.float32), "two": np.zeros((N, 3, 4), np.float32)}
    with pytest.raises(InputError, match="2 and 3 augmentations"):
        probe._prepare(split, actual, PROBE)


def test_models_take_no_more_memory_than_is_counted_on(split):
    parameters = dataclasses.replace(PROBE, head="hidden", batch_rows=64)
    descriptors = np.random.default_rng(8).normal(size=(N, 20, 300)).astype(np.float32)
    data = probe._prepare(split, {"one": descriptors}, parameters)
    steps, checks = data.batches
    mesh = Mesh(np.array(jax.devices()[:1]), ("models",))
    program = probe_fit.compiled(
        partial(probe_fit.fit, probe=parameters, classes=4, steps=steps, checks=checks), mesh
    )
    models = jax.tree.map(lambda *each: np.stack(each), *[data.model(("one", 0, 0))] * 10)
    labels = np.repeat(split.labels, 20).astype(np.int32)
    used = program.lower(models, data.descriptors, labels).compile().memory_analysis()
    assert (
        0.2 * probe._bytes_per_model(data)
        < (used.temp_size_in_bytes + used.output_size_in_bytes) / 10
        < probe._bytes_per_model(data)
    )


@pytest.mark.parametrize(
    ("missing", "room", "shares"),
    [(12, 2, [4, 4, 4]), (12, 50, [12]), (7, 2, [4, 4]), (1, 9, [2]), (3, 0, [2, 2])],
)
def test_models_fall_into_equal_shares_of_whole_devices(split, monkeypatch, missing, room, shares):
    data = probe._prepare(split, {"one": np.zeros((N, A, 5), np.float32)}, PROBE)
    monkeypatch.setattr(probe, "_BYTES_ON_CPU", room * probe._bytes_per_model(data) + 1)
    width = probe._models_at_a_time(data, missing, jax.devices())
    assert [width] * len(range(0, missing, width)) == shares


@pytest.mark.parametrize(
    "field", ["seeds", "hidden_units", "learning_rate", "batch_rows", "epochs", "patience"]
)
def test_values_that_make_no_sense_are_refused(field):
    with pytest.raises(InputError, match=f"--{field} is -1"):
        check(Protocol(probe=dataclasses.replace(PROBE, **{field: -1})))


def test_the_script_trains_what_the_other_predicts_with(descriptors, split, tmp_path):
    rows = [
        (f"{name}.png", CLASSES[label])
        for name, label in zip(split.names, split.labels, strict=True)
    ]
    files.write_csv(tmp_path / "data.csv", rows, ("image", "label"))
    for name, _ in rows:
        (tmp_path / name).touch()  # Looked for, but not read.
    small = [
        "--folds=3",
        "--seeds=1",
        "--validation_parts=3",
        "--epochs=3",
        "--head=hidden",
        "--classes=" + ",".join(CLASSES),
    ]
    where = [
        f"--data={tmp_path}/data.csv",
        f"--descriptors={descriptors}",
        f"--models={tmp_path}/models",
    ]
    failed = run("probe", *where, *small, "--folds=2", "--validation_parts=30")
    assert "lower --validation_parts" in failed.stderr
    assert not (tmp_path / "models" / "folds.csv").exists()  # Its two folds block nobody.
    done = run("probe", *where, *small)
    assert done.returncode == 0, done.stderr
    assert "6 models trained, 6 are there" in done.stdout
    done = run("predict", where[2], where[1], f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
