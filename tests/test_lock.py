"""requirements.lock: every package of the tests, one version for each Python, by its hashes."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11.7", "3.12.0", "3.13.0")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}


def inputs(name: str = "requirements-test.txt") -> list[str]:
    """The file of requirements and those that it names, each once."""
    names = [name]
    for other in re.findall(r"(?m)^-r (\S+)", (ROOT / name).read_text()):
        names += [found for found in inputs(other) if found not in names]
    return names


def required() -> list[Requirement]:
    """What the tests and the build of the package need."""
    lines = [line for name in inputs() for line in (ROOT / name).read_text().splitlines()]
    lines += tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def locked() -> list[tuple[Requirement, list[str]]]:
    """The entries of the lock, with their hashes."""
    text = re.sub(r"(?m)^#.*\n", "", LOCK.read_text())
    entries = [entry.split() for entry in text.replace("\\\n", "").splitlines()]
    return [
        (
            Requirement(" ".join(part for part in parts if not part.startswith("--"))),
            [part for part in parts if part.startswith("--")],
        )
        for parts in entries
    ]


def test_the_lock_is_made_of_the_requirements_as_they_are():
    names = inputs()
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names)).hexdigest()
    made_of = LOCK.read_text().splitlines()[1:3]
    assert made_of == [f"# Made of {' '.join(names)}, of SHA-256", f"# {digest}"], (
        "the requirements have changed since requirements.lock was made: ./run.sh lock"
    )


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_each_requirement_has_one_version_that_fits(python, system):
    environment = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
    }

    def applies(one: Requirement) -> bool:
        return one.marker is None or one.marker.evaluate(environment)

    versions = {}
    for one in (one for one, _ in locked() if applies(one)):
        assert one.name.lower() not in versions
        (exact,) = one.specifier
        assert exact.operator == "=="
        versions[one.name.lower()] = exact.version
    for one in filter(applies, required()):
        name = re.sub("[-_.]+", "-", one.name.lower())
        assert one.specifier.contains(versions[name], prereleases=False), (one, versions[name])


def test_each_entry_has_hashes_and_no_source_of_its_own():
    entries = locked()
    assert len(entries) > 140
    for one, hashes in entries:
        assert one.url is None
        assert hashes
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in hashes), one
    assert not {"torch", "torchvision"} & {one.name for one, _ in entries}


def test_ci_installs_the_lock_alone():
    assert re.search("(?m)^LOCKED=1 ./run.sh test$", (ROOT / ".ci" / "run").read_text())
    script = (ROOT / "run.sh").read_text()
    branch = script[script.index("if [[ $1 == *.lock ]]") : script.index("  else\n")]
    installs = [line for line in branch.splitlines() if '"${pip[@]}"' in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert all("--no-build-isolation" in line for line in installs[1:])
