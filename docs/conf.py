"""How Sphinx makes the site: ``make docs``.

Nothing is loaded from elsewhere when a page is read. Mermaid pictures are drawn in the browser by
the copy of Mermaid that nicegui (extra ``viewer``) brings; code hosts draw the same text. Formulas
become MathML, which browsers set without a script.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from wildseg3d_ros import __version__
from wildseg3d_ros.core.errors import ErrorCode

project = "wildseg3d"
author = "the wildseg3d contributors"
project_copyright = f"{author}, Apache-2.0"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.py", "Thumbs.db"]
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages have no page here

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

highlight_language = "none"
html_theme = "furo"
html_title = f"wildseg3d {__version__}"
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]

SEARCHED = {
    "reference/errors": tuple(code.name.lower().replace("_", " ") for code in ErrorCode),
    "how-to/own-recording": ("own recording", "own images", "my data"),
    "how-to/doubled-cloud": ("point cloud doubled", "double point cloud", "ghosting"),
    "how-to/extending": ("plug in", "plugin", "own segmenter", "own network"),
    "how-to/rig": ("extrinsics", "calibration"),
    "how-to/no-gpu": ("offline", "laptop"),
    "how-to/choose-back-ends": ("ZED", "stereo camera", "no depth"),
    "reference/node": ("QoS", "best effort", "firewall"),
    "reference/parameters": ("QoS", "best effort"),
    "contributing": ("bug", "report a bug"),
    "how-to/viewer": ("merge objects",),
    "how-to/moved-camera": ("hand-eye",),
    "how-to/batch": ("resume",),
    "tutorials/overnight": ("300 bags", "bag overnight"),
    "tutorials/four-cameras": ("RealSense", "MoveIt"),
    "explanation/method": ("cite", "confirmed"),
}
"""What people search for, by the page that answers it, where the page has other words."""


class SearchWords(SphinxTransform):
    """Puts the words that a page is searched by into the index, before it is collected."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        """To the page that is read."""
        words = SEARCHED.get(self.env.docname, ())
        section = next(iter(self.document.findall(nodes.section)), None)
        if words and section is not None:
            at = section["ids"][0]
            section.insert(
                1, addnodes.index(entries=[("single", w, at, "main", None) for w in words])
            )


class Mermaid(Directive):
    """A Mermaid picture, to be drawn in the browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture's text, and the script that draws it."""
        text = nodes.Text("\n".join(self.content)).astext()
        for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(sign, name)
        html = (
            f'<pre class="mermaid">{text}</pre>\n<script type="module">\n'
            'import { mermaid } from "../_static/mermaid/index.js";\n'
            "mermaid.initialize({ startOnLoad: true, maxEdges: 1000 });\n</script>"
        )
        return [nodes.raw("", html, format="html")]


def copy_mermaid(app: Sphinx, error: Exception | None) -> None:
    """Puts nicegui's copy of Mermaid beside the pages."""
    found = importlib.util.find_spec("nicegui")
    if error is None and found is not None and found.origin is not None:
        source = Path(found.origin).parent / "elements" / "mermaid" / "dist"
        target = Path(app.outdir) / "_static" / "mermaid"
        shutil.copytree(source, target, dirs_exist_ok=True)


def set_formula(writer: Any, node: nodes.math) -> None:
    """Writes a formula in a line of text."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def set_displayed_formula(writer: Any, node: nodes.math_block) -> None:
    """Writes a formula that stands by itself."""
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Registers what stands above."""
    app.add_html_math_renderer("mathml", (set_formula, None), (set_displayed_formula, None))
    app.add_directive("mermaid", Mermaid)
    app.add_transform(SearchWords)
    app.connect("build-finished", copy_mermaid)
