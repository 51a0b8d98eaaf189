"""What is typed to what is parsed: --run, warnings, and the name of a file that fails."""

import errno
import logging

import pytest

from experiments import command_line, log
from experiments.__main__ import SCRIPTS
from histojax.utils import files


def typed(script: str, *arguments: str) -> list[str]:
    return command_line.normal(script, arguments, ())


def test_run_stands_for_the_paths_that_are_not_passed():
    assert typed("train", "--run=runs/mine/", "--models=M") == [
        "--run=runs/mine/",
        "--models=M",
        "--descriptors=runs/mine/descriptors",
    ]
    bundle = "--bundle=gs://b/r/bundle.histojax"
    assert typed("heatmap", "--run=gs://b/r")[1:] == [bundle, "--out=gs://b/r/heatmaps"]
    assert typed("predict", "--run=R", "--models=M")[2:] == ["--out=R/predictions"]
    assert typed("train", "--models=M") == ["--models=M"]
    assert set(command_line.RUN) < set(SCRIPTS)


def test_warnings_are_a_line_each_and_many_of_a_kind_are_counted(capsys):
    with log.plain():
        for i in range(5):
            logging.getLogger("absl").warning("image%d.png is grey: converted", i)
        logging.getLogger("absl").warning("once")
    *lines, last = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if "flag parsing" not in line]
    assert lines == [
        "warning: image0.png is grey: converted",
        "warning: image1.png is grey: converted",
        "warning: image2.png is grey: converted",
        "warning: once",
    ]
    assert last.startswith("warning: 2 more like it: image")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("1024 requested and 512 written"), "512 written"),
    ],
)
def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path, error, cause):
    with pytest.raises(OSError, match=cause) as raised, files.atomic_write(tmp_path / "a.npy"):
        raise error
    assert raised.value.filename == str(tmp_path / "a.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told_by_the_name_of_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as raised:
        files.write_text(tmp_path / "folder", "text")
    assert str(raised.value.filename).endswith("folder")
