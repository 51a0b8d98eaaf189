"""What is typed to what is parsed: --run, warnings, and the name of a file that fails."""

import contextlib
import errno
import functools
import logging
import sys

import lightgbm
import pytest
from absl import logging as absl_logging
from PIL import Image

from experiments import command_line, log, protocol, runner
from experiments.__main__ import SCRIPTS
from histojax.config import View
from histojax.errors import InputError
from histojax.utils import files


@contextlib.contextmanager
def parsed(*arguments: str):
    """The flags of an extraction, parsed."""
    known = set(protocol.FLAGS)
    protocol.define_preset("extraction")
    try:
        protocol.FLAGS(["script", *arguments])
        yield functools.partial(protocol.from_flags, "extraction")
    finally:
        for name in set(protocol.FLAGS) - known:
            delattr(protocol.FLAGS, name)


def typed(script: str, *arguments: str) -> list[str]:
    return command_line.normal(script, arguments, ())


def test_run_stands_for_the_paths_that_are_not_passed():
    assert typed("train", "--run=runs/mine/", "--models=M") == [
        "--run=runs/mine/",
        "--models=M",
        "--descriptors=runs/mine/descriptors",
    ]
    bundle = "--bundle=gs://b/r/bundle.histojax"
    predictions = "--predictions=gs://b/r/predictions"
    assert typed("heatmap", "--run=gs://b/r")[1:] == [
        bundle,
        predictions,
        "--out=gs://b/r/heatmaps",
    ]
    assert typed("predict", "--run=R", "--models=M")[2:] == ["--out=R/predictions"]
    assert typed("train", "--models=M") == ["--models=M"]
    assert set(command_line.RUN) < set(SCRIPTS)


def test_warnings_are_a_line_each_and_many_of_a_kind_are_counted(capsys, monkeypatch):
    handler = absl_logging.get_absl_handler().python_handler
    monkeypatch.setattr(handler, "stream", sys.stderr)
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
    assert last == "warning: 2 more like it: image....png is grey: converted"


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


@pytest.mark.parametrize(
    ("mpp", "flags", "views", "target"),
    [
        (None, [], (View(0.5, 192), View(0.5, 320)), 0),
        (0.84, [], (View(0.5, 400), View(0.5, 650)), 0.84),
        (0.84, ["--target_mpp=0"], (View(0.5, 192), View(0.5, 320)), 0),
    ],
)
def test_views_auto_are_those_that_suit_the_images_and_are_told(
    tmp_path, capsys, mpp, flags, views, target
):
    Image.new("RGB", (896, 768)).save(tmp_path / "a.png")
    with parsed("--views=Auto", *flags) as from_flags:
        chosen = from_flags(suit=protocol.suited_to([tmp_path / "a.png"], mpp)).extraction
    assert (chosen.views, chosen.target_mpp) == (views, target)
    told = capsys.readouterr().out
    assert told.startswith(f"views: {views[0].name},{views[1].name}")
    assert ("--target_mpp=0.84" in told) == bool(target)


def test_views_auto_needs_images_and_is_refused_where_no_crop_fits(tmp_path):
    Image.new("RGB", (90, 80)).save(tmp_path / "a.png")
    with parsed("--views=auto") as from_flags:
        with pytest.raises(InputError, match="name the views"):
            from_flags()
        with pytest.raises(InputError, match="No view fits: the smallest image has 90 x 80 px"):
            from_flags(suit=protocol.suited_to([tmp_path / "a.png"], None))


@pytest.mark.parametrize(
    ("flags", "configurations"),
    [
        (["--encoders=UNI", "--views=native"], ["UNI-0.5mpp-224"]),
        (["--encoders=UNI,GigaPath", "--views=Native"], ["UNI-0.5mpp-224", "GigaPath-0.5mpp-256"]),
        (["--encoders=UNI", "--views=0.25mpp-448"], ["UNI-0.25mpp-448"]),
        (["--encoders=UNI", "--views=0.5-400"], ["UNI-0.5-400"]),
    ],
)
def test_views_in_microns_and_native_ones(flags, configurations):
    with parsed(*flags) as from_flags:
        assert list(from_flags().extraction.configurations) == configurations


def test_views_auto_are_native_where_encoders_have_them(tmp_path, capsys):
    Image.new("RGB", (896, 768)).save(tmp_path / "a.png")
    with parsed("--encoders=UNI,VGG", "--views=auto") as from_flags:
        chosen = from_flags(suit=protocol.suited_to([tmp_path / "a.png"], 0.84)).extraction
    assert chosen.configurations == ("UNI-0.5mpp-224", "VGG-0.5-400", "VGG-0.5-650")
    assert chosen.target_mpp == 0.84
    assert capsys.readouterr().out.startswith("native views: UNI 0.5mpp-224\nviews: 0.5-400,0.5-")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoders=UNI,VGG,ResNet", "--views=native"], "VGG, ResNet have no native view"),
        (
            ["--encoders=UNI"],
            "which views.*UNI 0.5mpp-224. Pass --views=native, or --views=0.5-400",
        ),
        (["--stain=none", "--stain_normalizer=macenko"], "--stain=none sets --stain_normalizer=no"),
        (["--views=0.5mpp-224", "--target_mpp=0.84"], "--target_mpp is 0.84, expected none"),
        (["--views=0.5um-224"], "MICRONSmpp-CROPSIZE, such as 0.5-400 or 0.5mpp-224"),
    ],
)
def test_views_and_stains_that_cannot_be_are_refused(flags, message):
    with pytest.raises(InputError, match=message), parsed(*flags) as from_flags:
        from_flags()


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ([], ("macenko", "hematoxylin_eosin")),
        (["--stain=both"], ("macenko", "hematoxylin_eosin")),
        (["--stain=none"], ("none", "none")),
        (["--stain=normalise"], ("macenko", "none")),
        (["--stain=augment", "--stain_normalizer=none"], ("none", "hematoxylin_eosin")),
    ],
)
def test_stain_steps_have_one_word(flags, steps):
    with parsed(*flags) as from_flags:
        chosen = from_flags().extraction
    assert (chosen.stain_normalizer, chosen.stain_augmentation) == steps


def test_the_number_of_crops_is_refused_where_a_grid_decides_it():
    with parsed("--crop_layout=grid", "--crops=5") as from_flags:
        chosen = from_flags().extraction
        with pytest.raises(InputError, match="--crops does nothing with --crop_layout=grid"):
            protocol.refuse_idle(chosen)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
        lightgbm.basic.LightGBMError("std::bad_alloc"),
        ImportError("a.so: failed to map segment from shared object"),
        ImportError("libb.so: cannot open shared object file: Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_one_message_whoever_has_it(error):
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        runner.run(main, "A script.", arguments=["script"])
    assert str(ended.value.code).startswith("error: out of memory. What was finished is kept")


def test_so_it_is_where_cleaning_up_fails_in_turn():
    """As Python's pool of processes does, where it cannot start its thread."""

    def main():
        try:
            raise RuntimeError("can't start new thread")
        finally:
            raise RuntimeError("cannot join thread before it is started")

    with pytest.raises(SystemExit, match="out of memory"):
        runner.run(main, "A script.", arguments=["script"])


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def main():
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        runner.run(main, "A script.", arguments=["script"])
