"""One page about a scene: its views and, for each object, pictures, size, score and ambiguity.

The page holds its pictures itself: it is one file, to be sent or kept.
"""

from __future__ import annotations

import html
import math

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.core.types.prompts import AMBIGUOUS
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.target import Plan
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.io.frames import evenly_spaced
from wildseg3d_ros.io.html import document, embedded
from wildseg3d_ros.io.pictures import RGB, cut_out, draw_labels, jpeg, object_colors, scaled
from wildseg3d_ros.io.rendering import DrawingCamera, render_cloud
from wildseg3d_ros.scene.scene import Scene

PAGE = "index.html"
_VIEW_WIDTH, _MOST_VIEWS = 360, 24
_PICTURE = 120
"""Longest edge of the pictures of an object [px]."""
_WORD = {LEVELS[0]: "", LEVELS[1]: "part of", LEVELS[2]: "sub-part of"}

_STYLE = """\
.views { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 }
figcaption { color: #969ea8 }
.views img { margin: 0 }
td { vertical-align: middle }
.wide { overflow-x: auto }
td:first-child { white-space: nowrap }
td img { display: inline-block; vertical-align: middle; margin-right: .5rem; max-width: none }
td b { display: inline-block; width: .8rem; height: .8rem; margin-right: .5rem }
td:nth-child(n+2) { white-space: nowrap }
td:last-child { white-space: normal }
"""


def page(contents: Contents) -> Plan:
    """``index.html``."""
    return {PAGE: lambda path: write_bytes(path, page_text(contents).encode())}


def page_text(contents: Contents) -> str:
    """The text of the page."""
    scene = contents.scene
    colors = object_colors(each.object_id for each in contents.objects)
    shown = evenly_spaced(len(scene.view_names), _MOST_VIEWS)
    views = "".join(_view(contents, view, colors) for view in shown)
    left_out = len(scene.view_names) - len(shown)
    more = f'<p class="notes">{left_out} more views are not shown.</p>\n' if left_out else ""
    rows = "".join(_row(contents, each, colors[each.object_id]) for each in contents.objects)
    warnings = "".join(f"<p>{html.escape(text)}</p>\n" for text in scene.warnings)
    unit = "mm" if scene.alignment.metric else "scene units"
    body = (
        f"<h1>Scene {html.escape(scene.scene_id)}</h1>\n"
        f"<p>{len(contents.objects)} objects in {len(scene.view_names)} views; points in the "
        f"frame '{html.escape(scene.frame_id)}'; scale: "
        f"{html.escape(scene.alignment.scale_text)}.</p>\n"
        f'<div class="notes">{warnings}</div>\n'
        '<h2>Objects</h2>\n<div class="wide">\n<table>\n<tr><th></th><th>id</th>'
        f"<th>size [{unit}]</th><th>points</th><th>views</th><th>score</th><th>ambiguity</th>"
        "<th>seen by</th></tr>\n"
        f"{rows}</table>\n</div>\n"
        '<p class="notes">score: the expected IoU with what a click on the object means. '
        f"ambiguity: how likely something else was meant; above {AMBIGUOUS:g} it is marked. "
        "size: edges of the smallest box about what was seen.</p>\n"
        f'<h2>Views</h2>\n<div class="views">{views}</div>\n{more}'
    )
    return document(f"Scene {scene.scene_id}", body, _STYLE)


def preview(scene: Scene) -> bytes:
    """A small JPEG picture of the view that shows most objects, with these in colours."""
    view = int(np.argmax([len(np.unique(labels)) for labels in scene.labels]))
    drawn = draw_labels(scene.images[view], scene.labels[view], object_colors(scene.object_ids))
    return jpeg(scaled(drawn, _VIEW_WIDTH))


def _row(contents: Contents, each: SceneObject, color: RGB) -> str:
    pictures = _pictures(contents, each)
    factor = 1000.0 if contents.scene.alignment.metric else 1.0
    size = "-"
    if each.box is not None:
        edges = [f"{factor * edge:.3g}" for edge in each.box.size]
        size = " &times; ".join(edges)
    part = f"<br>{_WORD[each.level]} {each.parent}" if each.parent else ""
    patch = f'<b style="background: rgb{color}"></b>'
    cells = (
        pictures,
        f"{patch}{each.object_id}{part}",
        size,
        f"{each.points:,}",
        str(len(each.cameras)),
        _share(each.score),
        _ambiguity(each.ambiguity),
        html.escape(", ".join(each.cameras)),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _pictures(contents: Contents, each: SceneObject) -> str:
    """The object in the view that shows most of it, and its cloud as seen from beside that."""
    mine = [mask for mask in contents.masks if mask.each is each]
    if not mine:
        return ""
    best = max(mine, key=lambda mask: int(mask.mask.sum()))
    scene, name = contents.scene, contents.scene.view_names[best.view]
    image = cut_out(contents.image(best.view), best.mask, _PICTURE)
    made = embedded(image, f"object {each.object_id} in {name}")
    if each.points:
        cloud = contents.cloud(each)
        pose = scene.world_from_cam[best.view]
        camera = DrawingCamera.beside(cloud.points, pose, (_PICTURE, _PICTURE))
        drawn = render_cloud(cloud.points, cloud.colors, camera)
        made += embedded(drawn, f"cloud of object {each.object_id}")
    return made


def _view(contents: Contents, view: int, colors: dict[int, RGB]) -> str:
    image, name = contents.image(view), contents.scene.view_names[view]
    drawn: NDArray[np.uint8] = draw_labels(image, contents.labels(view), colors)
    picture = embedded(scaled(drawn, _VIEW_WIDTH), f"objects in {name}")
    return f"<figure>{picture}<figcaption>{html.escape(name)}</figcaption></figure>\n"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _ambiguity(value: float) -> str:
    said = _share(value)
    return f'<span class="unchecked">{said}, ambiguous</span>' if value > AMBIGUOUS else said
