"""Makes the pictures of the README and the site, from synthetic tissue of histojax's own.

python -m docs.pictures.make                 all of them
python -m docs.pictures.make report heatmap  some
python -m docs.pictures.make --same report   none: you looked, and the picture is still right

Each is <name>-light.webp and <name>-dark.webp beside this file, as Chromium shows a page of
histojax. made.json records the SHA-256 of the files that decide how a picture looks;
tests/test_pictures.py names the pictures whose files have changed since.

What they show is what histojax mine makes of synthetic tissue. It is run first, in runs/pictures,
unless that folder is there: 10 minutes on two cores. Needs Playwright for Python (pip install
playwright), and its Chromium (playwright install chromium) or one on the PATH.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
MADE = FOLDER / "made.json"
COMMAND = "python -m docs.pictures.make"
MOST_BYTES = 300_000
_SCHEMES = ("light", "dark")
_QUALITIES = (90, 80, 70, 60)  # The first by which a picture is small enough.
_TEMPLATES = "histojax/report/templates"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
      shows: the files that decide how it looks, below the root.
      width: of the browser's window, px.
      height: of the picture, from the top of the page; 0 for all of its #picture.
    """

    shows: tuple[str, ...]
    width: int = 1000
    height: int = 0


_STYLE = (f"{_TEMPLATES}/style.css", "docs/pictures/pages.py", "docs/pictures/tissue.py")
_PAGE = (*_STYLE, f"{_TEMPLATES}/base.html")
PICTURES = {
    "pipeline": Picture((*_STYLE, "docs/pictures/pipeline.html", "docs/pictures/pipeline.py")),
    "report": Picture(
        (*_PAGE, *(f"{_TEMPLATES}/{name}.html" for name in ("report", "parts", "sites"))),
        height=1000,
    ),
    "heatmap": Picture(
        (*_PAGE, f"{_TEMPLATES}/heatmap.html", "histojax/heatmap/page.py"), height=1100
    ),
    "inspection": Picture(
        (*_PAGE, f"{_TEMPLATES}/inspection.html", f"{_TEMPLATES}/parts.html"), height=1000
    ),
    "terminal": Picture(
        (
            *_STYLE,
            "docs/pictures/terminal.html",
            "docs/pictures/terminal.py",
            "experiments/mine.py",
            "histojax/utils/progress.py",
        )
    ),
}


def _hashes(name: str) -> dict[str, str]:
    """The SHA-256 of each file that a picture shows; empty for a file that is gone."""
    paths = {file: ROOT / file for file in PICTURES[name].shows}
    return {
        file: hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        for file, path in paths.items()
    }


def recorded() -> dict[str, dict[str, str]]:
    """made.json: the hashes of the files that each picture showed when it was made."""
    return json.loads(MADE.read_text("utf-8")) if MADE.exists() else {}


def _record(names: list[str]) -> None:
    """Writes the hashes of these pictures' files, as they are now, into made.json."""
    made = recorded() | {name: _hashes(name) for name in names}
    text = json.dumps({name: made[name] for name in PICTURES if name in made}, indent=2)
    MADE.write_text(text + "\n", "utf-8")


def stale() -> dict[str, list[str]]:
    """The files of each picture that have changed since it was made; fresh ones are left out."""
    made = recorded()
    changed = {}
    for name in PICTURES:
        now, before = _hashes(name), made.get(name, {})
        changed[name] = sorted(
            file for file in now.keys() | before.keys() if now.get(file) != before.get(file)
        )
    return {name: files for name, files in changed.items() if files}


def _page(name: str, folder: Path) -> Path:
    """The page of which a picture is taken, below `folder`."""
    from docs.pictures import pages

    return getattr(pages, name)(folder)


def _take(name: str, page: Path, browser) -> None:
    """Takes a picture in both colour schemes and writes it."""
    picture = PICTURES[name]
    for scheme in _SCHEMES:
        size = {"width": picture.width, "height": picture.height or 800}
        context = browser.new_context(viewport=size, device_scale_factor=2, color_scheme=scheme)
        window = context.new_page()
        window.goto(page.resolve().as_uri())
        taken = window if picture.height else window.locator("#picture")
        shot = Image.open(io.BytesIO(taken.screenshot()))
        context.close()
        path = FOLDER / f"{name}-{scheme}.webp"
        for quality in _QUALITIES:
            shot.save(path, "WEBP", quality=quality, method=6)
            if path.stat().st_size < MOST_BYTES:
                break
        print(f"{name}: {path.relative_to(ROOT)}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all by default")
    parser.add_argument("--same", action="store_true", help="record that they are still right")
    arguments = parser.parse_args()
    names = arguments.names or list(PICTURES)
    if unknown := [name for name in names if name not in PICTURES]:
        parser.error(f"there is no picture {unknown[0]!r}, only {', '.join(PICTURES)}")
    if arguments.same:
        _record(names)
        return
    from playwright.sync_api import sync_playwright

    folder = ROOT / "runs" / "pictures"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name in names:
            _take(name, _page(name, folder), browser)
            _record([name])
        browser.close()


if __name__ == "__main__":
    main()
