"""Fine-tuning: a step against its formula, what is trained, what is seen, and resumption.

`finetune_fit` and `finetune_step` are tested here too.
"""

import dataclasses
import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util
from PIL import Image

from histojax import encoders
from histojax.config import Extraction, Finetune, Runtime, View
from histojax.datasets import Dataset, folds
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, manifests, preparation, programs
from histojax.images.names import name_images
from histojax.images.padding import read_padded, scaled_size
from histojax.images.resampling import NO_RESAMPLING
from histojax.learners import (
    ensembles,
    finetune,
    finetune_fit,
    finetune_step,
    trained_images,
    training,
)
from histojax.learners.finetune_fit import TrainingData
from histojax.learners.finetune_step import Batch, StepConfig
from histojax.ops import crops, stain
from histojax.utils import files
from histojax.utils.progress import Progress
from tests import limits, samples
from tests.encoders.small_encoder import SMALL

pytestmark = pytest.mark.usefixtures("narrow_vgg")

VIEW = View(0.5, 32)
EXTRACTION = Extraction(
    encoders=("VGG",), views=(VIEW,), augmentations=2, crops=3, weights="random", seed=3
)
FINETUNE = Finetune(
    folds=2,
    seeds=2,
    batch_crops=6,
    crops_per_epoch=2,
    epochs=3,
    validation_parts=3,
    head_learning_rate=3e-2,
    body_learning_rate=1e-3,
)
CONFIGURATION = "VGG-0.5-32"


