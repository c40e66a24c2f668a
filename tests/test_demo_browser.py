from pathlib import Path

import pytest
from demo_store import copy_of_trio, running_demo

from shared.photos import photo

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM} (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", copy_of_trio(folder))
        with running_demo(folder) as (url, _):
            yield url


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield running.chromium.launch(executable_path=str(CHROMIUM), args=arguments)


@pytest.fixture
def open_page(browser, address):
    pages = []

    def opened(width: int = 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(30_000)
        pages.append(page)
        page.goto(address)
        page.locator(".dg-status").wait_for()
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def cat(tmp_path_factory):
    file = tmp_path_factory.mktemp("pictures") / "cat.jpg"
    photo("cat").save(file)
    return file


def upload(page, file: Path) -> None:
    page.set_input_files("#picture input[type=file]", file)


def test_an_uploaded_picture_shows_its_classes_the_crop_and_the_time(open_page, cat):
    page = open_page()
    assert "drn_c_26-four, version 1" in page.locator("#head").inner_text()
    upload(page, cat)
    page.locator("#classify-note", has_text="ms and saw 64 × 64 pixels").wait_for()  # noqa: RUF001
    for label in ("tabby", "coffee cup", "rocket", "coin"):
        assert label in page.locator("#classes").inner_text()
    assert page.locator("#crop img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [64, 64]


def test_an_example_needs_one_click_and_no_network(open_page, address):
    page = open_page()
    elsewhere = []
    page.on("request", lambda r: r.url.startswith(("http", "ws")) and address not in r.url and elsewhere.append(r.url))
    page.reload()
    page.locator(".gallery-item").first.click()
    page.locator("#classify-note", has_text="pixels").wait_for()
    assert elsewhere == []


def test_the_gridding_tab_shows_three_maps_and_follows_the_level(open_page, cat):
    page = open_page()
    upload(page, cat)
    page.get_by_role("tab", name="Gridding").click()
    page.locator("#cards .dg-score").nth(2).wait_for()
    assert page.locator("#cards img").count() == page.locator("#one-pixel img").count() == 3
    assert all(page.locator("#cards img").evaluate_all("images => images.map(i => i.naturalWidth >= 560)"))
    page.get_by_label("Dilation 4").check()
    page.locator("#cards", has_text="layer6").wait_for()
    page.get_by_label("one channel").check()
    page.locator("#cards", has_text="rank 1").wait_for()
    page.get_by_label("Own colour scale").check()
    page.locator("#cards", has_text="cannot be compared").wait_for()


def test_a_text_file_named_png_gets_a_message_on_the_page(open_page, tmp_path):
    page = open_page()
    file = tmp_path / "notes.png"
    file.write_text("no picture")
    upload(page, file)
    # twice where the page learns of a new version at that moment, and looks at the picture again
    page.get_by_text("notes.png is not a picture of a known format").first.wait_for()


@pytest.mark.parametrize("tab", ["Classify", "Gridding"])
def test_nothing_sticks_out_on_a_narrow_screen(open_page, cat, tab):
    page = open_page(width=390)
    upload(page, cat)
    page.get_by_role("tab", name=tab).click()
    page.locator("#classify-note p" if tab == "Classify" else "#cards .dg-score").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
