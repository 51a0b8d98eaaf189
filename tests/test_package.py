"""Installed, histojax works from any folder, and nothing but `histojax` lands in site-packages."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments.__main__ import SCRIPTS

ROOT = Path(__file__).parents[1]
WITHOUT_GIT = "0.1.0"  # The version of a source tree that git knows nothing of.


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_of_the_tree_is_installed(project):
    below = {"histojax": "histojax", "experiments": "histojax.experiments"}
    packages = {
        ".".join([name, *path.parent.relative_to(ROOT / folder).parts])
        for folder, name in below.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    setuptools = project["tool"]["setuptools"]
    assert sorted(packages) == setuptools["packages"]
    assert setuptools["package-dir"] == {"histojax.experiments": "experiments"}


def test_the_licence_is_apache_2_0(project):
    assert project["project"]["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in licence
    assert "Copyright 2026 The histojax authors" in licence


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that the package is installed in, from a copy of the repository."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("setuptools_scm")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for folder in ("histojax", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, f"--target={target}", str(source)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    return target


def histojax_command(installed: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the console command in a folder of its own, where the repository cannot be imported."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin" / "histojax"), *arguments]
    folder = installed / "elsewhere"
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_but_histojax_lands_in_site_packages(installed):
    names = {path.name for path in installed.iterdir()} - {"bin", "elsewhere"}
    assert names == {"histojax", f"histojax-{WITHOUT_GIT}.dist-info"}
    for part in ("py.typed", "report/templates/report.html", "experiments/peers/keras_models.py"):
        assert (installed / "histojax" / part).exists()
    metadata = (installed / f"histojax-{WITHOUT_GIT}.dist-info" / "METADATA").read_text()
    assert "License-Expression: Apache-2.0" in metadata


def test_the_command_lists_and_runs_scripts_from_any_folder(installed):
    listed = histojax_command(installed)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert all(f"\n  {script} " in listed.stdout for script in SCRIPTS)
    version = histojax_command(installed, "--version")
    assert version.stdout == f"histojax {WITHOUT_GIT}\n"
    usage = histojax_command(installed, "score", "--help")
    assert (usage.returncode, usage.stderr) == (0, "")
    assert "--scores=PATH  (required)" in usage.stdout
    unknown = histojax_command(installed, "scores")
    assert unknown.returncode == 1
    assert "there is no script 'scores'" in unknown.stderr

    rows = [f"image{i},{i % 2},{0.9 - 0.1 * (i % 5)},{0.1 + 0.1 * (i % 5)}" for i in range(20)]
    table = installed / "elsewhere" / "table.csv"
    table.write_text("\n".join(["image,label,p0,p1", *rows]) + "\n")
    scored = histojax_command(
        installed, "score", "--scores=table.csv", "--positive_classes=1", "--out=out"
    )
    assert scored.returncode == 0, scored.stderr
    assert (table.parent / "out" / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_wheel_and_sdist_run_the_demo_in_an_empty_environment(tmp_path, kind):
    pytest.importorskip("build")
    source, home = tmp_path / "source", tmp_path / "home"
    home.mkdir()
    clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(source)]
    subprocess.run(clone, check=True)
    build = [sys.executable, "-m", "build", f"--outdir={tmp_path / 'dist'}", str(source)]
    subprocess.run(build, capture_output=True, check=True)
    shutil.rmtree(source)
    (archive,) = (tmp_path / "dist").glob(kind)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = kept | {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    for command in (["pip", "install", "--quiet", str(archive)], ["histojax", "demo"]):
        done = subprocess.run(
            [str(tmp_path / "empty" / "bin" / command[0]), *command[1:]],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    run = home / "runs" / "demo-random-weights"
    assert (run / "report" / "report.html").exists()
    assert (run / "predictions" / "predictions.csv").exists()