def make_dataset(folder: Path, count: int = 18) -> Dataset:
    """Images of two classes, one of them with much more eosin than hematoxylin, of three sizes."""
    rng = np.random.default_rng(0)
    files, labels = [folder / f"image{i:02d}.png" for i in range(count)], np.arange(count) % 2
    for i, (file, label) in enumerate(zip(files, labels, strict=True)):
        amounts = (
            rng.gamma(2, 0.4, (11, 12, 2)).repeat(8 if label else 2, 0).repeat(8 if label else 2, 1)
        )
        tiled = np.tile(amounts, (1, 1, 1) if label else (4, 4, 1))[: 80 + i % 3, :90]
        rgb = np.clip(240 * np.exp(-tiled @ np.array(stain.REFERENCE_STAINS).T), 0, 255).astype(
            np.uint8
        )
        Image.fromarray(rgb).save(file)
    order = np.argsort(labels, kind="stable")
    return Dataset(
        name_images(files[i] for i in order),
        tuple(int(labels[i]) for i in order),
        ("fine", "coarse"),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def split(dataset) -> folds.Folds:
    return folds.make(dataset, 2, 0)


def prepared(models: Path, split: folds.Folds) -> Path:
    models.mkdir(exist_ok=True)
    folds.save(split, models / ensembles.FOLDS)
    return models


@pytest.fixture(scope="module")
def models(tmp_path_factory, dataset, split) -> Path:
    root = prepared(tmp_path_factory.mktemp("models"), split)
    before = finetune_step.step._cache_size()
    assert finetune.train(dataset, root, split, EXTRACTION, FINETUNE) == 4
    assert finetune_step.step._cache_size() - before <= 1, "one step serves all seeds and folds"
    return root


def data_of(dataset, split, finetune_=FINETUNE, extraction=EXTRACTION):
    """What models of one fold and seed are trained on."""
    splits = {(0, 0): training.validation_split(split, 0, 0, finetune_.validation_parts)}
    settings = finetune._Settings(
        dataset.images,
        trained_images.digests(dataset.images),
        split,
        splits,
        extraction,
        finetune_,
        NO_RESAMPLING,
    )
    loaded = finetune.load_encoder(extraction.encoders[0], extraction, Runtime())
    return finetune._prepare(settings, loaded, extraction.views[0])


@pytest.fixture(scope="module")
def data(dataset, split) -> TrainingData:
    return data_of(dataset, split)


@pytest.fixture
def bar():
    with Progress("test", 9, "epochs", stream=io.StringIO()) as bar:
        yield bar


def one_batch(data: TrainingData, count: int) -> Batch:
    keys = data.images.keys(0)
    return data.batch(keys, np.arange(count) * 2, np.arange(count, dtype=np.int32))


def stepped(data: TrainingData, count: int = 6):
    """Parameters before and after two steps on one batch."""
    body, frozen = finetune_step.split_layers(
        data.params, data.config.encoder, data.config.finetune.blocks
    )
    progress, batch = finetune_fit._initial_state(data.config, body), one_batch(data, count)
    fixed = {
        "body": frozen,
        "input": finetune_fit._standardise_input(data, data.images.keys(0), np.arange(6)),
    }
    trained, state, losses = progress["trained"], progress["optimizer"], []
    for _ in range(2):  # The head begins at zero, so that the body learns from the second step on.
        trained, state, loss = finetune_step.step(trained, state, fixed, batch, data.config)
        losses.append(float(loss))
    return progress["trained"], trained, fixed, losses


# The pieces


def test_images_are_those_that_extraction_describes(dataset, data):
    for i, path in enumerate(dataset.paths[:4]):
        image = read_padded(path)
        size = np.array(scaled_size(image.size, 0.5), np.int32)
        density, _ = preparation.prepare(
            image.rgb,
            np.array(image.size, np.int32),
            size,
            scale=0.5,
            canvas=data.images.pixels.shape[2:],
        )
        assert (data.images.sizes[i] == size).all()
        actual = stain.optical_density(np.moveaxis(data.images.pixels[i], 0, -1))
        np.testing.assert_array_equal(
            actual[:, : size[0], : size[1]], density[:, : size[0], : size[1]]
        )


def test_crops_are_those_that_extraction_draws(data):
    key, size, image = (
        crops.image_key(3, "a"),
        data.images.sizes[0],
        jnp.asarray(data.images.pixels[0]),
    )
    density = stain.optical_density(np.moveaxis(image, 0, -1))
    ours = jax.jit(
        lambda number: finetune_step._crop(image, size, key, number // 3, number % 3, data.config)
    )
    extraction = jax.jit(lambda number: programs.crop(density, size, key, number, VIEW, EXTRACTION))
    for number in (0, 2, 4):
        actual, expected = np.asarray(ours(number)), np.asarray(extraction(number))
        np.testing.assert_allclose(actual, expected, atol=1)  # Grey levels are truncated.
        assert np.mean(actual != expected) < 0.01


def test_folding_batch_norms_alone_leaves_the_descriptors_as_they_are(fields, monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "Small", SMALL)
    variables = weights.random("Small", 0)
    variables["batch_stats"]["conv1_bn"]["mean"] = np.linspace(-50, 50, 8, dtype=np.float32)
    encoder, params = finetune_step.fold_batch_norms(SMALL, variables, "float32")
    images = fields(40, 40)
    expected = SMALL.descriptors(variables, images)
    np.testing.assert_allclose(
        encoder.descriptors({"params": params}, images), expected, atol=1e-6 * np.max(expected)
    )


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_the_last_block_is_a_part_of_every_encoder(name):
    layers = {flat.split("/")[1]: None for flat in weights.shapes(encoders.get(name))}
    last, rest = finetune_step.split_layers(layers, encoders.get(name), "last")
    assert set(last) | set(rest) == set(layers)
    assert 0 < len(last) < len(rest)
    assert finetune_step.split_layers(layers, encoders.get(name), "all") == (layers, {})


# A step


def test_the_first_step_equals_adamw_by_hand(data):
    config, rate, decay = data.config, FINETUNE.head_learning_rate, FINETUNE.weight_decay
    body, frozen = finetune_step.split_layers(data.params, config.encoder, "last")
    batch = one_batch(data, 6)
    fixed = {
        "body": frozen,
        "input": finetune_fit._standardise_input(data, data.images.keys(0), np.arange(9)),
    }
    rng = np.random.default_rng(0)
    head = {
        "kernel": jnp.asarray(rng.normal(size=(24, 2)), jnp.float32),
        "bias": jnp.array([0.3, -0.2]),
    }
    trained = {"body": body, "head": head}
    after, _, loss = finetune_step.step(
        trained, finetune_step.optimizer(config).init(trained), fixed, batch, config
    )

    crop = jax.jit(lambda *arguments: finetune_step._crop(*arguments, 0, config))
    images = jnp.stack(
        [
            crop(batch.images[i], batch.sizes[i], batch.keys[i], batch.augmentations[i])
            for i in range(6)
        ]
    )
    described = np.asarray(config.encoder.descriptors({"params": data.params}, images), np.float64)
    x = (described - np.asarray(fixed["input"]["mean"])) * np.asarray(fixed["input"]["scale"])
    odds = np.exp(x @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"]))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    truth = np.eye(2)[batch.labels]
    assert float(loss) == pytest.approx(
        -np.log((probabilities * truth).sum(axis=1)).mean(), rel=1e-4
    )
    for name, gradient, decays in (
        ("kernel", x.T @ (probabilities - truth) / 6, True),
        ("bias", (probabilities - truth).mean(axis=0), False),
    ):
        # Adam's first step is the gradient's sign but for epsilon, and warm-up begins at one
        # step's share of the rate.
        expected = gradient / (np.abs(gradient) + 1e-8) + decay * decays * np.asarray(
            head[name], np.float64
        )
        moved = np.asarray(after["head"][name], np.float64) - np.asarray(head[name], np.float64)
        clear = np.abs(gradient) > 1e-4
        np.testing.assert_allclose(
            moved[clear], (-rate / config.steps * expected)[clear], rtol=1e-2
        )

    def reference(body):
        described = config.encoder.descriptors({"params": frozen | body}, images)
        x = (described - fixed["input"]["mean"][None]) * fixed["input"]["scale"][None]
        return -jnp.mean(
            jnp.sum(
                jax.nn.log_softmax(x @ head["kernel"] + head["bias"][None])
                * jnp.asarray(truth, jnp.float32),
                axis=1,
            )
        )

    gradients = jax.jit(jax.grad(reference))(body)
    for layer, gradient in gradients.items():
        kernel = np.asarray(body[layer]["kernel"], np.float64)
        step = np.asarray(gradient["kernel"], np.float64)
        clear = np.abs(step) > 1e-4
        expected = (
            -FINETUNE.body_learning_rate
            / config.steps
            * (step / (np.abs(step) + 1e-8) + decay * kernel)
        )
        moved = np.asarray(after["body"][layer]["kernel"], np.float64) - kernel
        assert clear.any()
        np.testing.assert_allclose(moved[clear], expected[clear], rtol=2e-2, atol=1e-7)


@pytest.mark.parametrize("blocks", ["last", "all"])
def test_the_trained_layers_move_and_the_others_are_not_even_there(dataset, split, blocks):
    data = data_of(dataset, split, dataclasses.replace(FINETUNE, blocks=blocks))
    before, after, fixed, losses = stepped(data)
    assert losses[1] < losses[0] == pytest.approx(np.log(2))
    assert {name[:6] for name in before["body"]} == (
        {"block5"} if blocks == "last" else {f"block{i}" for i in range(1, 6)}
    )
    assert set(fixed["body"]) | set(before["body"]) == set(data.params)
    for name, layer in before["body"].items():
        assert (np.asarray(layer["kernel"]) != np.asarray(after["body"][name]["kernel"])).any(), (
            name
        )


def test_nothing_below_the_last_block_is_differentiated(data):
    """A step costs a forward pass, and two more of the last block, not of the network."""

    def flops(blocks):
        config = dataclasses.replace(
            data.config, finetune=dataclasses.replace(FINETUNE, blocks=blocks)
        )
        body, frozen = finetune_step.split_layers(data.params, config.encoder, blocks)
        start, batch = finetune_fit._initial_state(config, body), one_batch(data, 6)
        arguments = (
            start["trained"],
            start["optimizer"],
            {"body": frozen, "input": start["best"]["input"]},
            batch,
        )
        return finetune_step.step.lower(*arguments, config).compile().cost_analysis()["flops"]

    assert flops("last") < 0.6 * flops("all")


def test_rates_rise_and_fall_and_differ(data):
    for rate in ("head_learning_rate", "body_learning_rate"):
        config = dataclasses.replace(
            data.config, finetune=dataclasses.replace(FINETUNE, weight_decay=0.0)
        )
        part = rate.removesuffix("_learning_rate")
        params = {"body": {"x": jnp.zeros(1)}, "head": {"x": jnp.zeros(1)}}
        optimizer, sizes = finetune_step.optimizer(config), []
        state = optimizer.init(params)
        for _ in range(FINETUNE.epochs * config.steps):
            updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
            sizes.append(-float(updates[part]["x"][0]))
        peak = getattr(FINETUNE, rate)
        assert max(sizes) == pytest.approx(peak, rel=1e-3)
        assert np.argmax(sizes) == config.steps * FINETUNE.warmup_epochs
        assert sizes[0] == pytest.approx(peak / config.steps, rel=1e-3)
        assert sizes[-1] < 0.2 * peak


def test_a_score_is_the_mean_over_the_crops_that_extraction_draws(data):
    config = dataclasses.replace(
        data.config, finetune=dataclasses.replace(FINETUNE, batch_crops=2)
    )  # 3 crops: 2 + 1.
    body, _ = data.split_layers()
    model = finetune_step.initial_model(config, body)
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(24, 2)) / 50, jnp.float32)
    trained = {"body": model["body"], "head": model["head"] | {"kernel": kernel}}
    one = data.images.take(np.array([1]))
    model = {**trained, "input": model["input"]}
    actual = finetune_fit.score_images(dataclasses.replace(data, config=config), model, one, 2)
    density = stain.optical_density(np.moveaxis(one.pixels[0], 0, -1))
    key = crops.image_key(EXTRACTION.seed, one.names[0])
    draw = jax.jit(
        jax.vmap(lambda number: programs.crop(density, one.sizes[0], key, number, VIEW, EXTRACTION))
    )
    described = np.asarray(
        config.encoder.descriptors({"params": data.params}, draw(jnp.arange(6))), np.float64
    )
    odds = np.exp(described @ np.asarray(kernel, np.float64))
    expected = (odds / odds.sum(axis=1, keepdims=True)).reshape(2, 3, 2).mean(axis=1)
    np.testing.assert_allclose(actual, expected[None], atol=2e-3)


def test_the_epoch_of_the_lowest_validation_loss_is_kept(data, monkeypatch):
    body, _ = data.split_layers()
    progress, losses = finetune_fit._initial_state(data.config, body), iter([0.7, 0.5, 0.6])
    monkeypatch.setattr(
        finetune_fit, "_validation_loss", lambda *arguments: np.float32(next(losses))
    )
    for epoch in range(3):
        head = progress["trained"]["head"] | {"bias": jnp.full(2, float(epoch + 1))}
        progress["trained"] = progress["trained"] | {"head": head}
        progress = finetune_fit._run_epoch(data, progress, [], np.arange(4), epoch)
    np.testing.assert_array_equal(progress["best"]["head"]["bias"], 2)
    np.testing.assert_allclose(progress["losses"], [0.7, 0.5, 0.6], rtol=1e-6)


# The ensemble


def test_a_separable_set_is_learned_and_scores_have_the_form_of_any_ensemble(
    dataset, models, split
):
    ensemble = ensembles.load(models)
    assert (ensemble.learner, ensemble.seeds, ensemble.configurations) == (
        "finetuned",
        2,
        (CONFIGURATION,),
    )
    scores = ensembles.out_of_fold(ensemble, CONFIGURATION)
    assert scores.shape == (2, 18, 2, 2)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-12)
    assert (scores.mean(axis=(0, 2)).argmax(axis=-1) == split.labels).mean() >= 0.8
    assert not (models / CONFIGURATION / finetune._CHECKPOINTS).exists()
    assert [row["models"] for row in ensembles.read_training_times(models)] == ["4"]
    assert not np.array_equal(scores[0], scores[1])


