"""The command `histojax`: runs a script by its name, or lists all; also python -m experiments."""

import ast
import difflib
import importlib
import sys
from pathlib import Path

import histojax

from . import runner

# In the order in which one uses them.
SCRIPTS = (
    "demo",
    "mine",
    "fetch",
    "inspect_data",
    "encoders",
    "inspect_weights",
    "build_bach",
    "extract",
    "import_descriptors",
    "export_descriptors",
    "train",
    "probe",
    "finetune",
    "evaluate",
    "bundle",
    "predict",
    "heatmap",
    "score",
    "compare",
    "audit",
    "leave_groups_out",
    "compare_encoders",
    "ablate_stain",
    "published",
    "compare_crop_modes",
    "accelerator",
    "profile_encoders",
    "benchmark_boost",
    "benchmark_peers",
)


def main() -> None:
    """Runs `histojax SCRIPT FLAGS`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-help", "-h", "help"):
        print(overview())
    elif name == "--version":
        print(f"histojax {histojax.__version__}")
    elif name in SCRIPTS:
        script = importlib.import_module(f"{__package__}.{name}")
        positional = getattr(script, "POSITIONAL", ())
        runner.run(script.main, script.__doc__, positional, [name, *arguments])
    else:
        close = difflib.get_close_matches(name, SCRIPTS, 1)
        advice = f": did you mean {close[0]}?" if close else ""
        sys.exit(f"error: there is no script {name!r}{advice}\n\n{overview()}")


def overview() -> str:
    """All scripts with a line each."""
    lines = [f"  {name:18} {summary(name)}" for name in SCRIPTS]
    return "\n".join(
        [
            "usage: histojax SCRIPT --flag=value ...",
            "",
            *lines,
            "",
            "histojax SCRIPT --help says what a script does and what flags it has.",
        ]
    )


def summary(name: str) -> str:
    """The first line of a script's help; the script is not imported, which can take seconds."""
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree).splitlines()[0]


if __name__ == "__main__":
    main()
