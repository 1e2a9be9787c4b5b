"""What the pages promise in their text: figures found, numbers quoted, sources within reach, claims backed by tests."""

import ast
import json
import re

import pytest
import yaml
from mini_book import REPOSITORY, ROOT
from PIL import Image

from tle_utils.base.text import clock
from tle_utils.cohorts.manifest import load_manifest

pytestmark = pytest.mark.browser


def mini_only(book, chain=False):
    if (book / "90_new_chapter.html").exists() == chain:
        pytest.skip("only in the book of the chain" if chain else "only in the mini book")


def rows(text):
    """Cells of all table rows of a page, without their tags."""
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)]
        for row in found
    ]


def test_every_figure_of_the_paper_leads_to_its_place(book):
    links = re.findall(r'href="(\w+\.html)#(paper-figure-(\d+))"', (book / "paper.html").read_text())
    assert {int(number) for _, _, number in links} == set(range(1, 13))
    for page, anchor, number in links:
        section = (book / page).read_text().split(f'id="{anchor}"')
        assert len(section) == 2
        assert f"Figure {number}" in re.search(r"<h\d>(.*?)<a", section[1])[1]


def test_theirs_are_the_numbers_of_the_paper(book):
    """402 and 416 of 500: counted by hand from the paper's Figures 8 and 12."""
    figures = {row[0]: row for row in rows((book / "paper.html").read_text()) if row}
    assert "402 of 500 correct, 0.804" in figures["Figure 8"][2]
    assert "416 of 500 correct, 0.832" in figures["Figure 12"][2]
    assert "108,514 parameters, 108,402 trainable" == figures["Figure 2"][2] == figures["Figure 2"][3]
    assert "20,891 parameters, 20,667 trainable" == figures["Figure 9"][2] == figures["Figure 9"][3]
    assert "0.947 (322 of 340)" in figures["Figure 4"][2]


def test_no_page_shows_braces_or_a_key_in_place_of_a_number(book):
    for path in set(book.glob("*.html")) - {book / "api.html"}:
        main = path.read_text().split('id="main-content"')[-1]
        text = re.sub(r"<(script|pre|iframe)\b.*?</\1>", "", main, flags=re.DOTALL)
        assert "{{" not in text and "{glue" not in text, path.name


def test_a_picture_has_more_dots_than_it_takes_room(book):
    """Sharp on a phone or on paper, and as large on the page as it was drawn in inches."""
    mini_only(book)
    name, width = re.search(
        r'<img [^>]*src="(_images/[^"]+\.png)"[^>]*width: (\d+)px', (book / "05_saliency_maps.html").read_text()
    ).groups()
    with Image.open(book / name) as picture:
        assert picture.width == pytest.approx(2 * int(width), abs=2)


def test_a_command_in_a_sentence_keeps_its_hyphens(book):
    for path in book.glob("*.html"):
        assert not re.search(r"[\s>][–—](profile|cohort|workers|set)\b", path.read_text()), path.name


def test_every_cohort_of_the_manifest_is_on_the_data_page(book):
    manifest = load_manifest(ROOT / "data_manifest.yaml")
    table = {row[0]: row for row in rows((book / "data.html").read_text()) if row}
    assert set(manifest.cohorts) <= set(table)
    assert "66 scans" in table["unam"][2] and "542 scans" in table["ideas"][2]
    assert table["phantom"][2] == "170 control, 170 left, 160 right"
    assert all(
        table[name][3] == entry.licence and entry.source in table[name][1] for name, entry in manifest.cohorts.items()
    )


def test_every_module_and_function_is_in_the_reference(book):
    for path in (ROOT / "tle_utils").glob("*/[a-z]*.py"):
        page, name = book / "reference" / f"{path.parent.name}.html", f"tle_utils.{path.parent.name}.{path.stem}"
        text = page.read_text()
        assert f'id="module-{name}"' in text
        assert page.stat().st_size < 300_000, "a page of the reference loads at once"
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.FunctionDef) and item.name[0] != "_" and ast.get_docstring(item):
                assert f'id="{name}.{item.name}"' in text


def chapters(book):
    """Every page that was a notebook, with the outputs that the notebook shows: dicts of MIME type to content."""
    for path in (book / "_sources").glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        yield book / f"{path.stem}.html", [one["data"] for cell in cells for one in cell["outputs"] if "data" in one]


