"""What a reader would miss: figures that stay blank, pages that need the network, text that cannot be read."""

import contextlib
import io
import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import mini_book
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

WIDTHS = {"wide": 1280, "narrow": 360}
THEMES = ("light", "dark")
NO_NETWORK = ("file:", "data:", "blob:", "about:")
WAIT_MS = 120_000  # a busy machine is not a broken page
MAX_PAGE_BYTES = 3_000_000
MAX_FRONT_BYTES = 1_500_000
MAX_BOOK_BYTES = 40_000_000

OPEN_AND_SCROLL = """async () => {
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  for (const box of document.querySelectorAll(".tle-plot, iframe")) {
    const soon = (ms) => new Promise((done) => setTimeout(done, ms));
    box.scrollIntoView({block: "center", behavior: "instant"});
    await soon(60);
    const late = Date.now() + 60000;  // a busy machine draws a plot some frames after it has come into view
    while (box.matches(".tle-plot") && !box.querySelector(".main-svg") && Date.now() < late) await soon(60);
  }
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll("details").forEach((d) => (d.open = false));
  window.scrollTo({top: 0, behavior: "instant"});
}"""

DRAWN = "() => [...document.querySelectorAll('.tle-plot')].every((box) => box.querySelector('.main-svg'))"

CUT = """() => [...document.querySelectorAll(".tle-plot-area")].filter((area) => area.clientWidth).flatMap((area) => {
  const room = area.getBoundingClientRect();
  const parts = [...area.querySelectorAll("svg.main-svg, .gtitle, .xtitle")].map((e) => [e, e.getBoundingClientRect()]);
  return parts.filter(([e, place]) => place.left < room.left - 1 || place.right > room.right + 1)
    .map(([e, place]) => `${e.textContent.slice(0, 40)}: ${place.left - room.left} to ${place.right - room.left} px`);
})"""
FITS = f"() => !({CUT})().length"

# Words of a plot that lie upon each other: titles of axes and panels, ticks, the legend.
OVERLAPS = """() => [...document.querySelectorAll(".tle-plot-area")].filter((a) => a.clientWidth).flatMap((area) => {
  const boxes = (query) => [...area.querySelectorAll(query)].filter((e) => e.textContent.trim())
    .map((e) => [e.textContent.slice(0, 40), e.getBoundingClientRect()]);
  const titles = boxes('text[class$="title"], .annotation-text');
  const others = boxes(".xtick text, .ytick text, .legendtext");
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  return titles.flatMap(([words, place], i) => [...titles.slice(i + 1), ...others]
    .filter(([, other]) => meet(place, other)).map(([other]) => `${words} | ${other}`));
})"""

STATE = """() => {
  const plots = [...document.querySelectorAll(".tle-plot")].map((box) => ({
    label: box.getAttribute("aria-label"),
    pictures: [...box.querySelectorAll('svg[role="img"]')].map((svg) => svg.getAttribute("aria-label")),
    loose: box.querySelectorAll('svg.main-svg:not([role="img"], [aria-hidden="true"])').length,
    marks: box.querySelectorAll(
      ".plotly .trace, .plotly .heatmaplayer image, .plotly .hm, .plotly .point, .plotly .cartesianlayer path, canvas"
    ).length,
  }));
  const frames = [...document.querySelectorAll("iframe")].map((frame) => {
    const canvases = [...(frame.contentDocument?.querySelectorAll("canvas") ?? [])];
    const painted = canvases.some((c) => c.width && c.height &&
      new Set(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).size > 4);
    return {title: frame.title, painted};
  });
  return {
    plots, frames,
    formulas: document.querySelectorAll("span.math, div.math").length,
    typeset: document.querySelectorAll("mjx-container").length,
    mathjax: document.querySelectorAll('script[src*="mathjax"]').length,
    tables: document.querySelectorAll(".cell_output table.dataframe").length,
    saves: document.querySelectorAll(".cell_output .tle-table > a[download]").length,
    scrolling: [...document.querySelectorAll(".cell_output .tle-table")]
      .filter((box) => box.querySelector("table").offsetWidth > box.closest(".output").clientWidth + 1)
      .map((box) => box.querySelector("tr").textContent.trim().replace(/\\s+/g, " ").slice(0, 90)),
    icons: [...document.querySelectorAll("main svg[data-icon]")]
      .filter((svg) => !svg.querySelector("path")?.getAttribute("d")).map((svg) => svg.dataset.icon),
    broken: [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src),
    unnamed: [...document.images].filter((i) => !i.alt || i.alt.endsWith(".png")).map((i) => i.src),
    language: document.documentElement.lang,
    title: document.title,
    nameless: [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select")]
      .filter((e) => e.checkVisibility() && !e.closest(".plotly"))
      .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.title || e.placeholder ||
        e.labels?.length || e.querySelector("img[alt]:not([alt=''])")))
      .map((e) => e.outerHTML.slice(0, 120)),
    twice: Object.entries(Object.groupBy([...document.querySelectorAll("[id]")], (e) => e.id))
      .filter(([id, found]) => found.length > 1 && !found.some((e) => e.closest("svg, mjx-container")))
      .map(([id]) => id),
    levels: [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map((h) => Number(h.tagName[1])),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}"""

