"""Pages in a browser: inert, without errors, on a phone, in the dark, and by keyboard."""

import datetime
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from histojax.heatmap import page as map_page
from histojax.prediction.uncertainty import FAR_STAIN
from histojax.report import figures
from histojax.report.write import write_report
from tests import samples
from tests.heatmap import tiny
from tests.report import sample_ensemble

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, 'a "quoted" & class_name_that_is_long_and_has_no_blank_to_break_at', "c")
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for text.

# The contrast of each text with its background, transparent backgrounds blended.
CONTRASTS = """() => {
  const channels = (color) => {
    const numbers = color.match(/[\\d.]+/g).map(Number);
    const scale = color.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((value) => value * scale), numbers[3] ?? 1];
  };
  const over = (top, below) =>
    top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const color = channels(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, behind(element.parentElement));
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrasts = [];
  for (const element of document.querySelectorAll("body *, svg text")) {
    const nodes = [...element.childNodes].filter((node) => node.nodeType === 3);
    const text = nodes.map((node) => node.data.trim()).join("");
    const isCode = ["SCRIPT", "STYLE"].includes(element.tagName);
    if (!text || !element.checkVisibility() || isCode) continue;
    const style = getComputedStyle(element);
    const color = channels(element.closest("svg") ? style.fill : style.color);
    const back = behind(element);
    const both = [luminance(over(color, back)), luminance(back)];
    const [low, high] = both.sort((a, b) => a - b);
    contrasts.push([text.slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return contrasts;
}"""