def test_training_again_does_nothing(dataset, models, split):
    assert finetune.train(dataset, models, split, EXTRACTION, FINETUNE) == 0


def model_path(models: Path, seed: int, fold: int) -> Path:
    return ensembles.model_path(models, CONFIGURATION, seed, fold, finetune._LEARNER)


def read_model(path: Path) -> dict:
    return traverse_util.unflatten_dict(dict(np.load(path)), sep="/")


def test_a_saved_model_gives_its_scores_again(models, data, split):
    for fold in range(2):
        path = model_path(models, 1, fold)
        model = read_model(path)
        before = data.params
        assert model["body"].keys() == before.keys()
        kept = {
            layer
            for layer, of in model["body"].items()
            if np.array_equal(of["kernel"], before[layer]["kernel"])
        }
        assert {layer[:6] for layer in before.keys() - kept} == {"block5"}
        assert not any(layer.startswith("block5") for layer in kept)
        images = data.images.take(np.flatnonzero(split.folds == fold))
        again = finetune_fit.score_images(data, model, images, EXTRACTION.augmentations)
        np.testing.assert_array_equal(again, np.load(ensembles.scores_path(path)))


def test_a_saved_model_is_a_file_of_weights_as_any_other(models, data, fields):
    path = model_path(models, 1, 0)
    row = encoders.ENCODERS["VGG"]
    found = weights.load("VGG", path)
    assert read_model(path)["encoder"].keys() == {"VGG"}
    tuned = data.config.encoder.descriptors({"params": read_model(path)["body"]}, fields(40, 40))
    np.testing.assert_allclose(row.descriptors(found, fields(40, 40)), tuned, rtol=1e-5)
    of_file = dataclasses.replace(EXTRACTION, weights=(("VGG", weights.checksum(found)),))
    runtime = Runtime(weight_files=(("VGG", path),))
    encoder_set = loaded_encoders.load_encoders(of_file, runtime)
    assert encoder_set.extraction == of_file
    (made,) = encoder_set.made_with().values()
    assert made["weights"] == {
        "source": "file",
        "sha256": weights.checksum(found),
        "file": path.name,
        "file_sha256": files.sha256(path),
    }
    assert manifests.extraction_of({CONFIGURATION: made}, "m") == of_file
    with pytest.raises(InputError, match="came from a file, which is not named: pass --weights=VG"):
        loaded_encoders.load_encoders(of_file)
    other = Runtime(weight_files=(("VGG", model_path(models, 0, 0)),))
    with pytest.raises(InputError, match="holds other weights of VGG than those asked for"):
        loaded_encoders.load_encoders(of_file, other)
    unknown = Runtime(weight_files=(("ResNet", path),))
    with pytest.raises(InputError, match="--weights names a file for ResNet, expected of the enc"):
        loaded_encoders.load_encoders(of_file, unknown)