# WCAG contrast of every visible piece of text in the article with the nearest painted background behind it.
CONTRAST = """async () => {
  const rgb = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const backdrop = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      layers.unshift(colour);
      if (colour[3] === 1) break;
    }
    return layers.reduce((below, [r, g, b, a]) => [r, g, b].map((v, i) => a * v + (1 - a) * below[i]), [255, 255, 255]);
  };
  const worst = [];
  const walker = document.createTreeWalker(document.querySelector("#main-content"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({opacityProperty: true, visibilityProperty: true}))
      continue;
    if (element.closest("script, style, noscript, .search-button__kbd-shortcut, .headerlink, mjx-container")) continue;
    const inPlot = element.closest("svg");
    if (inPlot && !element.closest(".gtitle, .xtick, .ytick, .xtitle, .ytitle, .legendtext, .cbaxis")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgb(inPlot ? style.fill : style.color)), light(backdrop(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const text = walker.currentNode.data.trim().slice(0, 40);
    if (ratio < 4.5) worst.push(`${ratio.toFixed(2)} ${element.tagName}: ${text}`);
  }
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  for (const image of document.querySelectorAll("#main-content .heatmaplayer image")) {
    const picture = Object.assign(new Image(), {src: image.href.baseVal});
    await picture.decode();
    const pen = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    pen.drawImage(picture, 0, 0);
    const room = image.getBoundingClientRect();
    for (const text of image.closest(".hm").querySelectorAll("text")) {
      const place = text.getBoundingClientRect();
      const share = [(place.left + place.right) / 2 - room.left, (place.top + place.bottom) / 2 - room.top];
      const at = [share[0] / room.width * picture.width, share[1] / room.height * picture.height];
      const cell = [...pen.getImageData(...at, 1, 1).data];
      const found = ratio(rgb(getComputedStyle(text).fill), cell[3] ? cell : backdrop(image.closest("div")));
      if (found < 4.5) worst.push(`${found.toFixed(2)} in a matrix: ${text.textContent}`);
    }
  }
  const dark = document.documentElement.dataset.theme === "dark";
  for (const point of dark ? document.querySelectorAll("#main-content .scatterlayer .point") : []) {
    const style = getComputedStyle(point);
    const glow = getComputedStyle(point.closest(".scatterlayer")).filter.match(/brightness\\(([\\d.]+)/)?.[1] ?? 1;
    const ink = rgb(/^rgb\\(/.test(style.fill) && Number(style.fillOpacity) ? style.fill : style.stroke);
    const found = ratio(ink.slice(0, 3).map((v) => Math.min(255, v * glow)), backdrop(point.closest("div")));
    if (found < 4.5) worst.push(`${found.toFixed(2)} a point ${ink}`);
  }
  return [...new Set(worst)];
}"""


def pages(book):
    """Every page of the book, the redirect at its root aside."""
    return sorted(path for path in book.glob("*.html") if path.name != "index.html")


