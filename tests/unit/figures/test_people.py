import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from makers import random_table
from PIL import Image

from tle_utils.figures import people


@pytest.fixture(scope="module")
def found():
    """Two models, twelve participants: the name of one is markup, another has a map; the left half is tissue."""
    tables = [random_table(seed, n=12, model=model) for seed, model in enumerate(("chosen", "other"))]
    table = pd.concat([*tables, tables[0].assign(split="validation"), tables[0].assign(repeat=1)], ignore_index=True)
    names = table["participant_id"].unique()
    table["participant_id"] = table["participant_id"].replace(names[0], "<b>&x")
    names[0], half = "<b>&x", np.zeros((160, 160), np.float32)
    half[:, :80] = 1
    listed = people.people_list(
        table, dict.fromkeys(names, half), {names[1]: half.astype(np.float16)}, {names[2]: ", noted"}
    )
    return table, names, re.findall(r"<details>.*?</details>", listed.data), listed.data


def test_every_participant_has_one_line_with_the_probabilities_of_every_model(found):
    table, names, parts, _ = found
    assert len(parts) == len(names)
    for part in parts:
        assert part.count("<tr>") + part.count("<tr ") == 3, "a head and two models"
    row = table[(table["participant_id"] == names[1]) & (table["model"] == "other")].iloc[0]
    cells = "".join(f"<td>{row[f'p_{name}']:.2f}</td>" for name in ("control", "left", "right"))
    assert f"<td>other</td>{cells}<td>{row['predicted']}</td>" in parts[list(sorted(names)).index(names[1])]


def test_a_line_says_whether_the_first_model_is_correct(found):
    table, names, parts, _ = found
    rows = table[(table["split"] == "test") & (table["repeat"] == 0)]
    for name, part in zip(sorted(names), parts, strict=True):
        own = rows[rows["participant_id"] == name]
        correct = own["predicted"] == own["group"]
        word = "correct" if correct.iloc[0] else "wrong"
        assert f"chosen: {word}; found by {correct.sum()} of 2 models</summary>" in part
    assert sum("TLE, noted;" in part or "Control, noted;" in part for part in parts) == 1


def test_names_are_text_and_not_markup(found):
    assert "<b>" not in found[3] and found[3].count("&lt;b&gt;&amp;x") >= 2


def test_left_of_the_slice_stays_left_and_only_who_has_a_map_gets_a_second_picture(found):
    _, names, parts, _ = found
    counts = {name: part.count("<img ") for name, part in zip(sorted(names), parts, strict=True)}
    assert {name for name, count in counts.items() if count == 2} == {names[1]} and set(counts.values()) == {1, 2}
    sources = re.findall(r"L <img [^>]*base64,([^\"]+)\"> R", parts[sorted(names).index(names[1])])
    plain, mapped = (np.asarray(Image.open(io.BytesIO(base64.b64decode(one))), float) for one in sources)
    assert plain[:, :60].mean() < 60 < 200 < plain[:, 100:].mean(), "tissue is dark"
    assert (mapped[:, :60] @ [1, -1, 0]).mean() > 50 > abs(mapped[:, 100:] @ [1, -1, 0]).mean(), (
        "what speaks for is red"
    )