def test_scores_do_not_depend_on_the_other_images(models, data):
    model = read_model(model_path(models, 0, 0))
    both = finetune_fit.score_images(data, model, data.images.take(np.array([4, 2])), 2)
    alone = finetune_fit.score_images(data, model, data.images.take(np.array([2])), 2)
    np.testing.assert_array_equal(both[1:], alone)


def test_held_out_images_are_seen_only_to_be_scored(tmp_path, dataset, split, models, monkeypatch):
    """Their pixels and labels changed, the model of the fold stays the same, bit for bit."""
    fold = split.folds == 0
    changed = dataclasses.replace(split, labels=np.where(fold, 1 - split.labels, split.labels))
    read = finetune._read_images

    def spoiled(*arguments):
        images = read(*arguments)
        images.pixels[fold] = 255 - images.pixels[fold]
        return images

    seen, score_images = [], finetune_fit.score_images
    monkeypatch.setattr(finetune, "_read_images", spoiled)
    monkeypatch.setattr(
        finetune_fit,
        "score_images",
        lambda *arguments: (seen.append(set(arguments[2].names)), score_images(*arguments))[1],
    )
    root = prepared(tmp_path / "models", changed)
    finetune.train(dataset, root, changed, EXTRACTION, FINETUNE, keep_checkpoints=True)
    assert (root / CONFIGURATION / finetune._CHECKPOINTS / "seed0-fold01" / "3").is_dir()
    held_out = {name for name, is_held_out in zip(split.names, fold, strict=True) if is_held_out}
    assert not held_out & set().union(
        *seen[:3]
    )  # Three epochs are validated, then the model is judged.
    assert seen[3] == held_out
    names = (model_path(models, 0, 0), model_path(root, 0, 0))
    actual, again = (np.load(name) for name in names)
    for name in actual.files:
        np.testing.assert_array_equal(actual[name], again[name])
    assert not np.array_equal(*(np.load(ensembles.scores_path(name)) for name in names))