def new_page(browser, width=WIDTHS["wide"], height=900, theme="light"):
    """An empty page that waits as long as a busy machine takes."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    page.set_default_timeout(WAIT_MS)
    return page


def open_page(browser, address):
    """Open an address and let everything on it draw; returns the page and what went wrong on the way."""
    page = new_page(browser)
    trouble = {"requests": [], "errors": []}
    page.on("request", lambda request: trouble["requests"].append(request.url))
    page.on("pageerror", lambda error: trouble["errors"].append(str(error)))
    page.on("console", lambda line: trouble["errors"].append(line.text) if line.type == "error" else None)
    page.goto(address)
    page.evaluate(OPEN_AND_SCROLL)
    with contextlib.suppress(playwright.TimeoutError):  # what has not drawn by then is for the tests to name
        page.wait_for_function(DRAWN, timeout=WAIT_MS)
    return page, trouble


@pytest.fixture(scope="session")
def visits(book, browser):
    """State of every page, opened from the disk, at two widths and in two themes; leaves a screenshot of each."""
    shots = book.parent / "screenshots"
    shots.mkdir(exist_ok=True)
    found = {}
    for path in pages(book):
        page, trouble = open_page(browser, path.as_uri())
        for (width_name, width), theme in itertools.product(WIDTHS.items(), THEMES):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.wait_for_timeout(300)
            with contextlib.suppress(playwright.TimeoutError):
                page.wait_for_function(FITS, timeout=20_000)
            state = page.evaluate(STATE) | {"contrast": page.evaluate(CONTRAST), "cut": page.evaluate(CUT)}
            state |= {"overlaps": page.evaluate(OVERLAPS)}
            found[path.name, width_name, theme] = state | trouble
            picture = shots / f"{path.stem}_{width_name}_{theme}.png"
            page.screenshot(path=picture, full_page=True, animations="disabled")
        page.close()
    return found


def collect(visits, complaint):
    """Complaints of all visits, by page, width and theme."""
    return {" ".join(key): said for key, state in visits.items() if (said := complaint(state))}


def test_no_page_asks_for_anything_outside_its_folder(visits):
    """The book is read offline and nobody learns who reads it."""
    assert not collect(visits, lambda s: [url for url in s["requests"] if not url.startswith(NO_NETWORK)])


def test_no_page_reports_an_error(visits):
    assert not collect(visits, lambda s: s["errors"])


def test_every_plot_has_drawn_and_has_a_name(visits):
    """To a screen reader a plot is one picture with the words of its title or caption."""
    assert any(state["plots"] for state in visits.values())
    assert not collect(visits, lambda s: [p for p in s["plots"] if not p["marks"] or not p["label"]])
    assert not collect(visits, lambda s: [p for p in s["plots"] if p["pictures"] != [p["label"]] or p["loose"]])


def test_plots_and_their_titles_stay_inside_their_room(visits):
    """Also when a tablet is turned: the width changes after a plot was drawn."""
    assert not collect(visits, lambda s: s["cut"])


def test_words_of_a_plot_do_not_lie_upon_each_other(visits):
    assert not collect(visits, lambda s: s["overlaps"])


def test_no_table_scrolls_on_a_laptop_but_those_of_splits(visits):
    wide = {key: state for key, state in visits.items() if key[1] == "wide"}
    assert not collect(wide, lambda s: [names for names in s["scrolling"] if "label" not in names])


def test_icons_are_drawn(visits):
    """The book carries those of the theme's icons that its pages name."""
    assert not collect(visits, lambda s: s["icons"])


def test_every_brain_view_is_painted(visits):
    assert not collect(visits, lambda s: [f for f in s["frames"] if not f["painted"] or not f["title"]])


def test_a_brain_view_is_no_white_box_in_the_dark(mini_page):
    page = mini_page("05_saliency_maps.html")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1000)
    with Image.open(io.BytesIO(page.locator("iframe").screenshot())) as picture:
        assert max(picture.convert("RGB").getpixel((picture.width - 3, picture.height - 3))) < 60


def test_formulas_are_typeset_once(visits):
    assert visits["methods.html", "wide", "light"]["formulas"]
    assert not collect(visits, lambda s: s["formulas"] != s["typeset"] or s["mathjax"] > 1)


