"""One server for the short campaigns, and commands whose inputs other tests have made."""

import contextlib
import shutil

import pytest

from tests.reliability import careless, harness, kills
from tests.reliability.commands import COMMANDS, Command, write_inputs

# What the commands of the short campaigns use, none of which needs JAX.
_MODULES = (
    "histojax.learners.boost",
    "histojax.evaluation.chance",
    "histojax.features.importing",
    "histojax.prediction.predict",
    "h5py",
    "tests.running",
)
_CARELESS = {
    name: Command(f"{careless.__name__}:{name}", ("{out}",))
    for name, function in vars(careless).items()
    if getattr(function, "__module__", "") == careless.__name__ and not name.startswith("_")
}
_CARELESS["reads_twice"] = Command(
    f"{careless.__name__}:reads_twice", ("{out}", "{inputs}/new/new0.png")
)


@pytest.fixture(scope="session")
def bench(tmp_path_factory, trained):
    """Commands of the short campaigns, which are given what `trained` made, and careless ones."""
    folder = tmp_path_factory.mktemp("reliability")
    inputs = folder / "inputs"
    write_inputs(inputs)
    shutil.rmtree(inputs / "images")
    shutil.copytree(trained / "images", inputs / "images")
    shutil.copytree(trained / "descriptors", inputs / "extract" / "descriptors")
    with (
        harness.server(folder / "server", _MODULES) as serving,
        contextlib.closing(kills.Bench(serving, folder, COMMANDS | _CARELESS)) as made,
    ):
        yield made
