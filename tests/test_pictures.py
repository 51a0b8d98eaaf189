"""The pictures of README and site are there, small, and no older than what they show."""

import re

from PIL import Image

from docs.pictures import make


def test_no_picture_is_older_than_what_it_shows():
    stale = make.stale()
    changed = "; ".join(f"{name} (by {', '.join(files)})" for name, files in stale.items())
    command = f"{make.COMMAND} {' '.join(stale)}"
    told = f"older than what they show: {changed}. Make them anew: {command}"
    assert not stale, f"{told} (with --same, if nothing that one sees has changed)"


def test_a_picture_is_stale_when_a_file_that_it_shows_changes_or_is_another(monkeypatch):
    made = make.recorded()
    file = next(iter(made["pipeline"]))
    changed = made | {"pipeline": made["pipeline"] | {file: "0" * 64, "gone.html": "0" * 64}}
    monkeypatch.setattr(make, "recorded", lambda: changed)
    assert make.stale() == {"pipeline": sorted([file, "gone.html"])}
    monkeypatch.setattr(make, "recorded", dict)
    assert make.stale() == {name: sorted(picture.shows) for name, picture in make.PICTURES.items()}


def test_each_is_there_in_both_schemes_small_and_of_one_size():
    names = {f"{name}-{scheme}.webp" for name in make.PICTURES for scheme in ("light", "dark")}
    assert {path.name for path in make.FOLDER.glob("*.webp")} == names
    assert all((make.FOLDER / name).stat().st_size < make.MOST_BYTES for name in names)
    for name in make.PICTURES:
        sizes = set()
        for scheme in ("light", "dark"):
            with Image.open(make.FOLDER / f"{name}-{scheme}.webp") as picture:
                sizes.add(picture.size)
        assert len(sizes) == 1


def test_all_files_that_pictures_show_exist():
    shown = {file for picture in make.PICTURES.values() for file in picture.shows}
    assert [file for file in sorted(shown) if not (make.ROOT / file).is_file()] == []


def test_every_script_here_decides_how_some_picture_looks():
    scripts = {f"docs/pictures/{path.name}" for path in make.FOLDER.glob("*.py")}
    shown = {file for picture in make.PICTURES.values() for file in picture.shows}
    assert scripts - shown == {"docs/pictures/make.py"}


def test_a_picture_shows_what_its_templates_are_made_of():
    for name, picture in make.PICTURES.items():
        for file in (file for file in picture.shows if file.endswith(".html")):
            made_of = re.findall(
                r"\{% (?:extends|include|from) \"([^\"]+)\"", (make.ROOT / file).read_text("utf-8")
            )
            looks = [part for part in made_of if not part.endswith(".js")]
            assert {f"{file.rpartition('/')[0]}/{part}" for part in looks} <= set(picture.shows), (
                name,
                file,
            )
