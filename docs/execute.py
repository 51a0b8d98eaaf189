"""Executes the notebooks of docs/notebooks anew, and stores what they print.

python docs/execute.py             all of them; minutes on two cores
python docs/execute.py bundle      one of them

Each runs in an empty folder. tests/test_docs.py tells where code was changed since.
"""

import base64
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

NOTEBOOKS = Path(__file__).parent / "notebooks"
_SECONDS = 900  # For a cell.
_ERASE = "\x1b[2K"  # How a terminal starts a line again, as progress does.
_DRAWN_OVER = re.compile(rf".*{re.escape(_ERASE)}")


def main(names: list[str]) -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            print(f"executing {path.name}", flush=True)
            path.write_text(executed(path.read_text(encoding="utf-8")), encoding="utf-8")


def executed(text: str) -> str:
    """The text of a notebook with new outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell fails.
    """
    import nbformat  # Not above: the tests that only read notebooks need neither.
    from nbclient import NotebookClient

    node = nbformat.reads(text, as_version=4)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            node,
            timeout=_SECONDS,
            coalesce_streams=True,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for output in (output for cell in node.cells for output in cell.get("outputs", [])):
        if output.output_type == "stream":
            output.text = _DRAWN_OVER.sub("", output.text.replace("\r", _ERASE))
        elif "image/png" in output.data:
            output.data["image/png"] = small(output.data["image/png"])
            output.data.pop("image/jpeg", None)  # Pillow's images come in both.
    node.metadata["histojax"] = {"code_sha256": code_sha256(node)}
    return nbformat.writes(node) + "\n"


def small(png: str) -> str:
    """A picture in 128 colours; PNG in base64, as notebooks hold it."""
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").quantize(128).save(smaller, "PNG", optimize=True)
    return base64.b64encode(smaller.getvalue()).decode()


def code_sha256(notebook: dict) -> str:
    """What the outputs are of: the SHA-256 of all code."""
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