def test_training_validation_and_held_out_images_are_apart(split):
    for seed in range(3):
        for fold in range(2):
            fitted, validation = training.validation_split(split, fold, seed, 3)
            assert ((fitted.astype(int) + validation + (split.folds == fold)) == 1).all()
            config = StepConfig(encoders.ENCODERS["VGG"], VIEW, EXTRACTION, FINETUNE, 2, 4)
            places = [
                finetune_fit._draw_crops(config, np.flatnonzero(fitted), seed, fold, epoch)
                for epoch in range(3)
            ]
            for epoch, batches in enumerate(places):
                images, augmentations = (
                    np.concatenate(each) for each in zip(*batches, strict=True)
                )
                assert fitted[images].all()
                assert set(augmentations // FINETUNE.crops_per_epoch) == {epoch}
                drawn = set(zip(images, augmentations, strict=True))
                assert len(drawn) == min(len(images), fitted.sum() * FINETUNE.crops_per_epoch)


# Going on


def test_a_run_that_stops_after_an_epoch_goes_on_to_the_same_model(
    tmp_path, data, bar, monkeypatch
):
    unbroken, losses = finetune_fit.fit(data, 0, 0, tmp_path / "unbroken", bar)
    real = finetune_fit._run_epoch

    def stopping(data, progress, batches, validation, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return real(data, progress, batches, validation, epoch)

    monkeypatch.setattr(finetune_fit, "_run_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        finetune_fit.fit(data, 0, 0, tmp_path / "broken", bar)
    trained = []
    monkeypatch.setattr(
        finetune_fit,
        "_run_epoch",
        lambda *arguments: (trained.append(arguments[-1]), real(*arguments))[1],
    )
    resumed, losses_too = finetune_fit.fit(data, 0, 0, tmp_path / "broken", bar)
    assert trained == [2]
    jax.tree.map(np.testing.assert_array_equal, resumed, unbroken)
    np.testing.assert_array_equal(losses, losses_too)
    assert np.isfinite(losses).all()
    assert not list((tmp_path / "broken").rglob("*.pkl"))


def test_a_damaged_checkpoint_is_named(tmp_path, data, bar):
    finetune_fit.fit(data, 0, 0, tmp_path / "seed0", bar)
    for file in (tmp_path / "seed0" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="remove that folder"):
        finetune_fit.fit(data, 0, 0, tmp_path / "seed0", bar)


def test_a_checkpoint_that_the_disk_has_no_room_for_is_one_error_and_the_earlier_one_stays(
    tmp_path, caplog, monkeypatch
):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    rng = np.random.default_rng(0)
    state = {"a": rng.random(20_000)}
    state |= {f"b{i}": jnp.asarray(rng.random(20_000)) for i in range(30)}
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path / "kept", options=options) as manager:
        finetune_fit._save(manager, 1, state, tmp_path / "kept")
        with limits.file_size(1000), pytest.raises(OSError) as raised:
            finetune_fit._save(manager, 2, state, tmp_path / "kept")
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "kept"))
    assert not caplog.records
    assert not told
    with ocp.CheckpointManager(tmp_path / "kept", options=options) as manager:
        assert manager.latest_step() == 1
        again = finetune_fit._restore(manager, 1, state, tmp_path / "kept")
    np.testing.assert_array_equal(again["a"], state["a"])


