"""The roofline has every roof and every program of a profile."""

from matplotlib.colors import to_hex

from histojax.report import roofline


def test_the_roofline_shows_every_roof_and_point():
    row = {"views": ["1.0-48", "1.0-64"], "mode": "exact"}
    vgg = {"encoder": "VGG", "precision": "float32"}
    resnet = {"encoder": "ResNet", "precision": "bfloat16"}
    profile = {
        "machine": "a machine",
        "peaks": {
            "float32": {"operations": 2e11, "bytes": 3e10},
            "bfloat16": {"operations": 8e11, "bytes": 3e10},
        },
        "rows": [
            row | vgg | {"intensity": 100.0, "operations_per_second": 1e11},
            row | resnet | {"intensity": 3.0, "operations_per_second": 5e10},
        ],
    }
    figure = roofline.draw_roofline(profile)
    assert figure.get_suptitle() == "a machine"
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == [
        "float32: 0.2 TFLOP/s, 30 GB/s",
        "bfloat16: 0.8 TFLOP/s, 30 GB/s",
        "1  VGG 1.0-48+1.0-64 exact",
        "2  ResNet 1.0-48+1.0-64 exact",
    ]
    float32, bfloat16, one, two = lines.values()
    assert [tuple(line.get_xydata()[0]) for line in (one, two)] == [(100.0, 0.1), (3.0, 0.05)]
    colours = [to_hex(line.get_color()) for line in lines.values()]
    assert colours == [roofline.BLUE, roofline.ORANGE] * 2
    for line, peak in ((float32, 0.2), (bfloat16, 0.8)):
        start, ridge, end = line.get_xydata().tolist()
        assert start[1] / start[0] == ridge[1] / ridge[0] == 0.03
        assert ridge[1] == end[1] == peak
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    figure.draw_without_rendering()
    minor = [*axes.get_xticklabels(minor=True), *axes.get_yticklabels(minor=True)]
    assert not any(label.get_text() for label in minor)  # Mathtext, which would not be parsed.
    # As many as tell the scale of an axis that spans no decade.
    assert {"5", "10", "20", "50"} < {label.get_text() for label in axes.get_xticklabels()}
    assert {"0.2", "0.5"} < {label.get_text() for label in axes.get_yticklabels()}
