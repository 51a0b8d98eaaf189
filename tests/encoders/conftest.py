"""Vision transformers small enough for fast tests, and a cache of Hugging Face's without files."""

import pytest

from histojax import encoders
from tests.encoders import made_vits


@pytest.fixture
def tiny_rows(monkeypatch):
    """Tiny encoders in place of the large ones."""
    table = {name: made_vits.tiny(name) for name in made_vits.LAYOUTS.values()}
    monkeypatch.setattr(encoders, "ENCODERS", {"VGG": encoders.ENCODERS["VGG"]} | table)
    return table


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """Hugging Face's cache, empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"
