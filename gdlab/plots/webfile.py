"""Web pages that hold all that they need: their elements, styles, scripts, libraries and data."""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WEB = Path(__file__).with_name("web")
"""The folder of the libraries, and of what all pages share."""

LARGEST_PAGE = 20_000_000
"""The largest page that is made, in bytes: a browser still opens it at once."""

LIBRARIES = {"D3": "d3", "Observable Plot": "plot"}
"""The files of the libraries that all pages embed, by name."""


def packed(array: np.ndarray, kind: str) -> dict[str, Any]:
    """Return an array as text: little-endian numbers, the first bytes of all, then the second ones, compressed."""
    with np.errstate(over="ignore"):  # what single precision cannot hold is drawn as infinite
        flat = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).reshape(-1)
    planes = flat.view(np.uint8).reshape(flat.size, -1).T
    coded = gzip.compress(planes.tobytes(), 6, mtime=0)
    return {"kind": kind, "shape": array.shape, "data": base64.b64encode(coded).decode()}


def finite(value: Any) -> Any:
    """Return a value for JSON, in which what is not finite is null."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def libraries() -> list[str]:
    """Return the names of the libraries on a page, with the versions that their first lines state."""
    found = []
    for name, file in LIBRARIES.items():
        with (WEB / f"{file}.min.js").open() as script:
            found.append(name + re.sub(r".* v([\d.]+) .*", r" \1", script.readline().strip()))
    return found


def filled(body: Path, title: str, data: Any, *, styles: Sequence[Path], scripts: Sequence[Path]) -> str:
    """Return a page: what all pages share, with its own elements and styles, the libraries, its scripts and the data.

    No text of the data can end its element or begin another one. The browser runs only the scripts whose digests the
    page names, and loads nothing from anywhere.

    Args:
      body: the file of the page's own elements.
      title: the title.
      data: what the scripts read, as values that JSON supports; numbers that are not finite become null.
      styles: the files of the styles, in order.
      scripts: the files of the scripts, which run in this order, after the libraries.
    """
    files = [*(WEB / f"{file}.min.js" for file in LIBRARIES.values()), *scripts]
    texts = [file.read_text(encoding="utf-8") for file in files]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    parts = {
        "title": html.escape(title),
        "body": body.read_text(encoding="utf-8").rstrip(),
        "policy": " ".join(f"'sha256-{digest}'" for digest in digests),
        "style": "\n".join(file.read_text(encoding="utf-8") for file in styles),
        "licenses": "\n\n".join(
            html.escape(f"{name}\n{(WEB / f'{file}.LICENSE').read_text()}") for name, file in LIBRARIES.items()
        ),
        "data": json.dumps(finite(data), separators=(",", ":")).replace("<", "\\u003c"),
        "scripts": "\n".join(f"<script>{text}</script>" for text in texts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (WEB / "page.html").read_text(encoding="utf-8"))