def test_images_load_and_have_alternative_text(visits):
    assert not collect(visits, lambda s: s["broken"] + s["unnamed"])


def test_pages_have_a_language_and_their_own_title(visits):
    assert not collect(visits, lambda s: s["language"] != "en" or not s["title"])
    titles = {key[0]: state["title"] for key, state in visits.items()}
    assert len(set(titles.values())) == len(titles)


def test_every_link_and_control_says_what_it_is(visits):
    assert not collect(visits, lambda s: s["nameless"])


def test_every_anchor_is_unique_on_its_page(visits):
    assert not collect(visits, lambda s: s["twice"])


def test_headings_make_an_outline(visits):
    """One title a page, and no level left out below it: what a screen reader walks along."""

    def broken(state):
        levels = state["levels"]
        return levels if levels.count(1) != 1 or any(b - a > 1 for a, b in itertools.pairwise(levels)) else None

    assert not collect({key: state for key, state in visits.items() if key[0] != "search.html"}, broken)


def test_no_page_is_wider_than_the_screen(visits):
    assert not collect(visits, lambda s: s["overflow"] if s["overflow"] > 0 else None)


def test_text_is_readable_in_both_themes(visits):
    assert not collect(visits, lambda s: s["contrast"])


def test_plots_follow_the_theme_switch(book, browser):
    """Ink turns light on the dark page, and dark again."""
    path = next(path for path in pages(book) if "tle-plot" in path.read_text())
    page, _ = open_page(browser, path.as_uri())
    ink = "() => getComputedStyle(document.querySelector('.tle-plot .xtick text')).fill"
    for theme, bright in (("dark", "> 170"), ("light", "< 90")):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.wait_for_function(f"() => Math.min(...({ink})().match(/[\\d.]+/g).slice(0, 3)) {bright}")
    page.close()