# Refusals


def test_other_parameters_images_or_crop_modes_are_refused(tmp_path, dataset, models, split):
    with pytest.raises(InputError, match="parameters.epochs: found 3, expected 5"):
        finetune.train(dataset, models, split, EXTRACTION, dataclasses.replace(FINETUNE, epochs=5))
    with pytest.raises(InputError, match="extraction.protocol.crops: found 3, expected 4"):
        finetune.train(dataset, models, split, dataclasses.replace(EXTRACTION, crops=4), FINETUNE)
    with pytest.raises(InputError, match="crop_mode=hybrid: fine-tuning trains on crops"):
        finetune.train(
            dataset, models, split, dataclasses.replace(EXTRACTION, crop_mode="hybrid"), FINETUNE
        )
    with pytest.raises(InputError, match="--validation_parts"):
        finetune.train(
            dataset, models, split, EXTRACTION, dataclasses.replace(FINETUNE, validation_parts=9)
        )
    others = make_dataset(tmp_path)
    Image.fromarray(samples.tissue(99, 90, 90)).save(others.paths[0])
    changed = f"models of other images: {others.names[0]} changed since"
    with pytest.raises(InputError, match=changed):
        finetune.train(others, models, split, EXTRACTION, FINETUNE)
    recorded = (models / trained_images.TABLE).rename(tmp_path / "recorded")
    try:  # As an earlier version left it.
        with pytest.raises(InputError, match="images_sha256: .* files have changed since"):
            finetune.train(others, models, split, EXTRACTION, FINETUNE)
    finally:
        recorded.rename(models / trained_images.TABLE)


