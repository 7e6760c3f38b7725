"""Pages that are written to a file: their head and their looks."""

from __future__ import annotations

import base64
import html

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.io.pictures import BAD, CHANGED, GOOD, UNSURE, jpeg

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1540px; margin: 0 auto;
  padding: 1.5rem; background: #1c1f24; color: #ebeef2 }
h1, h2 { font-weight: 600; margin: 2rem 0 .5rem }
h1 { margin-top: 0 }
p { max-width: 60rem; margin: .4rem 0 }
img { display: block; max-width: 100%; margin: 0 0 1rem; border: 1px solid #3a4048 }
td img { margin: 0 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #3a4048;
  vertical-align: top }
th, .notes { color: #969ea8; font-weight: 400 }
i { white-space: nowrap; font-style: normal }
""" + "".join(
    f".{verdict} {{ color: rgb{color} }}\n"
    for verdict, color in (
        ("ok", GOOD),
        ("moved", CHANGED),
        ("unchecked", UNSURE),
        ("suspect, .left", BAD),
    )
)


def document(title: str, body: str, style: str = "") -> str:
    """The text of a page.

    Args:
        title: plain text.
        body: HTML.
        style: CSS beside what all pages have.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def embedded(image: NDArray[np.uint8], text: str) -> str:
    """The element of an RGB image (H, W, 3) that the page itself holds; ``text`` says what it
    shows."""
    data = base64.b64encode(jpeg(image)).decode()
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="{html.escape(text)}">'
    )
