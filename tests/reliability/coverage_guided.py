"""Coverage-guided fuzzing of the parsers of bytes that are our own, by atheris.

./run.sh torture --campaigns=coverage_guided --minutes=20 [--folder=DIR] [--case=tiff:FILE]

Each parser runs in a process of its own for its share of the time, from the samples of
`fuzz_samples`. An input that ends in anything else than a result or a refusal, or takes too long or
too much memory, is kept below the folder. Needs atheris (requirements-fuzz.txt; Linux).
"""

import contextlib
import dataclasses
import importlib.util
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.reliability.torture import Count, Fault, Outcome

# What is to be measured is imported only in the process that measures it, after atheris.
MISSING = "not run, since atheris is not installed: pip install -r requirements-fuzz.txt"
_SECONDS, _MEMORY = 5, 1024  # Of an input, and MiB of the process with what it imports.


@dataclasses.dataclass(frozen=True)
class Parser:
    """A parser of bytes.

    Attributes:
      modules: whose branches guide the search.
      seeds: sound content.
      parse: reads content, which it may also write to the file that it is given.
      refusals: what it may raise; what calls it makes InputErrors of them.
    """

    modules: tuple[str, ...]
    seeds: Callable[[], list[bytes]]
    parse: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = ()


def _contents(function: str, kind: str = "", suffix: str = "") -> list[bytes]:
    """What is in the files of samples, by the start of their kind and the end of their name."""
    from tests.reliability import fuzz_samples, fuzz_trained

    made = (getattr(fuzz_samples, function, None) or getattr(fuzz_trained, function))()
    return [
        content
        for name, sample in made.items()
        for path, content in sample.items()
        if name.startswith(kind) and path.endswith(suffix)
    ]


def _data_pickles() -> list[bytes]:
    import io
    import zipfile

    (content,) = _contents("weight_files", "pytorch")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def _tiff(content: bytes, path: Path) -> None:
    from histojax.images import tiff

    path.write_bytes(content)
    with tiff.open_page(path) as page:
        height, width = min(page.imagelength, 64), min(page.imagewidth, 64)
        tiff.window_reader(page, path)(0, 0, height, width)
        tiff.coarser_levels(page, path)


def _tensor_pickle(content: bytes, _: Path) -> None:
    from histojax.utils.array_files import tensor_pickle

    tensor_pickle.tensors(tensor_pickle.interpret(content))


def _arrays(content: bytes, path: Path) -> None:
    from histojax.utils import array_files

    path.write_bytes(content)
    with array_files.open_arrays(path) as (_, arrays):
        for array in arrays.values():
            array.load()


