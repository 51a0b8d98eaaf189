"""What surrounds the code agrees with it: workflows, citation, changelog, promised tests."""

import re
import tomllib

import pytest
import yaml

from tests.running import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")
}


def commands(workflow: str, job: str) -> list[str]:
    return [step["run"] for step in WORKFLOWS[workflow]["jobs"][job]["steps"] if "run" in step]


def test_ci_runs_the_projects_own_commands_on_every_python_it_names():
    tried = WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    named = [name.removeprefix(prefix) for name in PYPROJECT["project"]["classifiers"]]
    assert tried == [name for name in named if re.fullmatch(r"3\.\d+", name)]
    assert PYPROJECT["project"]["requires-python"] == f">={tried[0]}"
    assert commands("ci", "test") == [".ci/run"]
    assert commands("ci", "site") == commands("pages", "publish") == ["./run.sh docs"]
    assert "python -m build" in commands("ci", "build")[0]
    assert (ROOT / ".ci" / "run").exists()
    cases = set(re.findall(r"^  ([\w-]+)\)$", (ROOT / "run.sh").read_text(), re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    used = {name for page in pages for name in re.findall(r"\./run\.sh ([\w-]+)", page.read_text())}
    assert len(used) > 5
    assert {"docs", *used} <= cases


def test_the_help_of_run_sh_is_printed_whole():
    lines = (ROOT / "run.sh").read_text().splitlines()
    first, last = map(int, re.search(r"sed -n '(\d+),(\d+)s", "\n".join(lines)).groups())
    assert all(line.startswith("# ") for line in lines[first - 1 : last])
    assert not lines[last].startswith("#")


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PYPROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Rakhlin", "Shvets", "Iglovikov", "Kalinin")
    ]


def test_the_changelog_keeps_its_form():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name) for name in headings[1:])


@pytest.mark.parametrize("name", ["CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY"])
def test_the_files_and_tests_that_are_named_exist(name):
    text = (ROOT / f"{name}.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    tests = re.findall(r"tests/[\w/]+(?:\.py)?", text)
    assert [path for path in links + tests if not (ROOT / path).exists()] == []
    assert name != "SECURITY" or len(tests) >= 8


def test_every_promise_of_security_has_a_test():
    table = (ROOT / "SECURITY.md").read_text().split("## What is promised")[1].split("\n## ")[0]
    rows = [line.strip("|").rsplit("|", 1) for line in table.splitlines() if line.startswith("| ")]
    promises = dict(rows[1:])
    assert len(promises) >= 13
    for promise, command in promises.items():
        assert re.search(r"`[^`]*tests/[\w/]+(\.py)?", command), promise
    named = re.findall(r"tests/[\w/]+\.py", table)
    assert all("def test_" in (ROOT / path).read_text() for path in named)
