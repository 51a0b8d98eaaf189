"""Heads against PyTorch's own AdamW and Adam, and crops against torchvision's, where installed."""

import dataclasses

import jax
import numpy as np
import pytest

from histojax.datasets.bach.published_protocols import PROTOCOLS, Split
from histojax.images.centre_crop import CentreCrop
from histojax.learners import published_heads

N, D, K, EPOCHS = 268, 96, 4, 300

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "kind"), [("eva-bach", "AdamW"), ("thunder-bach", "Adam")])
def test_heads_are_those_that_pytorch_fits_to_the_same_batches(name, kind):
    torch = pytest.importorskip("torch", reason="it is in requirements-bench.txt alone")
    protocol = dataclasses.replace(
        PROTOCOLS[name],
        learning_rates=PROTOCOLS[name].learning_rates[:1],
        weight_decays=(0.01,),
        epochs=EPOCHS,
        patience=EPOCHS,
        seeds=1,
    )
    rng = np.random.default_rng(3)
    labels = rng.integers(0, K, N + 50)
    means = 0.3 * rng.normal(size=(K, D))
    descriptors = (means[labels] + rng.normal(size=(N + 50, D))).astype(np.float32)
    split = Split(np.arange(N), np.arange(N, N + 50), np.arange(0))
    (head,) = published_heads.fit(protocol, split, descriptors, labels, K)
    start_key, order_key = jax.random.split(jax.random.key(0))
    kernel, bias = published_heads._first_head(jax.random.fold_in(start_key, 0), D, K)
    layer = torch.nn.Linear(D, K)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(kernel).T))
        layer.bias.copy_(torch.from_numpy(np.array(bias)))
    optimizer = getattr(torch.optim, kind)(
        layer.parameters(), lr=protocol.learning_rates[0], weight_decay=0.01
    )
    inputs, targets = torch.from_numpy(descriptors), torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), N))
        for start in range(0, N, protocol.batch_rows):
            rows = np.flatnonzero((order >= start) & (order < start + protocol.batch_rows))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    np.testing.assert_allclose(head.last_kernel, layer.weight.detach().numpy().T, atol=1e-5)
    np.testing.assert_allclose(head.last_bias, layer.bias.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("resize_filter", ["bilinear", "bicubic"])
def test_crops_of_a_photos_size_are_those_of_torchvision(resize_filter, fields):
    transforms = pytest.importorskip("torchvision.transforms.v2", reason="it is in no requirements")
    import torch
    from PIL import Image

    (rgb,) = fields(1536, 2048)
    ours = CentreCrop(224, 224, resize_filter)(rgb).astype(int)
    mode = transforms.InterpolationMode(resize_filter)
    crop = transforms.Compose([transforms.Resize(224, mode), transforms.CenterCrop(224)])
    np.testing.assert_array_equal(ours, np.array(crop(Image.fromarray(rgb))))
    tensor = crop(torch.from_numpy(rgb).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    difference = np.abs(ours - tensor)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.005
