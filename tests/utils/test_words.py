"""Words for people."""

from histojax.utils.words import quantity


def test_quantities_have_their_plural():
    assert [quantity(1), quantity(2), quantity(0, "pair")] == ["1 image", "2 images", "0 pairs"]
