"""The house stands: imports only go down, pure functions do no I/O, each engine runs without the other's libraries."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import histojax

ROOT = Path(histojax.__file__).parent

FLOORS = {
    "": 0,
    "config": 0,
    "errors": 0,
    "provenance": 0,
    "files": 0,
    "progress": 0,
    "feeding": 0,
    "resize": 1,
    "stain": 1,
    "crops": 1,
    "pooling": 1,
    "pooling_kernel": 1,
    "operations": 1,
    "encoders": 1,
    "images": 1,
    "tiff": 1,
    "regions": 1,
    "sampling": 1,
    "padded": 1,
    "sealed": 1,
    "store": 1,
    "download": 1,
    "datasets": 1,
    "folds": 1,
    "paper_folds": 1,
    "devices": 1,
    "weights": 2,
    "core": 2,
    "opening": 2,
    "engine": 2,
    "extract": 2,
    "estimate": 3,
    "profiling": 4,
    "roofline": 3,
    "ensembles": 1,
    "boost": 2,
    "boost_cluster": 2,
    "heads": 2,
    "fitting": 2,
    "probe": 2,
    "tuning": 2,
    "finetuned": 2,
    "finetune": 2,
    "scoring": 3,
    "estimator": 3,
    "cases": 3,
    "metrics": 3,
    "intervals": 3,
    "calibration": 3,
    "operating": 3,
    "judgement": 3,
    "comparison": 3,
    "ablation": 3,
    "testset": 3,
    "conformal": 3,
    "typicality": 3,
    "suggestion": 3,
    "looks": 4,
    "findings": 4,
    "listing": 4,
    "inspection": 4,
    "windows": 3,
    "survey": 3,
    "borders": 3,
    "mosaic": 3,
    "doubt": 4,
    "bundle": 5,
    "answers": 5,
    "ledger": 5,
    "maps": 5,
    "overlay": 6,
    "model_card": 6,
    "heatmap": 6,
    "transfer": 6,
    "transfer_report": 6,
    "model": 6,
    "duplicates": 2,
    "audit": 3,
    "evaluation": 4,
    "gallery": 4,
    "report": 5,
    "predict": 6,
}
# Steps within a floor, each the only one of its kind; none of them leads back.
SIDEWAYS = {
    ("config", "errors"),
    ("files", "errors"),
    ("tiff", "images"),
    ("regions", "images"),
    ("regions", "tiff"),
    ("sampling", "images"),
    ("sampling", "regions"),
    ("padded", "sampling"),
    ("padded", "store"),
    ("encoders", "pooling"),
    ("datasets", "images"),
    ("folds", "datasets"),
    ("paper_folds", "datasets"),
    ("paper_folds", "folds"),
    ("ensembles", "folds"),
    ("ensembles", "store"),
    ("boost_cluster", "boost"),
    ("engine", "core"),
    ("extract", "engine"),
    ("extract", "core"),
    ("extract", "opening"),
    ("opening", "core"),
    ("opening", "engine"),
    ("opening", "weights"),
    ("probe", "fitting"),
    ("probe", "heads"),
    ("tuning", "core"),
    ("tuning", "heads"),
    ("finetuned", "tuning"),
    ("finetuned", "extract"),
    ("finetuned", "weights"),
    ("finetune", "finetuned"),
    ("finetune", "tuning"),
    ("finetune", "extract"),
    ("finetune", "opening"),
    ("finetune", "probe"),
    ("finetune", "weights"),
    ("metrics", "cases"),
    ("intervals", "metrics"),
    ("calibration", "cases"),
    ("calibration", "intervals"),
    ("calibration", "metrics"),
    ("operating", "cases"),
    ("operating", "metrics"),
    ("judgement", "calibration"),
    ("judgement", "cases"),
    ("judgement", "intervals"),
    ("judgement", "metrics"),
    ("judgement", "operating"),
    ("comparison", "cases"),
    ("comparison", "intervals"),
    ("comparison", "metrics"),
    ("ablation", "cases"),
    ("ablation", "intervals"),
    ("testset", "cases"),
    ("testset", "scoring"),
    ("conformal", "cases"),
    ("typicality", "conformal"),
    ("survey", "windows"),
    ("borders", "survey"),
    ("borders", "windows"),
    ("mosaic", "borders"),
    ("mosaic", "survey"),
    ("mosaic", "windows"),
    ("looks", "gallery"),
    ("findings", "looks"),
    ("listing", "findings"),
    ("inspection", "findings"),
    ("inspection", "listing"),
    ("inspection", "looks"),
    ("doubt", "evaluation"),
    ("ledger", "answers"),
    ("ledger", "bundle"),
    ("heatmap", "overlay"),
    ("heatmap", "predict"),
    ("transfer_report", "transfer"),
    ("model", "heatmap"),
    ("model", "predict"),
}
PURE = (
    "resize",
    "stain",
    "crops",
    "pooling",
    "pooling_kernel",
    "operations",
    "encoders",
    "core",
    "fitting",
    "tuning",
)
OUTSIDE = (
    "feeding",
    "roofline",
    "images",
    "tiff",
    "regions",
    "sampling",
    "padded",
    "sealed",
    "provenance",
    "conformal",
    "typicality",
    "suggestion",
    "looks",
    "findings",
    "listing",
    "inspection",
    "doubt",
    "bundle",
    "answers",
    "ledger",
    "transfer",
    "transfer_report",
    "model_card",
    "maps",
    "store",
    "download",
    "datasets",
    "folds",
    "paper_folds",
    "duplicates",
    "ensembles",
    "boost",
    "boost_cluster",
    "heads",
    "scoring",
    "estimator",
    "cases",
    "metrics",
    "intervals",
    "calibration",
    "operating",
    "judgement",
    "comparison",
    "ablation",
    "testset",
    "audit",
    "evaluation",
    "report",
)
IO = {"os", "pathlib", "io", "shutil", "time", "random", "absl", "PIL", "h5py"}


def imports(part: str) -> set[str]:
    """Every module that a part of histojax imports, whole names."""
    files = (
        [ROOT / f"{part}.py"]
        if (ROOT / f"{part}.py").exists()
        else sorted((ROOT / part).rglob("*.py"))
    )
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_of(part: str) -> set[str]:
    """The parts of histojax that a part imports, itself left out."""
    ours = {name.split(".")[1] for name in imports(part) if name.startswith("histojax.")}
    return {name if name in FLOORS else "" for name in ours} - {part}


def test_every_part_has_its_floor():
    found = {
        path.stem
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found - {"__init__"} == set(FLOORS) - {""}


@pytest.mark.parametrize("part", [name for name in FLOORS if name])
def test_imports_only_go_down(part):
    up = {
        name
        for name in parts_of(part)
        if FLOORS[name] >= FLOORS[part] and (part, name) not in SIDEWAYS
    } - {""}
    assert not up, f"{part} imports {up} from its own floor or above"


@pytest.mark.parametrize("part", PURE)
def test_pure_functions_do_no_io(part):
    assert not {name.split(".")[0] for name in imports(part)} & IO
    assert not parts_of(part) & {
        "files",
        "progress",
        "images",
        "store",
        "download",
        "datasets",
        "weights",
    }


@pytest.mark.parametrize("part", OUTSIDE)
def test_files_and_trees_do_not_touch_jax(part):
    assert not {name.split(".")[0] for name in imports(part)} & {"jax", "flax", "optax"}


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
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        check=False,
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