def test_plots_wait_for_the_reader_but_not_for_the_printer(book, browser):
    path = max(pages(book), key=lambda path: path.read_text().count("tle-plot"))
    page = new_page(browser, height=300)
    page.goto(path.as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(DRAWN)
    boxes, drawn = (page.locator(f".tle-plot{inner}").count() for inner in ("", ":has(.main-svg)"))
    page.close()
    assert boxes == drawn > 0


@pytest.mark.parametrize("how", ["served", "disk"])
def test_search_finds_the_hippocampus(book, browser, served, how):
    address = served if how == "served" else book.as_uri()
    page, trouble = open_page(browser, f"{address}/search.html?q=hippocampus")
    page.wait_for_selector("ul.search li p.context")
    hits, excerpts = page.locator("ul.search li a").count(), page.locator("ul.search p.context").all_inner_texts()
    page.close()
    assert hits > 0 and any("hippocamp" in words.lower() for words in excerpts)
    assert not [words for words in excerpts if "</" in words or "<div" in words], "words of the page, not its code"
    assert not trouble["errors"]


def test_print_shows_plots_on_white_and_leaves_out_what_paper_cannot_do(book, browser):
    path = max(pages(book), key=lambda path: path.read_text().count("tle-plot"))
    page = new_page(browser, theme="dark")
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(1000)
    shown = page.evaluate("""() => ({
      plots: [...document.querySelectorAll(".tle-plot svg.main-svg:first-child")].every((svg) => svg.checkVisibility()),
      tools: [...document.querySelectorAll(".tle-table > a, .tle-controls, .cell_input")]
        .filter((e) => e.checkVisibility()).length,
      paper: getComputedStyle(document.body).backgroundColor,
      inks: [getComputedStyle(document.querySelector("article p")).color,
        ...[...document.querySelectorAll(".tle-plot .xtick text")].map((e) => getComputedStyle(e).fill),
        ...[...document.querySelectorAll("table.dataframe td")].map((e) => getComputedStyle(e).color)],
    })""")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    after = page.evaluate("document.documentElement.dataset.theme")
    page.close()

    def light(colour):
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3

    assert shown["plots"] and not shown["tools"]
    assert light(shown["paper"]) > 240 or shown["paper"] == "rgba(0, 0, 0, 0)"
    assert [ink for ink in shown["inks"] if light(ink) > 100] == []
    assert after == "dark"


@pytest.fixture
def mini_page(book, browser):
    """Open a page of the mini book; the chapters' own tables change with every run."""
    opened = []

    def go(name):
        if not (book / "90_new_chapter.html").exists():
            pytest.skip("only in the mini book")
        opened.append(open_page(browser, (book / name).as_uri())[0])
        return opened[-1]

    yield go
    for page in opened:
        page.close()


def column(page, number):
    return page.locator(f"table.dataframe tbody tr :is(td, th):nth-child({number})").all_inner_texts()


def test_the_whole_book_fits_on_one_page(book, browser):
    """To print or to send: with its plots, its brain view and its tables, and without a network."""
    if not (book / "90_new_chapter.html").exists():
        pytest.skip("only the mini book")
    alone = mini_book.build(book.parents[1], "singlehtml")
    page, trouble = open_page(browser, (alone / "intro.html").as_uri())
    page.wait_for_function(DRAWN, timeout=20_000)
    state = page.evaluate(STATE)
    titles = page.locator("article :is(h1, h2)").all_inner_texts()
    page.close()
    pages = (path.relative_to(book / "_sources") for path in (book / "_sources").rglob("*") if path.is_file())
    parts = [(book / page.with_suffix(".html")).read_text() for page in pages]
    assert len(state["plots"]) == sum(text.count('class="tle-plot"') for text in parts) > 3
    assert all(plot["marks"] for plot in state["plots"]) and [frame["painted"] for frame in state["frames"]] == [True]
    assert state["tables"] == state["saves"] > 0 and not state["broken"] and not trouble["errors"]
    assert not [url for url in trouble["requests"] if not url.startswith(NO_NETWORK)]
    assert any("Glossary" in title for title in titles)


def test_tables_sort_by_numbers_names_and_back(mini_page):
    """By keyboard, with the state announced; what is missing stays last, names of row groups stay with their rows."""
    page = mini_page("02_replication.html")
    page.locator("th button", has_text="accuracy").focus()
    assert column(page, 4) == ["0.9 [0.7–1.0]", "0.83", "–", "−0.1"]
    seen = []
    for _ in range(3):
        page.keyboard.press("Enter")
        seen.append((page.locator("th[aria-sort]:has-text('accuracy')").get_attribute("aria-sort"), column(page, 4)))
    assert seen == [
        ("ascending", ["−0.1", "0.83", "0.9 [0.7–1.0]", "–"]),
        ("descending", ["0.9 [0.7–1.0]", "0.83", "−0.1", "–"]),
        ("none", ["0.9 [0.7–1.0]", "0.83", "–", "−0.1"]),
    ]
    page.locator("th button", has_text="n").first.click()
    page.locator("th button", has_text="class").click()
    assert column(page, 2) == ["left", "left", "right", "right"] and set(column(page, 1)) == {"net", "volumes"}
    assert page.locator("th[aria-sort]:not([aria-sort='none'])").count() == 1


def test_tables_can_be_saved_as_tsv(mini_page):
    page = mini_page("02_replication.html")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download table 1 of this page as TSV").click()
    assert waiting.value.suggested_filename == "02_replication_table_1.tsv"
    assert Path(waiting.value.path()).read_text(encoding="utf-8").splitlines() == [
        "model\tclass\tn\taccuracy",
        "net\tleft\t9.0\t0.9 [0.7–1.0]",
        "net\tright\t80.0\t0.83",
        "volumes\tleft\t10.0\t–",
        "volumes\tright\t\t−0.1",
    ]


def test_every_table_of_data_has_its_tools(visits):
    assert any(state["tables"] for state in visits.values())
    assert not collect(visits, lambda s: s["tables"] != s["saves"])


def test_the_slider_of_a_plot_moves_by_keyboard(mini_page):
    page = mini_page("03_lateralization_baseline.html")
    box = page.locator(".tle-plot:has(input[type=range])")
    height = "() => document.querySelector('.tle-plot:has(input) .tle-plot-area').data[0].y[0]"
    box.locator("input").focus()
    seen = []
    for key in ("Home", "End"):
        page.keyboard.press(key)
        page.wait_for_function(f"() => ({height})() === {0.25 if key == 'Home' else 0.75}")
        seen.append((box.locator("output").inner_text(), page.evaluate(height)))
    assert seen == [("threshold = 0.25", 0.25), ("threshold = 0.75", 0.75)]
    box.get_by_role("combobox").select_option("faint")
    page.wait_for_timeout(300)
    assert page.evaluate(height.replace("y[0]", "opacity")) == 0.4


def test_participants_are_found_by_words_and_opened_by_keyboard(mini_page):
    page = mini_page("people.html")
    search, lines = page.locator(".tle-people input"), page.locator(".tle-people summary")
    search.press_sequentially("left wrong")
    assert page.locator(".tle-people summary:visible").all_inner_texts() == [lines.first.inner_text()]
    assert "sub-1: Left TLE; net: wrong" in lines.first.inner_text()
    assert page.locator(".tle-people output").inner_text() == "1"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "0.70" in page.locator(".tle-people td:visible").all_inner_texts()
    assert page.locator(".tle-people img:visible").evaluate_all("all => all.every((one) => one.naturalWidth === 160)")


def test_pages_stay_small(book):
    """A tablet opens every page at once, and the whole book fits into a mail box."""
    large = {path.name: path.stat().st_size for path in pages(book) if path.stat().st_size > MAX_PAGE_BYTES}
    assert large == {}
    whole = sum(p.stat().st_size for p in book.rglob("*") if p.is_file())
    assert whole < MAX_BOOK_BYTES


def test_the_front_page_loads_at_once(book, browser):
    page, trouble = open_page(browser, (book / "intro.html").as_uri())
    page.close()
    files = {
        unquote(url.removeprefix("file://").split("?")[0]) for url in trouble["requests"] if url.startswith("file:")
    }
    sizes = {Path(name).name: Path(name).stat().st_size for name in files}
    assert sum(sizes.values()) < MAX_FRONT_BYTES, sizes


def test_names_of_rows_stay_in_view_on_a_phone(mini_page):
    page = mini_page("01_preprocessing.html")
    page.set_viewport_size({"width": 390, "height": 800})
    box, name = (
        page.locator(".cell_output .output:has(.tle-table)"),
        page.locator(".tle-table tbody tr :first-child").first,
    )
    before = name.bounding_box()["x"]
    box.evaluate("(box) => box.scrollTo({left: 300, behavior: 'instant'})")
    assert box.evaluate("(box) => box.scrollLeft") == 300 and abs(name.bounding_box()["x"] - before) < 2


def test_figures_and_tables_are_numbered(mini_page):
    page = mini_page("03_lateralization_baseline.html")
    words = "(cell) => getComputedStyle(cell, '::before').content"
    found = page.locator(".cell_output:has(.tle-plot)").evaluate_all(f"(all) => all.map({words})")
    assert len(found) > 3 and all(text.startswith('"Figure 3."') for text in found)


def test_links_inside_the_book_lead_somewhere(book):
    """To a page that is there, and to an anchor that is on it."""
    texts = {path.name: path.read_text() for path in pages(book)}
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    missing = set()
    for name, text in texts.items():
        for target in re.findall(r'(?:href|src)="([^"?]+)', text):
            page, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            if page and not (book / page).exists():
                missing.add((name, target))
            if anchor and (page or name) in anchors and unquote(anchor) not in anchors[page or name]:
                missing.add((name, target))
    assert not missing


def test_no_page_shows_a_path_of_the_machine_it_was_made_on(book):
    """A warning of a library carries one; it also says that a chapter is not clean."""
    path = r"(?<![\w./])/(?:home|root|Users|work|tmp|private|var)/[\w./-]*"
    found = {p.name: re.findall(path, p.read_text()) for p in pages(book)}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_notebooks_can_be_downloaded(book):
    """The download is the executed copy: it holds outputs."""
    sources = {path.name: path for path in (book / "_sources").glob("*.ipynb")}
    assert sources
    for name, path in sources.items():
        assert f"_sources/{name}" in (book / f"{Path(name).stem}.html").read_text()
        assert any(cell.get("outputs") for cell in json.loads(path.read_text())["cells"])