def test_every_cell_that_drew_has_its_output_on_the_page(book):
    """A figure that no renderer takes leaves a blank, and no word of it."""
    kinds = {
        "application/vnd.plotly.v1+json": 'class="tle-plot"',
        "image/png": '<img[^>]*src="_images',
        "iframe": "<iframe",
        "table": 'class="dataframe"',
    }
    for page, outputs in chapters(book):
        text = re.sub(r'srcdoc="[^"]*"', "", page.read_text())
        counts = dict.fromkeys(kinds, 0)
        for output in outputs:
            html = "".join(output.get("text/html", ""))
            if "application/vnd.plotly.v1+json" in output:
                counts["application/vnd.plotly.v1+json"] += 1
            elif html:
                counts["iframe"] += html.count("<iframe")
                counts["table"] += html.count('class="dataframe"')
            elif "image/png" in output:
                counts["image/png"] += 1
        found = {kind: len(re.findall(mark, text)) for kind, mark in kinds.items()}
        assert {kind: n for kind, n in found.items() if n < counts[kind]} == {}, (page.name, counts)


def test_parameters_are_shown_once_and_nothing_opens_onto_nothing(book):
    mini_only(book, chain=True)
    for page, _ in chapters(book):
        text = page.read_text()
        section = re.search(r'<section id="parameters">.*?</section>', text, re.DOTALL)[0]
        assert section.count("<table") == 1 and "cell_input" not in section, page.name
        assert not re.search(r"</pre>(\s*</div>)+\s*</details>\s*</div>", text), page.name
        assert not re.search(r"\d+/\d+, .*(took|ends) [\d:]+\n", text), page.name


def test_a_negative_number_has_a_minus_and_no_hyphen(book):
    mini_only(book, chain=True)
    hyphens = {}
    for page in book.glob("[a-z0-9]*.html"):
        main = page.read_text().split('id="main-content"')[-1]
        words = re.sub(
            r"<(script|style|pre|code|iframe|head)\b.*?</\1>|<[^>]+>|\\\(.*?\\\)", " ", main, flags=re.DOTALL
        )
        if found := re.findall(r"[\s(\[]-\d[^\s]*", words):
            hyphens[page.name] = found
    assert hyphens == {}


def test_a_picture_says_what_it_shows(book):
    mini_only(book, chain=True)
    for page, _ in chapters(book):
        assert not re.findall(r'alt="Picture of the section[^"]*"', page.read_text()), page.name


def test_a_new_numbered_notebook_enters_the_book(book):
    mini_only(book)
    assert 'href="90_new_chapter.html"' in (book / "intro.html").read_text()


def test_buttons_lead_to_the_source_in_notebooks(book):
    mini_only(book)
    chapter, page, made = (
        (book / name).read_text() for name in ("04_deep_model.html", "methods.html", "run_card.html")
    )
    source = "main/notebooks/04_deep_model.ipynb"
    assert f'href="{REPOSITORY}/edit/{source}"' in chapter
    assert f'href="https://colab.research.google.com/github/owner/name/blob/{source}"' in chapter
    assert 'href="https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/04_deep_model.ipynb"' in chapter
    assert f'href="{REPOSITORY}/edit/main/book/methods.md"' in page
    assert "/edit/" not in made


def test_without_a_repository_no_button_leads_away(book):
    if (book / "90_new_chapter.html").exists():
        pytest.skip("the mini book names a repository")
    configured = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    for path in book.glob("*.html"):
        assert bool(configured) == bool(re.search("mybinder|colab.research|/edit/main/", path.read_text())), path.name


def test_times_and_names_of_the_run_are_told(book):
    card = json.loads((book.parent / "source" / "run.json").read_text())
    times = {row[0]: row[1] for row in rows((book / "reproduce.html").read_text()) if len(row) == 2}
    for name, entry in card["notebooks"].items():
        assert times[name] == clock(entry["seconds"])
    assert (
        re.search(r'href="_downloads/\w+/run.json"', (book / "run_card.html").read_text()) or card["profile"] == "mini"
    )


def test_claims_of_the_checks_page_name_tests_that_exist():
    claims = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "book" / "checked.md").read_text(encoding="utf-8"))
    assert len(claims) > 10
    for path, name in claims:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
