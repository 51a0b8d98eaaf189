"""The command lines of a report are complete, and have only flags that exist."""

import dataclasses
import shlex

from histojax.config import Boosting, Extraction
from histojax.learners import ensembles
from histojax.report import commands
from tests.report import sample_ensemble
from tests.running import run


def test_the_command_lines_make_the_report_again(tmp_path):
    root = tmp_path / "with a blank"
    configurations = ("ResNet-0.5-400", "ResNet-1.0-800", "VGG-0.5-400", "VGG-1.0-800")
    ensemble = ensembles.load(sample_ensemble.write(root, configurations=configurations))
    made = commands.command_lines(ensemble, tmp_path, None, None, ("InSitu",), 0.9)
    extract, copy, train, evaluate = (shlex.split(command.line) for command in made)
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in extract[2:])
    expected = {"encoders": "ResNet,VGG", "views": "0.5-400,1.0-800", "data": "DATA"}
    expected |= {"augmentations": "50", "crops": "20", "p": "3.0", "weights": "imagenet"}
    assert expected.items() <= flags.items()
    fields = {field.name for field in dataclasses.fields(Extraction)}
    assert set(flags) - {"data", "descriptors"} <= fields
    assert str(root / "folds.csv") in copy
    boosting = dataclasses.asdict(Boosting(seeds=2))
    assert {f"--{name}={value}" for name, value in boosting.items()} <= set(train)
    expected = {f"--models={root}", "--positive_classes=InSitu", "--sensitivity=0.9"}
    assert expected <= set(evaluate)


def test_weights_are_named_as_they_were_passed(tmp_path):
    """An encoder with a file of its own has a run of its own, into the same folder."""
    configurations = ("ResNet-0.5-400", "VGG-0.5-400", "VGG-1.0-800")
    ensemble = ensembles.load(sample_ensemble.write(tmp_path, configurations=configurations))
    file = {"source": "file", "sha256": "ab", "file": "my vgg.pth", "file_sha256": "cd"}
    extractions = {
        name: made | {"weights": file} if name.startswith("VGG") else made
        for name, made in ensemble.extractions.items()
    }
    ensemble = dataclasses.replace(ensemble, extractions=extractions)
    made = commands.command_lines(ensemble, tmp_path, None, None, (), 0.9)
    runs = [shlex.split(command.line) for command in made if "histojax extract" in command.line]
    weights = [[flag for flag in run if flag.startswith("--weights")] for run in runs]
    assert weights == [["--weights=imagenet"], ["--weights=VGG=my vgg.pth"]]
    assert "--encoders=VGG" in runs[1]
    assert "--views=0.5-400,1.0-800" in runs[1]


def test_a_module_of_a_user_is_named_in_place_of_its_encoder(tmp_path):
    configurations = ("ResNet-0.5-400", "VGG-0.5-400")
    ensemble = ensembles.load(sample_ensemble.write(tmp_path, configurations=configurations))
    module = {"reference": "net.py:ENCODER", "file_sha256": "ab", "code_sha256": "cd"}
    made = ensemble.extractions["VGG-0.5-400"] | {"module": module}
    extractions = ensemble.extractions | {"VGG-0.5-400": made}
    ensemble = dataclasses.replace(ensemble, extractions=extractions)
    extract = commands.command_lines(ensemble, tmp_path, None, None, (), 0.9)[0]
    assert "--encoders=ResNet,net.py:ENCODER" in shlex.split(extract.line)


def test_views_in_microns_are_named_and_what_encoders_decide_is_not(tmp_path):
    ensemble = ensembles.load(sample_ensemble.write(tmp_path, configurations=("UNI-0.5mpp-224",)))
    (made,) = ensemble.extractions.values()
    protocol = {"encoder": "UNI", "scale": 1.0, "crop_size": 224, "mpp": 0.5, "crop_layout": "grid"}
    made = made | {"protocol": protocol | {"recipe": {"input_size": 224}}}
    ensemble = dataclasses.replace(ensemble, extractions={"UNI-0.5mpp-224": made})
    extract = commands.command_lines(ensemble, tmp_path, None, None, (), 0.9)[0]
    flags = shlex.split(extract.line)
    assert {"--encoders=UNI", "--views=0.5mpp-224", "--crop_layout=grid"} <= {*flags}
    assert not any(flag.startswith(("--recipe", "--mpp", "--crops=")) for flag in flags)


def test_the_command_takes_the_flags_that_the_report_names():
    text = run("evaluate", "--help").stdout
    flags = ("models", "report", "data", "descriptors", "sensitivity")
    assert all(f"--{flag}=" in text for flag in flags)
