"""The card: no probability without an answer, every label escaped, readable without anything else."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from makers import PERSON, average, card, norm_cohort
from matplotlib.figure import Figure

from tle_utils.patient import ensemble, norms, report
from tle_utils.patient.case import Case, Given

EVIL = '<script>alert("x")</script> & "sub" \'01\'.nii.gz'
MEMBERS = np.array([[[0.1, 0.7, 0.2]], [[0.2, 0.6, 0.2]], [[0.3, 0.5, 0.2]]])
ANSWER = ensemble.Answer(MEMBERS.mean(axis=0), MEMBERS, MEMBERS)
EMPTY = {"img", "meta"}


class Checked(HTMLParser):
    """Tags in order, refusing those that do not close what is open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.alts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.references += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt"))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def model():
    volumes, people = norm_cohort(40)
    return ensemble.Ensemble(card(norms=norms.fit_norms(volumes, people, ["control"] * 40)), [])


@pytest.fixture(scope="module")
def table(model):
    return norms.zscores(model.card.norms, average(hippocampus_left=0.7), PERSON)


def _case(name="scan.nii.gz", **more):
    facts = {
        "input_sha256": "f" * 64,
        "orientation": "LAS",
        "qc": {"gm_ml": np.float32(600), "odd": np.nan},
        "times": {},
    }
    return Case(Given(name, None, "t1w", PERSON), **({"reasons": [], "notes": [], "facts": facts} | more))


def _content(model, table, case=None):
    return report.card_content(case or _case(), model, model.card.conformal[0], ANSWER, ("left", "right"), table)


def _page(folder, found, card, *pictures):
    """The card that is written, with a small picture for each description."""
    figure = Figure(figsize=(0.1, 0.1))
    return report.write_card(found, card, folder, dict.fromkeys(pictures, figure))[0].read_text()


def test_probabilities_and_their_spread(model, table):
    found = _content(model, table)
    assert found["status"] == "answered" and found["members"] == 3
    assert found["probabilities"]["left"] == {"probability": 0.6, "low": 0.5, "high": 0.7, "p5": 0.51, "p95": 0.69}
    assert found["set"]["text"] == "A patient, but the side cannot be told."
    assert found["hippocampus"]["left"]["z"] < -3 and abs(found["hippocampus"]["right"]["z"]) < 2


def test_no_probability_where_there_is_a_reason(model, table, tmp_path):
    found = _content(model, table, _case(reasons=["left and right are unknown"]))
    assert found["status"] == "no answer"
    assert all(found[key] is None for key in ("probabilities", "set", "members", "hippocampus", "regions"))
    page = _page(tmp_path, found, model.card)
    assert "left and right are unknown" in page and "No answer" in page
    assert "<meter" not in page and "Probabilities" not in page and "60%" not in page


@pytest.mark.parametrize("reasons", [[], [EVIL]])
def test_labels_are_escaped_everywhere(model, table, reasons, tmp_path):
    case = _case(EVIL, reasons=reasons, notes=[EVIL])
    changed = model.card.model_copy(update={"name": EVIL, "task": EVIL, "cohort": EVIL})
    found = report.card_content(case, ensemble.Ensemble(changed, []), changed.conformal[0], ANSWER, ("left",), table)
    page = _page(tmp_path, found, changed, EVIL)
    checked = Checked(page)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "script" not in checked.tags and checked.alts == [EVIL]


def test_page_is_whole_and_needs_nothing_else(model, table, tmp_path):
    page = _page(tmp_path, _content(model, table), model.card, "What speaks for it")
    checked = Checked(page)
    assert checked.open == [] and checked.alts == ["What speaks for it"]
    assert all(reference.startswith("data:") for reference in checked.references)
    assert "f" * 64 in page, "the card names the checksum of its scan"
    assert "http" not in page and "@import" not in page and "url(" not in page
    assert 'lang="en"' in page and "prefers-color-scheme:dark" in page and "color-scheme:light dark" in page
    assert page.index("For research only") < page.index("Probabilities")
    assert checked.tags.count("caption") == checked.tags.count("thead") and "h1" in checked.tags
    for cell in re.findall(r"<th[ >][^>]*", page):
        assert "scope=" in cell


def test_files_are_strict_json_and_the_same_page(model, table, tmp_path):
    found = _content(model, table)
    html, path = report.write_card(found, model.card, tmp_path)

    def refuse(text):
        raise AssertionError(text)

    again = json.loads(path.read_text(), parse_constant=refuse)
    assert again == found and again["quality"] == {"gm_ml": 600.0, "odd": None}
    assert html.read_text() == _page(tmp_path / "again", found, model.card)


def test_volumes_without_norms_are_shown_without_z(tmp_path):
    bare = ensemble.Ensemble(card(), [])
    table = norms.zscores(bare.card.norms, average(), PERSON)
    found = report.card_content(_case(), bare, bare.card.conformal[0], ANSWER, ("left",), table)
    page = _page(tmp_path, found, bare.card)
    assert "fewer than 10 controls" in page and "nan" not in page.casefold()


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((), "Cannot tell: none of the classes fits."),
        (("control", "left", "right"), "Cannot tell: no class can be ruled out."),
        (("left", "right"), "A patient, but the side cannot be told."),
        (("left",), "Left TLE."),
        (("control", "right"), "Control or Right TLE."),
    ],
)
def test_sets_in_words(classes, text):
    assert report.set_text(classes) == text
