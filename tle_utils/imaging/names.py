"""What the name of an image says: its kind and its tissue, and how maps of our own are called."""

import re
from pathlib import Path

from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas

PROBABILITIES = ("probseg", "probability")  # ends of names by BIDS derivatives and by Clinica
TISSUES = {"2": "white matter", "wm": "white matter", "whitematter": "white matter", "3": "fluid", "csf": "fluid"}
# CAT12's and SPM's, modulated (group 1) or not; a letter follows where participants could be called so: c1sub-01 is a
# map, c10_T1w is a scan
SEGMENTED = re.compile(r"(?:s\d*)?(?:m0?wr?[cp](\d)|(?:wr?[cp]|r?c)(\d)(?=[A-Za-z]))")
SAID = re.compile(r"desc-(un)?modulated|modulated-(on|off)(?![a-z])")


def map_name(participant_id, *, modulated, fwhm_mm=0.0):
    """File name of a grey-matter map, for example ``sub-01_space-…_desc-modulated_label-GM_probseg.nii.gz``."""
    smooth = f"smooth{fwhm_mm:g}".replace(".", "p") if fwhm_mm else ""
    kind = "modulated" if modulated else "unmodulated"
    return f"{participant_id}_space-{atlas.SPACE}_desc-{kind}{smooth}_label-GM_probseg.nii.gz"


def is_modulated(path, data):
    """Whether a grey-matter map is modulated, by its name (CAT12, SPM, Clinica, our own), else by its values."""
    name = Path(path).name
    if found := SEGMENTED.match(name):
        return found[1] is not None
    if found := SAID.search(name):
        return not found[1] and found[2] != "off"
    return "probseg" not in name and bool(data.max() > 1.05)


def kind_by_name(path):
    """Kind of an image by its full name: ``gm`` for a grey-matter map, else ``t1w``.

    Grey-matter maps are CAT12's ``mwp1*``, SPM's ``mwc1*`` and ``c1*`` with a name behind it, BIDS derivatives with
    ``label-GM`` that end in ``probseg``, and Clinica's ``segm-graymatter`` that end in ``probability``.

    Raises
    ------
    TLEError
        By its name it is a map of another tissue.
    """
    name = Path(path).name
    *entities, end = name.partition(".")[0].split("_")
    named = dict(entity.split("-", 1) for entity in entities if "-" in entity)
    tissue = named.get("label", named.get("segm", "")).lower()
    grey = tissue in ("gm", "graymatter") and end in PROBABILITIES
    if found := SEGMENTED.match(name):
        tissue = found[1] or found[2]
        grey = tissue == "1"
    if grey:
        return "gm"
    if not (tissue or end in PROBABILITIES):
        return "t1w"
    raise TLEError(
        f"{name}: by its name a map of {TISSUES.get(tissue, 'something else')}: give a T1w scan or a grey-matter map "
        "(mwp1*, mwc1*, label-GM_probseg), or say with image_kind which of them it is"
    )