def _paper_folds(content: bytes, path: Path) -> None:
    from histojax.config import BACH_CLASSES
    from histojax.datasets import Dataset, paper_folds

    names = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in (1, 2, 3))
    labels = tuple(i // 3 for i in range(12))
    path.write_bytes(content)
    paper_folds.load(path, Dataset(dict.fromkeys(names, path), labels, BACH_CLASSES))


def _npy(content: bytes, path: Path) -> None:
    from histojax.utils.array_files import npz

    npz.read_array(content)


def _sealed(content: bytes, path: Path) -> None:
    from histojax.prediction import bundle
    from histojax.utils import archive

    path.write_bytes(content)
    with archive.open_verified(path, bundle.KIND, bundle.FORMAT_VERSION) as opened:
        for name in opened.names:
            opened.read(name)


def _sheet(content: bytes, path: Path) -> None:
    from histojax.datasets import sheets

    path = path.with_suffix(".csv")
    path.write_bytes(content)
    sheets.read(path)


def _feature_table(content: bytes, path: Path) -> None:
    from histojax.features import tables

    path.write_bytes(content)
    tables.read(path)


def _trees(content: bytes, _: Path) -> None:
    from histojax.learners import trees

    trees.parse(content, "a model")


def _xgboost(content: bytes, _: Path) -> None:
    from histojax.learners import xgboost_trees

    xgboost_trees.parse(content, "a model")


def _zip(content: bytes, path: Path) -> None:
    import zipfile

    from histojax.utils import zips

    path.write_bytes(content)
    root = zips.open_zip(path, "copy it again").root
    for name in filter(lambda name: not name.endswith("/"), root.namelist()):
        zips.Member(zipfile.Path(root, name), 2**20, "copy it again").read_bytes()


PARSERS = {
    "tiff": Parser(
        ("histojax.images.tiff", "histojax.images.tiff_segments"),
        lambda: _contents("images", "tiff"),
        _tiff,
    ),
    "tensor_pickle": Parser(
        ("histojax.utils.array_files.tensor_pickle", "pickletools"),
        _data_pickles,
        _tensor_pickle,
        (ValueError, IndexError, KeyError, TypeError),
    ),
    "array_files": Parser(
        ("histojax.utils.array_files",), lambda: _contents("weight_files"), _arrays
    ),
    "paper_folds": Parser(
        ("histojax.datasets.paper_folds", "pickletools"),
        lambda: _contents("paper_folds"),
        _paper_folds,
    ),
    "npy": Parser(
        ("histojax.utils.array_files.npz",),
        lambda: _contents("feature_files", "npy"),
        _npy,
        (ValueError, TypeError),
    ),
    "archive": Parser(("histojax.utils.archive",), lambda: _contents("bundles"), _sealed),
    "zips": Parser(("histojax.utils.zips",), lambda: _contents("published_zips"), _zip),
    "sheets": Parser(
        ("histojax.datasets.sheets", "histojax.utils.files"),
        lambda: _contents("tables", suffix=".csv"),
        _sheet,
    ),
    "feature_tables": Parser(
        ("histojax.features.tables",), lambda: _contents("feature_files", "csv"), _feature_table
    ),
    "trees": Parser(
        ("histojax.learners.tree_text",), lambda: _contents("model_files", "trees"), _trees
    ),
    "xgboost": Parser(
        ("histojax.learners.xgboost_json",), lambda: _contents("model_files", "xgboost"), _xgboost
    ),
}


def campaign(seed: int, minutes: float, folder: Path, case: str | None) -> Outcome:
    """Every parser for its share of the time; a case is a parser and an input's file: tiff:FILE."""
    if importlib.util.find_spec("atheris") is None:
        return Outcome((Count(MISSING, 0),), cannot_run=True)
    folder = folder.resolve()
    if case:
        name, _, path = case.partition(":")
        return Outcome((_run(name, folder, [str(Path(path).resolve())]),))
    seconds = max(1, round(60 * minutes / len(PARSERS)))
    time_limit = [f"-max_total_time={seconds}", f"-seed={seed + 1}"]
    counts = []
    for name, parser in PARSERS.items():
        corpus = folder / name / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(parser.seeds()):
            (corpus / f"seed{i}").write_bytes(content)
        counts.append(_run(name, folder, [*time_limit, str(corpus)]))
    return Outcome(tuple(counts))


def _run(name: str, folder: Path, options: list[str]) -> Count:
    """Runs a parser in a process of its own, and reads what libFuzzer says at its end."""
    found = folder / name
    found.mkdir(parents=True, exist_ok=True)
    earlier = {*found.glob("*-*")}
    command = [sys.executable, "-m", "tests.reliability.coverage_guided", name, str(found)]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True)
    said = done.stderr
    numbers = dict(re.findall(r"stat::(\w+):\s+(\d+)", said))
    covered = re.findall(r"cov: (\d+)", said)[-1:] or ["0"]
    artifacts = sorted({*found.glob("*-*")} - earlier)
    faults = [Fault(f"{name}:{path}", said[-2000:]) for path in artifacts]
    if done.returncode and not faults:
        faults = [Fault(f"{name}:{options[-1]}", said[-2000:])]
    text = f"{name}: {covered[0]} branches, {numbers.get('peak_rss_mb', '?')} MiB"
    tried = int(numbers.get("number_of_executed_units", 0))
    return Count(text, tried, None, tuple(faults))


def _fuzz(name: str, folder: Path, options: list[str]) -> None:
    """Runs atheris on a parser in this process, which it ends."""
    import atheris

    parser = PARSERS[name]
    with atheris.instrument_imports(include=list(parser.modules)):
        for module in parser.modules:
            importlib.import_module(module)
    from histojax.errors import InputError

    warnings.simplefilter("ignore")
    refusals = (InputError, *parser.refusals)
    with tempfile.TemporaryDirectory() as place:

        def one_input(content: bytes) -> None:
            with contextlib.suppress(*refusals):
                parser.parse(content, Path(place) / "input")

        one_input(b"")  # What is imported then would take too long for an input.
        limits = [f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEMORY}", "-max_len=65536"]
        shown = [f"-artifact_prefix={folder}/", "-print_final_stats=1"]
        atheris.Setup([name, *limits, *shown, *options], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
