"""The site builds strictly; links, flags and docstrings that README and pages name exist."""

import ast
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from docs import execute
from experiments.__main__ import SCRIPTS
from tests.reliability import torture
from tests.running import ROOT, run

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted(execute.NOTEBOOKS.glob("*.ipynb"))
# The scripts whose flags commands of run.sh take.
RUN_SH = {"crc": ("fetch", "mine"), "bach": ("mine",)} | dict.fromkeys(
    ("docs", "test", "test-slow", "torture"), ()
)
# Whose Python is run by which tests.
RUN_BY = {
    "guide/encoders.md": "encoders/test_foundation.py",
    "guide/python.md": "test_readme.py",
    "extending.md": "test_extending.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("material", reason="needs requirements-docs.txt")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "index.html").read_text()
    assert "The file that histojax bundle wrote".casefold() in reference.casefold()
    page = (tmp_path / "notebooks" / "first-analysis" / "index.html").read_text()
    assert "always answering the same class gives" in page
    addresses = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]*)', page)
    assert addresses == []  # Pages load nothing from other servers.


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) > 15
    for link in local:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in anchors((ROOT / path).read_text()), link


def test_the_readme_is_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 125


def test_figures_of_the_readme_stand_where_they_were_measured():
    text = (ROOT / "README.md").read_text()
    section = re.search(r"## How good, how long.*?(?=^\*\*Not)", text, re.DOTALL | re.MULTILINE)[0]
    measured = (DOCS / "performance.md").read_text()
    sections = [figures_of(part) for part in re.split(r"^##+ ", measured, flags=re.MULTILINE)]
    rows = [figures_of(line) for line in section.splitlines() if line.startswith("| ")]
    assert sum(map(len, rows)) >= 20
    assert [row for row in rows if not any(row <= part for part in sections)] == []


def figures_of(text: str) -> set[str]:
    """Times, shares of images and decimals."""
    return set(re.findall(r"\d+ min \d+ s|\d+ of \d+|\d+\.\d+|\d+ s\b", " ".join(text.split())))


def test_pages_that_code_names_exist():
    named = {}
    for path in [*(ROOT / "histojax").rglob("*"), *(ROOT / "experiments").rglob("*")]:
        if path.suffix in (".py", ".html"):
            for page, anchor in re.findall(
                r"\b((?:docs|third_party)/[\w/-]+\.md)(#[\w-]+)?", path.read_text()
            ):
                named[page, anchor] = name_of(path)
    assert len(named) >= 2
    for (page, anchor), where in named.items():
        assert (ROOT / page).exists(), (where, page)
        assert not anchor or anchor[1:] in anchors((ROOT / page).read_text()), (where, anchor)


@functools.cache
def flags_of(script: str) -> set[str]:
    listed = run(script, "--help").stdout
    return set(re.findall(r"^  --(?:\[no\])?(\w+)", listed, re.MULTILINE)) | {"help"}


def code_of(path: Path) -> list[str]:
    """The blocks of code and the words in backticks of a page, or the cells of a notebook."""
    if path.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    return re.findall(r"```\w*\n(.*?)```|(?<!`)`([^`]+)`(?!`)", path.read_text(), re.DOTALL)


def commands_of(path: Path) -> set[tuple[str, str]]:
    """(script, flag) of each command that a page names; the flag is empty where there is none.

    The script is empty where a flag stands by itself, in backticks.
    """
    blocks = ["".join(block).replace("\\\n", " ") for block in code_of(path)]
    lines = re.findall(
        r"^(?:`|.*; )?(?:histojax|\./run\.sh) ([a-z_-]+)\b(.*)", "\n".join(blocks), re.MULTILINE
    )
    alone = {("", flag) for block in blocks for flag in re.findall(r"^--(\w+)", block)}
    return alone | {
        (script, flag)
        for script, rest in lines
        for flag in re.findall(r"--(\w+)", re.split(r" #|;", rest)[0]) or [""]
    }


