"""Each engine runs where the other's libraries are missing.

Which way imports go is held by import-linter's contracts in pyproject.toml: `lint-imports`.
"""

import subprocess
import textwrap

import numpy as np
from PIL import Image

from tests.running import python


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
    return python("-c", program)


def test_extraction_runs_with_nothing_but_jax_flax_numpy_scikit_image_absl_and_h5py(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    Image.fromarray(rng.integers(60, 255, (80, 90, 3), dtype=np.uint8)).save(
        tmp_path / "images" / "a.png"
    )
    code = f"""
        sys.argv = ["extract", "--images={tmp_path}/images", "--descriptors={tmp_path}/out",
                    "--weights=random", "--encoders=VGG", "--views=1.0-64", "--augmentations=2",
                    "--crops=2"]
        import runpy
        runpy.run_module("experiments.extract", run_name="__main__")
    """
    # Not optax: flax itself imports it, for its training state.
    done = run_without(
        "lightgbm tensorflow_datasets tensorflow sklearn matplotlib tqdm pandas keras cv2", code
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out" / "VGG-1.0-64" / "a.npy").shape == (2, 1408)


def test_trees_statistics_and_reports_run_where_there_is_no_jax():
    code = """
        import histojax.evaluation.metrics
        import histojax.learners.boost
        import histojax.prediction.predict
        import histojax.report.write
    """
    done = run_without("jax jaxlib flax optax", code)
    assert done.returncode == 0, done.stderr
