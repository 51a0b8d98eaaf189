"""The numbers of a protocol: presets are valid, and each value that makes no sense is refused."""

import dataclasses
import math

import pytest

from histojax import config
from histojax.config import PRESETS, Extraction, Finetune, Protocol, View
from histojax.errors import InputError
from histojax.extraction import loaded_encoders

PARTS = [field.name for field in dataclasses.fields(Protocol)]


def with_values(part: str, **values: object) -> Protocol:
    """The paper's protocol but for some values of one part."""
    changed = dataclasses.replace(getattr(PRESETS["paper"], part), **values)
    return dataclasses.replace(PRESETS["paper"], **{part: changed})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    config.check(PRESETS[preset])


def test_the_papers_ensembles_have_300_and_600_models():
    assert (PRESETS["paper"].models, PRESETS["paper600"].models) == (300, 600)


@pytest.mark.parametrize("part", [*map(type, vars(Protocol()).values()), config.Runtime])
def test_every_number_has_a_line_of_help_and_an_allowed_default(part):
    named = config.options(part)
    of_flags_elsewhere = {"devices", "weight_files", "own_views"}
    assert set(named) == {field.name for field in dataclasses.fields(part)} - of_flags_elsewhere
    for name, allowed in named.items():
        assert allowed.help[0].isupper()
        assert allowed.help[-1] == "."
        config.check_value(name, getattr(part, name), allowed)


REFUSED = [
    ("extraction", "encoders", (), "empty, expected at least one, none twice"),
    ("extraction", "encoders", ("VGG", "VGG"), "VGG,VGG, expected at least one, none twice"),
    ("extraction", "views", (View(0.5, 400),) * 2, "0.5-400,0.5-400, expected at least one"),
    ("extraction", "augmentations", 0, "0, expected at least 1"),
    ("extraction", "crops", 0, "0, expected at least 1"),
    ("extraction", "gain_low", -0.1, "-0.1, expected at least 0"),
    ("extraction", "gain_low", 1.4, "1.4, expected at most gain_high=1.3"),
    ("extraction", "gain_high", math.inf, "inf, expected a finite number"),
    ("extraction", "gain_high", math.nan, "nan, expected at least 0"),
    ("extraction", "p", 0.9, "0.9, expected at least 1"),
    ("extraction", "seed", -1, "-1, expected 0 to 4294967295"),
    ("extraction", "seed", 2**32, "4294967296, expected 0 to 4294967295"),
    ("extraction", "weights", "cifar", "cifar, expected imagenet or random"),
    ("extraction", "weights_seed", -1, "-1, expected at least 0"),
    ("extraction", "resnet_variant", "torch", "torch, expected keras or keras2018"),
    ("extraction", "crop_mode", "tiled", "tiled, expected exact or hybrid"),
    ("extraction", "crop_layout", "spiral", "spiral, expected random or grid"),
    ("extraction", "pool_crops", 1, "1, expected at least 2"),
    ("extraction", "gain_nodes", 10, "10, expected 2 to 9"),
    ("extraction", "precision", "float8", "float8, expected float32, tf32 or bfloat16"),
    ("extraction", "target_mpp", 0.04, "0.04, expected 0, or 0.05 to 20"),
    ("extraction", "target_mpp", 21.0, "21.0, expected 0, or 0.05 to 20"),
    ("extraction", "most_enlarged", 0.9, "0.9, expected at least 1"),
    *((part, "folds", 1, "1, expected at least 2") for part in PARTS[1:]),
    *((part, "fold_seed", 2**32, "4294967296, expected 0 to 4294967295") for part in PARTS[1:]),
    *((part, "seeds", 0, "0, expected at least 1") for part in PARTS[1:]),
    ("boosting", "rounds", 0, "0, expected at least 1"),
    ("boosting", "learning_rate", 0.0, "0.0, expected above 0"),
    ("boosting", "learning_rate", math.inf, "inf, expected a finite number"),
    ("boosting", "num_leaves", 1, "1, expected 2 to 131072"),
    ("boosting", "num_leaves", 131073, "131073, expected 2 to 131072"),
    ("boosting", "feature_fraction", 0.0, "0.0, expected above 0, at most 1"),
    ("boosting", "bagging_fraction", 1.1, "1.1, expected above 0, at most 1"),
    ("boosting", "bagging_freq", -1, "-1, expected at least 0"),
    ("boosting", "boost", "slow", "slow, expected paper, fast or xgboost"),
    ("probe", "head", "deep", "deep, expected linear or hidden"),
    ("probe", "hidden_units", 0, "0, expected at least 1"),
    ("probe", "learning_rate", -1.0, "-1.0, expected above 0"),
    ("probe", "weight_decay", -1.0, "-1.0, expected at least 0"),
    ("probe", "batch_rows", 0, "0, expected at least 1"),
    ("probe", "epochs", 0, "0, expected at least 1"),
    ("probe", "patience", 0, "0, expected at least 1"),
    ("probe", "validation_parts", 1, "1, expected at least 2"),
    ("finetune", "blocks", "first", "first, expected last or all"),
    ("finetune", "head_learning_rate", 0.0, "0.0, expected above 0"),
    ("finetune", "body_learning_rate", 0.0, "0.0, expected above 0"),
    ("finetune", "weight_decay", math.nan, "nan, expected at least 0"),
    ("finetune", "batch_crops", 0, "0, expected at least 1"),
    ("finetune", "crops_per_epoch", 0, "0, expected at least 1"),
    ("finetune", "warmup_epochs", -1, "-1, expected at least 0"),
    ("finetune", "validation_parts", 1, "1, expected at least 2"),
]