def test_commands_of_readme_and_site_name_scripts_and_flags_that_exist():
    named = {
        (script, flag, name_of(path))
        for path in [ROOT / "README.md", *PAGES, *NOTEBOOKS]
        for script, flag in commands_of(path)
    }
    assert len(named) > 100
    others = {"download"} | {option.dest for option in torture.parser()._actions}
    for script, flag, where in sorted(named):
        assert script in {"", *RUN_SH, *SCRIPTS}, (where, script)
        flags = set().union(*map(flags_of, RUN_SH.get(script, (script,)) if script else SCRIPTS))
        assert not flag or flag.removeprefix("no") in flags | others, (where, script, flag)


def test_every_page_with_python_is_run_by_a_test():
    pages = {p.relative_to(DOCS).as_posix() for p in PAGES if "```python" in p.read_text()}
    assert pages == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text()


def test_what_the_reference_shows_has_docstrings():
    griffe = pytest.importorskip("griffe", reason="needs requirements-docs.txt")
    package = griffe.load("histojax", search_paths=[ROOT])
    text = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    shown = re.findall(
        r"^::: histojax\.(\S+)(?:\n    options:\n      members: \[(.*)\])?", text, re.MULTILINE
    )
    assert len(shown) > 25
    for name, members in shown:
        parent = package[name]
        parent = parent.final_target if parent.is_alias else parent
        listed = members.split(", ") if members else list(parent.members)
        shown_members = (
            [parent[member] for member in listed] if parent.is_module or parent.is_class else []
        )
        for item in [parent, *shown_members]:
            if item.is_alias or item.name.startswith("_") or item.is_attribute:
                continue
            assert item.docstring, item.path
            for method in item.members.values() if item.is_class else ():
                if method.is_function and not method.name.startswith("_"):
                    assert method.docstring, method.path


def test_a_page_is_not_made_of_a_failed_cell_or_of_a_picture_without_words():
    pytest.importorskip("mkdocs", reason="needs requirements-docs.txt")
    from docs import hooks

    picture = {"output_type": "display_data", "data": {"image/png": "AAAA"}}
    cell = {"cell_type": "code", "source": ["1"], "metadata": {}, "outputs": [picture]}
    title = {"cell_type": "markdown", "source": ["# Title"]}
    with pytest.raises(ValueError, match="no metadata `alt`"):
        hooks.to_markdown({"cells": [title, cell]}, "a.ipynb")
    page = hooks.to_markdown({"cells": [title, cell | {"metadata": {"alt": "A map"}}]}, "a.ipynb")
    assert page.startswith("# Title\n\n[This page as a notebook](a.ipynb)")
    assert '<img alt="A map" src="data:image/png;base64,AAAA">' in page
    both = {"output_type": "execute_result", "data": {"text/html": "<i>a</i>", "text/plain": "b"}}
    page = hooks.to_markdown({"cells": [title, cell | {"outputs": [both]}]}, "a.ipynb")
    assert '<div class="output"><i>a</i></div>' in page
    failed = {"output_type": "error", "ename": "KeyError", "evalue": "'a'"}
    with pytest.raises(ValueError, match="a cell failed: KeyError: 'a'"):
        hooks.to_markdown({"cells": [title, cell | {"outputs": [failed]}]}, "a.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_of_its_code_small_and_of_no_machine(path):
    notebook = json.loads(path.read_text())
    told = "its code was changed since it was executed: python docs/execute.py " + path.stem
    assert notebook["metadata"]["histojax"]["code_sha256"] == execute.code_sha256(notebook), told
    assert path.stat().st_size < 300_000
    outputs = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    for place in (tempfile.gettempdir(), str(Path.home()), str(ROOT), sys.prefix, "site-packages"):
        assert place not in outputs
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.startswith("%%sh"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("histojax"):
                    assert importlib.util.find_spec(node.module), node.module


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    pytest.importorskip("nbclient", reason="needs requirements-notebooks.txt")
    pytest.importorskip("ipykernel", reason="needs requirements-notebooks.txt")
    again, before = json.loads(execute.executed(path.read_text())), json.loads(path.read_text())
    assert again["metadata"]["histojax"] == before["metadata"]["histojax"]
    kinds = [
        [[o["output_type"] for o in c.get("outputs", [])] for c in n["cells"]]
        for n in (again, before)
    ]
    assert kinds[0] == kinds[1]
