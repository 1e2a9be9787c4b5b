"""Every participant's answers, slice and importance map, one by one: HTML that is searched without a kernel."""

import base64
import io
import re
from html import escape

import numpy as np
from IPython.display import HTML
from matplotlib import colormaps
from PIL import Image

from tle_utils.figures import tables
from tle_utils.figures.numbers import NAMES

FIND = """
const box = this.closest(".tle-people"), words = this.value.toLowerCase().split(" ");
const fits = (one) => words.every((word) => one.firstElementChild.textContent.toLowerCase().includes(word));
for (const one of box.querySelectorAll("details")) one.hidden = !fits(one);
box.querySelector("output").value = box.querySelectorAll("details:not([hidden])").length;
"""


def _picture(pixels, name):
    """A slice between the letters of its sides, in the page itself; `pixels` lie between 0 and 1."""
    file = io.BytesIO()
    Image.fromarray(np.uint8(255 * pixels)).save(file, "WEBP", quality=30, method=6)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f'<span>L <img alt="{escape(name)}" src="{source}"> R</span>'


def _pictures(name, image, importance):
    """Slice of a participant, and beside it, where there is a map, what speaks for (red) and against the answer."""
    found = _picture(colormaps["gray_r"](image)[..., :3], f"Slice of {name}")
    if importance is not None:
        share = importance.astype(float) / max(np.abs(importance).max(), np.finfo(np.float16).tiny)
        weight = np.clip(2 * np.abs(share), 0, 0.9)[..., None]
        over, under = colormaps["RdBu_r"]((share + 1) / 2)[..., :3], colormaps["gray_r"](image / 2)[..., :3]
        found += _picture(weight * over + (1 - weight) * under, f"Importance on the slice of {name}")
    return f"<p>{found}</p>"


def people_list(predictions, images, importance, notes):
    """A searchable list of participants; a name opens the probabilities of every model and the pictures (HTML).

    Parameters
    ----------
    predictions : pandas.DataFrame
        Test rows of one repeat count; the line of a participant says whether the first model is correct.
    images : dict of str to numpy.ndarray
        Participant to slice, shape (160, 160), in the layout of `slices.load_slices`.
    importance : dict of str to numpy.ndarray
        Participant to signed map of the same shape, for those who have one.
    notes : dict of str to str
        What the line says behind the true class.
    """
    rows, parts = predictions[(predictions["split"] == "test") & (predictions["repeat"] == 0)], []
    columns = {"p_control": "control", "p_left": "left", "p_right": "right", "predicted": "called"}
    for name, part in rows.groupby("participant_id"):
        correct = part["predicted"] == part["group"]
        who = f"{name}: {NAMES[part['group'].iloc[0]]}{notes.get(name, '')}"
        line = f"{who}; {part['model'].iloc[0]}: {'correct' if correct.iloc[0] else 'wrong'}"
        line += f"; found by {correct.sum()} of {len(part)} models"
        text = tables.texts(part[["model", *columns]].rename(columns=columns), 2).to_html(index=False, border=0)
        text = re.sub(r"\n\s*", "", text).replace(' class="dataframe"', "")
        pictures = _pictures(name, images[name], importance.get(name))
        parts.append(f"<details><summary>{escape(line)}</summary>{pictures}{text}</details>")
    search = f'<label>Search <input type="search" oninput="{escape(FIND)}"></label> '
    count = f'<output aria-live="polite">{len(parts)}</output> participants'
    return HTML(f'<div class="tle-people">{search}{count}{"".join(parts)}</div>')