# Elements beyond the right edge that do not stand in one that scrolls.
OVERFLOWING = """() => {
  const scrolls = (element) => {
    for (let node = element; node && node !== document.body; node = node.parentElement) {
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(node).overflowX)) return true;
    }
    return false;
  };
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .filter((element) => !scrolls(element))
    .map((element) => element.outerHTML.slice(0, 80));
}"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright for Python is not installed"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The address of a report of 30 images of three classes, the first named like a script."""
    root = tmp_path_factory.mktemp("browser")
    names = [f"a name with 'quotes' & <b>markup {i:02d}" for i in range(30)]
    lines = ["image,label"]
    for i, name in enumerate(names):
        Image.fromarray(samples.tissue(i, 90, 120)).save(root / f"{name}.png")
        label = CLASSES[i // 10].replace('"', '""')
        lines.append(f'{name}.png,"{label}"')
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    options = {"accuracy": 0.7, "source": "random, seed 0", "test": 9}
    options["configurations"] = ("VGG-0.5-32", "VGG-0.5-40")
    models = sample_ensemble.write(root / "models", names, CLASSES, 3, **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "save_all", lambda *_: None)  # It takes long.
        write_report(models, root / "report", ("c",), data=root / "labels.csv", draws=20)
    return (root / "report" / "report.html").as_uri()


@pytest.fixture
def opened(browser, address):
    """opened(width, url, **context): a page, the report by default, its messages and requests."""
    contexts = []

    def open_page(width: int = 1440, url: str = address, **options):
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page, log = context.new_page(), {"messages": [], "requests": []}
        page.on("console", lambda message: log["messages"].append(message.text))
        page.on("pageerror", lambda error: log["messages"].append(str(error)))
        page.on("dialog", lambda dialog: (log["messages"].append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: log["requests"].append(request.url))
        page.goto(url)
        return page, log

    yield open_page
    for context in contexts:
        context.close()


def test_there_are_no_errors_no_foreign_scripts_and_no_requests(opened):
    page, log = opened()
    page.mouse.wheel(0, 20_000)
    page.wait_for_timeout(200)
    assert log["messages"] == []
    assert all(re.match("(file|data):", url) for url in log["requests"])
    assert [url for url in log["requests"] if url.startswith("file:")] == [page.url]
    assert page.locator("script").count() == 1
    assert SCRIPT in page.locator("#confusion thead").inner_text()
    assert page.evaluate(
        "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )


def test_what_is_injected_neither_runs_nor_loads(opened):
    """As if a name had become markup after all: the page's policy stops it."""
    page, log = opened()
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = 'script'";
          document.body.append(script);
          document.body.insertAdjacentHTML(
            "beforeend", `<img src="http://127.0.0.1:9/a.png" onerror="window.ran = 'handler'">`
          );
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    refused = [message for message in log["messages"] if "Content Security Policy" in message]
    assert len(refused) >= 3


def test_a_click_on_a_cell_opens_its_images_and_another_closes_them(opened):
    page, _ = opened()
    cell = page.locator(".confusion button.right").first
    panel = page.locator(f"#{cell.get_attribute('aria-controls')}")
    assert not panel.is_visible()
    cell.click()
    assert panel.is_visible()
    assert cell.get_attribute("aria-expanded") == "true"
    assert panel.locator("img").count() == int(cell.locator("b").inner_text())
    assert "<b>markup" in panel.inner_text()
    other = page.locator(".confusion button.wrong").first
    other.click()
    assert not panel.is_visible()
    other.click()
    assert page.locator(".cell:visible").count() == 0


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_opens_them_too(opened, key):
    page, _ = opened()
    cell = page.locator(".confusion button").first
    cell.focus()
    page.keyboard.press(key)
    assert page.locator(f"#{cell.get_attribute('aria-controls')}").is_visible()


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_wider_than_the_screen(opened, width):
    page, _ = opened(width)
    for cell in page.locator(".confusion button").all():
        cell.click()
    page.locator("details").evaluate_all("(all) => all.forEach((details) => (details.open = true))")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(opened, scheme):
    page, _ = opened(color_scheme=scheme)
    page.locator(".confusion button.wrong").first.click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 200
    assert any("specificity" in text for text, _ in contrasts)
    assert [pair for pair in contrasts if pair[1] < LEAST_CONTRAST] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")


def test_on_paper_there_is_no_menu_and_nothing_is_cut_off(opened):
    page, _ = opened(width=720, color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.printed[open]").count() == 1
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < LEAST_CONTRAST] == []
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_contents_lead_to_their_sections(opened):
    page, _ = opened(390)
    page.locator("nav a", has_text="Protocol").click()
    page.wait_for_timeout(100)
    top = page.locator("#protocol").bounding_box()["y"]
    assert 0 <= top < 450


def test_without_scripts_everything_but_the_cells_is_there(opened):
    page, log = opened(java_script_enabled=False)
    assert log["messages"] == []
    assert page.locator("#mistakes img").count() > 0
    assert page.locator(".cell:visible").count() > 0


@pytest.fixture(scope="module")
def map_address(tmp_path_factory) -> str:
    """The address of a map that is outlined, hatched and abstained from."""
    score = np.linspace(0, 1, 48).reshape(6, 8)
    far = {FAR_STAIN: np.arange(48).reshape(6, 8) % 8 < 3}
    classes = (SCRIPT, "malignant")
    heatmap = tiny.map_of(
        score, classes=classes, far=far, prediction=tiny.prediction(FAR_STAIN), mpp=None
    )
    path = tmp_path_factory.mktemp("map") / "overview.html"
    path.write_text(map_page.render(heatmap, True, datetime.datetime(2026, 1, 2)), "utf-8")
    return path.as_uri()


def test_the_colours_of_a_map_can_be_faded_by_keyboard_until_the_tissue_is_as_it_was(
    opened, map_address
):
    page, log = opened(url=map_address)
    layer = page.locator(".layer").first
    field = page.locator(".map .field").first
    assert layer.evaluate("(e) => getComputedStyle(e).opacity") == "0.45"
    assert field.evaluate("(e) => getComputedStyle(e).filter") == "grayscale(1)"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "opacity"
    page.keyboard.press("Home")
    assert layer.evaluate("(e) => getComputedStyle(e).opacity") == "0"
    assert field.evaluate("(e) => getComputedStyle(e).filter") == "grayscale(0)"
    assert page.locator("output").inner_text() == "0 %"
    page.keyboard.press("ArrowRight")
    assert page.locator("output").inner_text() == "5 %"
    assert log["messages"] == []
    assert log["requests"][0] == page.url
    assert all(url.startswith("data:") for url in log["requests"][1:])


def test_the_field_stands_beside_a_map_and_marks_can_be_taken_off(opened, map_address):
    page, _ = opened(url=map_address)
    plain, marked = (page.locator(name).first for name in (".plain", ".plain + .view"))
    left, right = plain.bounding_box(), marked.bounding_box()
    assert left["y"] == right["y"]
    assert left["width"] == right["width"] < right["x"]
    marks = marked.locator("svg")
    assert marks.is_visible()
    assert marks.locator("use").count() == 3  # Hatching, and the outline within its casing.
    page.locator("#marks").press("Space")
    assert not marks.is_visible()
    page.locator("#beside").press("Space")
    assert not plain.is_visible()
    assert marked.bounding_box()["width"] > right["width"] * 0.9


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_map_can_be_read_on_a_phone_in_the_dark_and_on_paper(opened, map_address, scheme):
    page, _ = opened(390, map_address, color_scheme=scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate(OVERFLOWING) == []
    contrasts = page.evaluate(CONTRASTS)
    assert any("histojax predict abstains" in text for text, _ in contrasts)
    assert [pair for pair in contrasts if pair[1] < LEAST_CONTRAST] == []
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()
    assert page.locator(".layer").count() == 2
    assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < LEAST_CONTRAST] == []
    shown = page.locator(".map .field").first.evaluate(
        "(e) => getComputedStyle(e).printColorAdjust"
    )
    assert shown == "exact"  # The field is a background, which browsers leave out on paper.


def test_without_scripts_a_map_is_there_and_no_slider_that_does_nothing(opened, map_address):
    page, _ = opened(url=map_address, java_script_enabled=False)
    assert not page.locator("#opacity").is_visible()
    assert page.locator(".layer").first.is_visible()
