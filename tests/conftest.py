"""Strictness for all tests: two CPU devices, no silent rank promotion; where real images are."""

import importlib.metadata
import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"
# What tests run is small: to compile it takes far longer than to run it, so it is compiled with the
# least optimisation, and without XLA's newer way to fuse, which takes a third of all time; but for
# `./run.sh test-slow`, which compiles as users do.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
        # XLA ends a process that has a flag which it does not know, as JAX 0.11's does not this.
        *["--xla_cpu_use_fusion_emitters=false"] * (importlib.metadata.version("jax") < "0.11"),
    ][: 2 if "HISTOJAX_COMPILED_AS_USED" in os.environ else None]
)
os.environ.setdefault("MPLBACKEND", "agg")
# Products and systems in tests are small: more threads than one would mostly wait for each other,
# and they wait busily.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HISTOJAX_CACHE"] = tempfile.mkdtemp(prefix="histojax-test-cache-")
# One cache for pytest-xdist's workers and for all that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="histojax-test-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import fcntl
import gc
import logging
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

# `histojax` is imported by the fixtures: pytest-xdist starts its workers once this file is read.
jax.config.update("jax_numpy_rank_promotion", "raise")
# A shell lets its background jobs ignore Ctrl-C, and what they start does so too.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"


# The files that take longest, which come first, so that no worker is left with one at the end.
LONGEST = (
    "extraction/test_extract.py",
    "test_guide.py",
    "extraction/test_programs.py",
    "encoders/test_folding.py",
    "encoders/test_encoders.py",
    "test_scripts.py",
    "learners/test_finetune.py",
    "extraction/test_profiling.py",
    "learners/test_boost_dask.py",
    "test_accelerator.py",
    "test_extending.py",
    "test_browser.py",
    "heatmap/test_sliding_window.py",
    "parity/test_encoders.py",
    "test_package.py",
    "report/test_page.py",
    "report/test_crop_modes.py",
    "test_peers.py",
    "extraction/test_devices.py",
    "learners/test_probe.py",
    "parity/test_real_images.py",
    "report/test_write.py",
    "extraction/test_stain_qc.py",
    "inspection/test_inspection.py",
    "extraction/test_lowering.py",
    "learners/test_boost.py",
    "heatmap/test_script.py",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first; the others stay in order."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish():
    """What is imported stays, so it is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not there")
    return folder


@pytest.fixture(scope="session", autouse=True)
def shipped_style():
    """The style of figures as it is; tests embed fonts in a form whose subsets take no time."""
    from histojax.report import figures

    shipped = dict(figures._STYLE)
    figures._STYLE["pdf.fonttype"] = 3
    return shipped


@pytest.fixture(scope="session", autouse=True)
def optimised_inspection():
    """Inspection's stain step is optimised: it takes longer to run on images than to compile."""
    from histojax.ops import stain

    plain = stain.normalize_with_quality
    optimised = jax.jit(plain, compiler_options={"xla_backend_optimization_level": 1})

    def normalize_with_quality(rgb, valid=None):
        return (plain if valid is None else optimised)(rgb, valid)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stain, "normalize_with_quality", normalize_with_quality)
        yield


@pytest.fixture(scope="module")
def narrow_vgg():
    """VGG-16 with six channels a layer, for a module of tests of what goes on around a network."""
    from tests import narrow

    with narrow.vgg():
        yield


@pytest.fixture(scope="module")
def small_copies():
    """Inspection measures copies of at most 192 px, for modules whose images are no larger."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("histojax.inspection.image_quality.SIDE", 192)
        yield


@pytest.fixture
def in_this_process():
    """Trees are trained here: processes take longer to start than to train them."""
    from tests import samples

    with samples.trees_in_this_process():
        yield


@pytest.fixture
def notices():
    """What absl logs while a test runs."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.fixture(scope="session")
def paths(tmp_path_factory) -> list[Path]:
    """Three small images of tissue, of three sizes, in a folder of their own."""
    from tests import samples

    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"image{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(samples.tissue(i, 130 + 10 * i, 140)).save(file)
    return files


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """What `samples.train_small` makes, of the VGG of `narrow_vgg`; not to be changed.

    It is made once for all workers of pytest-xdist.
    """
    from tests import narrow, samples

    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    made = root.with_suffix(".made")
    with open(root.with_suffix(".lock"), "w") as lock, narrow.vgg():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            samples.train_small(root)
            made.touch()
    return root


@pytest.fixture(scope="session")
def fields():
    """fields(height, width): a reproducible uint8 [1, H, W, 3] with structure at every scale."""

    def make(height: int, width: int) -> np.ndarray:
        rng = np.random.default_rng(height * 10_000 + width)
        coarse = np.kron(
            rng.uniform(0, 200, (height // 16 + 1, width // 16 + 1, 3)), np.ones((16, 16, 1))
        )
        noisy = coarse[:height, :width] + rng.uniform(0, 55, (height, width, 3))
        return noisy.astype(np.uint8)[None]

    return make