def test_an_image_that_is_replaced_before_it_is_read_is_named(tmp_path, split):
    images = make_dataset(tmp_path).images
    digests = trained_images.digests(images)
    settings = finetune._Settings(images, digests, split, {}, EXTRACTION, FINETUNE, None)
    path = images[split.names[0]]
    Image.fromarray(samples.tissue(99, 300, 300)).save(path)
    with pytest.raises(InputError, match=f"{path.name} .* was replaced while it was in use"):
        finetune._read_images(settings, VIEW)


def test_training_that_diverges_is_refused(tmp_path, data, bar, monkeypatch):
    body, _ = data.split_layers()
    progress = finetune_fit._initial_state(data.config, body)
    progress["trained"]["head"]["kernel"] += np.nan
    after = finetune_fit._run_epoch(data, progress, [], np.arange(4), 0)
    assert after["losses"][0] == np.inf
    monkeypatch.setattr(finetune_fit, "fit", lambda *arguments: (after["best"], after["losses"]))
    with pytest.raises(InputError, match="training diverged: .* lower --head_learning_rate"):
        finetune._fit_and_save(data, tmp_path / "model.npz", 0, 0, bar)
    assert not list(tmp_path.rglob("*.npz"))


# The script, and whole networks


SCRIPT = """
    import runpy
    from tests import narrow
    with narrow.vgg():
        runpy.run_module("experiments.finetune", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_the_script_killed_and_run_again_ends_where_an_unbroken_run_does(tmp_path, dataset):
    table = tmp_path / "table.csv"
    rows = [
        f"{path},{dataset.classes[label]}"
        for path, label in zip(dataset.paths, dataset.labels, strict=True)
    ]
    table.write_text("\n".join(["image,label", *rows]) + "\n")

    def arguments(models):
        return [
            sys.executable,
            "-c",
            textwrap.dedent(SCRIPT),
            f"--data={table}",
            f"--models={models}",
            "--encoders=VGG",
            "--views=0.5-32",
            "--weights=random",
            "--augmentations=2",
            "--crops=2",
            "--folds=2",
            "--batch_crops=6",
            "--crops_per_epoch=2",
            "--epochs=12",
            "--validation_parts=3",
        ]

    def start(models):
        return subprocess.Popen(
            arguments(models),
            cwd=Path(finetune.__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    unbroken, broken = start(tmp_path / "unbroken"), start(tmp_path / "broken")
    first = tmp_path / "broken" / CONFIGURATION / finetune._CHECKPOINTS / "seed0-fold01"
    deadline = time.monotonic() + 120
    while broken.poll() is None and time.monotonic() < deadline and not (first / "2").exists():
        time.sleep(0.005)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.communicate()
    assert not (tmp_path / "broken" / CONFIGURATION / "seed0-fold01.npz").exists(), (
        "killed too late to show anything"
    )
    assert any(first.iterdir())
    again = start(tmp_path / "broken")
    for process in (unbroken, again):
        out, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
        assert "2 models trained, 2 are there" in out
    for name in ("seed0-fold01", "seed0-fold02"):
        for ending in (".npz", ".npy"):
            one, other = (
                tmp_path / side / CONFIGURATION / f"{name}{ending}"
                for side in ("unbroken", "broken")
            )
            assert one.read_bytes() == other.read_bytes()
    assert json.loads((tmp_path / "broken" / "manifest.json").read_text())["learner"] == "finetuned"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("ResNet", 64), ("Inception", 75)])
@pytest.mark.parametrize("blocks", ["last", "all"])
def test_whole_networks_learn_a_batch(dataset, split, name, size, blocks):
    extraction = dataclasses.replace(EXTRACTION, encoders=(name,), views=(View(1.0, size),))
    data = data_of(
        dataset,
        split,
        dataclasses.replace(FINETUNE, blocks=blocks, body_learning_rate=1e-4),
        extraction,
    )
    _, _, _, losses = stepped(data)
    assert losses[1] < losses[0]
