"""Notebooks as pages of the site: what mkdocs.yml calls before it builds.

A notebook of docs/notebooks becomes a Markdown page with its code and its stored outputs, so that
links in it are checked like all others, and it looks like any other page. Nothing is executed here;
docs/execute.py does that.
"""

import json
from pathlib import Path

from mkdocs.structure.files import File


def on_files(files, config):
    """Adds a page for each notebook, which is itself a file to download."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = Path(notebook.abs_src_path)
        page = to_markdown(json.loads(path.read_text(encoding="utf-8")), path.name)
        name = notebook.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, name, content=page))
    return files


def to_markdown(notebook: dict, name: str) -> str:
    """A notebook, version 4 of the format, as a page that begins with its first cell."""
    first, *cells = notebook["cells"]
    parts = ["".join(first["source"]), f"[This page as a notebook]({name}){{ download }}"]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(_fenced(source, "python"))
            alternative = cell["metadata"].get("alt")
            parts.extend(_output(output, alternative) for output in cell["outputs"])
    return "\n\n".join(parts) + "\n"


def _output(output: dict, alternative: str | None) -> str:
    """Of several forms of an output, the richest; `alternative` is the text of a picture."""
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]), "text")
    if output["output_type"] == "error":
        raise ValueError(f"a cell failed: {output['ename']}: {output['evalue']}")
    data = output["data"]
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "image/png" in data:
        if not alternative:
            raise ValueError("a cell with a picture has no metadata `alt`, a text in its place")
        return f'<img alt="{alternative}" src="data:image/png;base64,{data["image/png"].strip()}">'
    return _fenced("".join(data["text/plain"]), "text")


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"
