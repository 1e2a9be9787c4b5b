"""Write the picture of README.md from an executed chapter 1: ``python book/picture.py [runs/demo-phantom]``."""

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "book" / "_static" / "way.png"
CHAPTER, NAME = "01_preprocessing", "preprocessing-way"


def write(run, path=PICTURE):
    """Write what chapter 1 of a run folder glued under `NAME` to a path, in 64 colours and the width of a page."""
    notebook = json.loads((Path(run) / "notebooks" / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    glued = next(out for out in outputs if out.get("metadata", {}).get("scrapbook", {}).get("name") == NAME)
    png = next(content for kind, content in glued["data"].items() if kind.endswith("image/png"))
    with Image.open(io.BytesIO(base64.b64decode("".join(png)))) as picture:
        picture.thumbnail((900, 900))
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs" / "demo-phantom")