@pytest.mark.parametrize(("part", "name", "value", "message"), REFUSED)
def test_values_that_make_no_sense_are_refused(part, name, value, message):
    with pytest.raises(InputError) as refusal:
        config.check(with_values(part, **{name: value}))
    assert str(refusal.value).startswith(f"--{name} is {message}")


def test_every_bounded_number_is_tried():
    bounded = {(part, name) for part in PARTS for name in config.options(getattr(Protocol, part))}
    unbounded = {"max_depth", "stain_normalizer", "stain_augmentation"}
    tried = {(part, name) for part, name, _, _ in REFUSED} | {("finetune", "epochs")}
    assert {pair for pair in bounded if pair[1] not in unbounded} == tried


def test_learning_rates_rise_before_training_ends():
    finetune = Finetune(epochs=3, warmup_epochs=3)
    with pytest.raises(InputError, match="--epochs is 3, expected above warmup_epochs=3"):
        config.check(Protocol(finetune=finetune))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "encoders",
            ("VGG", "VGG19"),
            "--encoders has 'VGG19', expected of ResNet, Inception, VGG",
        ),
        ("stain_normalizer", "reinhard", "--stain_normalizer has 'reinhard', expected of macenko"),
        ("stain_augmentation", "hsv", "--stain_augmentation has 'hsv', expected of hematoxylin"),
    ],
)
def test_names_that_no_table_has_are_refused_where_the_tables_are_known(name, value, message):
    extraction = dataclasses.replace(Extraction(weights="random"), **{name: value})
    with pytest.raises(InputError, match=message):
        loaded_encoders.load_encoders(extraction)


def test_the_maximum_is_a_norm():
    config.check(with_values("extraction", p=math.inf))


def test_configurations_go_by_encoder_the_papers_first_then_by_view():
    ordered = (
        "ResNet-0.5-400-hybrid",
        "ResNet-0.5-1300",
        "ResNet-1.0-800",
        "VGG-0.5-400",
        "H-optimus-0-0.5-224",
        "H-optimus-0-1.0-96",
        "H-optimus-0-0.25mpp-256",
        "H-optimus-0-0.5mpp-224",
        "Midnight-12k-0.5-224-hybrid",
        "Other-0.5-96",
        "Other-0.5-400",
        "UNI2-h-0.5-224",
        "a-folder",
        "conch_v15-20x-512px-64px_overlap",
        "folder",
        "uni_v1-20x-256px",
    )
    assert config.in_order(reversed(ordered)) == ordered


@pytest.mark.parametrize(
    "name", ["0.5", "x-400", "0-400", "1.5-400", "0.5-0", "0.5-40.5", "0.04mpp-224", "21mpp-224"]
)
def test_names_that_are_no_view_are_refused(name):
    with pytest.raises(InputError, match=f"view '{name}'"):
        View.parse(name)


def test_a_view_in_microns_has_a_name_that_is_read_back():
    view = View.parse("0.5mpp-224")
    assert (view, view.name, view.resolution) == (View(1.0, 224, 0.5), "0.5mpp-224", "0.5mpp")
    assert View.parse("1mpp-96").name == "1.0mpp-96"
    assert View(0.5, 400).resolution == "0.5"
    assert config.split("UNI2-h-0.5mpp-224-hybrid") == ("UNI2-h", view)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop_mode": "hybrid"}, "--crop_layout is grid, expected random, since --crop_mode=hyb"),
        ({"stain_augmentation": "none"}, "--augmentations is 50, expected 1, since nothing is ra"),
        ({"gain_low": 1.0, "gain_high": 1.0}, "--augmentations is 50, expected 1, since nothing"),
        ({"target_mpp": 0.84}, "--target_mpp is 0.84, expected none, since the views state their"),
    ],
)
def test_grids_and_views_in_microns_go_with_some_options_alone(changed, message):
    good = {"crop_layout": "grid", "views": (View(1.0, 224, 0.5),)}
    config.check(with_values("extraction", **good))
    with pytest.raises(InputError, match=message):
        config.check(with_values("extraction", **good, **changed))


def test_each_encoder_takes_all_views_or_its_own():
    views = View(0.5, 400), View(1.0, 224, 0.5)
    extraction = Extraction(encoders=("VGG", "UNI"), views=views)
    assert len(extraction.pairs) == 4
    own = dataclasses.replace(extraction, own_views=(("VGG", views[0]), ("UNI", views[1])))
    assert own.configurations == ("VGG-0.5-400", "UNI-0.5mpp-224")
    assert own.views_of("UNI") == views[1:]
    # A part of the protocol has the pairs of that part.
    assert dataclasses.replace(own, encoders=("UNI",)).configurations == ("UNI-0.5mpp-224",)


def test_values_as_one_types_them():
    assert config.as_text(Extraction.views) == "0.5-400,0.5-650"
    assert config.as_text(Extraction.encoders) == "ResNet,Inception,VGG"
    assert config.as_text(Extraction.p) == "3.0"
