"""Each engine runs where the other's libraries are missing.

Which way imports go is held by import-linter's contracts in pyproject.toml: `lint-imports`.
"""

import subprocess
import sys
import textwrap

import numpy as np
from PIL import Image

from tests.running import ROOT


def run_without(blocked: str, code: str) -> subprocess.CompletedProcess:
    """Runs Python in a process in which the named packages cannot be imported."""
    blocker = f"""
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {blocked.split()!r}:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Blocker())
    """
    program = textwrap.dedent(blocker) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_extraction_runs_with_nothing_but_jax_flax_numpy_scikit_image_absl_and_h5py(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    Image.fromarray(rng.integers(60, 255, (80, 90, 3), dtype=np.uint8)).save(
        tmp_path / "images" / "a.png"
    )
    code = f"""
        sys.argv = ["extract", "--images={tmp_path}/images", "--descriptors={tmp_path}/out", "--weights=random",
                    "--encoders=VGG", "--views=1.0-64", "--augmentations=2", "--crops=2"]
        import runpy
        runpy.run_module("experiments.extract", run_name="__main__")
    """
    blocked = (
        "lightgbm tensorflow_datasets tensorflow sklearn matplotlib optax tqdm pandas keras cv2"
    )
    # flax itself imports optax, where it is installed, for its training state: blocked here with everything else.
    done = run_without(blocked.replace("optax ", ""), code)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out" / "VGG-1.0-64" / "a.npy").shape == (2, 1408)


def test_trees_and_judgement_run_where_there_is_no_jax():
    done = run_without(
        "jax jaxlib flax optax",
        "import histojax.learners.boost, histojax.evaluation.metrics, histojax.report.write, histojax.prediction.predict",
    )
    assert done.returncode == 0, done.stderr
