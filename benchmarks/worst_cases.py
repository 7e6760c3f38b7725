"""Pictures of the clicks that were answered worst."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.io.images import write_image

if TYPE_CHECKING:
    from benchmarks.clicks import ClickRecord

COUNT = 10
TRUE, ANSWERED = (255, 255, 255), (255, 43, 214)
"""Both have a black rim: they are seen on anything, by readers who are colour-blind, too."""
WIDTH, GAP, COLUMNS = 640, 16, 4
"""Of a picture, between pictures [px], and pictures side by side on the sheet."""
LETTERS, LINE = 1.35, 52
"""Scale of letters and height of a line [px], to be read when a sheet is as wide as a page."""
MARGIN = 1.8
"""Edge of what is shown, relative to the extent of truth and answer."""

Badness: TypeAlias = tuple[float, int]
"""IoU to a tenth and wrong pixels, negative: the lowest is worst."""


class WorstCases:
    """Keeps the worst click of each object, of the ``COUNT`` objects answered worst.

    Among IoUs that are equal to a tenth, more wrong pixels in the clicked view count as worse:
    answers that are far too large and objects without an answer are both to be seen.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[Badness, NDArray[np.uint8]]] = {}

    def offer(
        self,
        record: ClickRecord,
        image: NDArray[np.uint8],
        truth: NDArray[np.bool_],
        answered: NDArray[np.bool_],
    ) -> None:
        """Keeps a picture of the click if it is among the worst.

        Args:
            image: (H, W, 3) RGB, the clicked view.
            truth, answered: (H, W) masks of the object in it.
        """
        badness = round(record.iou, 1), -int(np.count_nonzero(truth ^ answered))
        kept = self._kept.get(record.key)
        if kept is not None and kept[0] <= badness:
            return
        self._kept[record.key] = badness, draw_case(record, image, truth, answered)
        if len(self._kept) > COUNT:
            del self._kept[max(self._kept, key=lambda key: self._kept[key][0])]

    def write(self, folder: Path) -> None:
        """Writes ``worst_01.png``, the worst, and so on, and ``sheet.png`` of all.

        Raises:
            FileError: a file cannot be written.
        """
        pictures = self.pictures()
        for place, picture in enumerate(pictures, 1):
            write_image(folder / f"worst_{place:02d}.png", picture)
        if pictures:
            write_image(folder / "sheet.png", sheet(pictures))

    def pictures(self) -> list[NDArray[np.uint8]]:
        """Of the cases, the worst first."""
        return [picture for _, picture in sorted(self._kept.values(), key=lambda case: case[0])]


def draw_case(
    record: ClickRecord,
    image: NDArray[np.uint8],
    truth: NDArray[np.bool_],
    answered: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """(H, WIDTH, 3) the part of the image about both outlines, the click and, above, the IoU and
    what was clicked."""
    left, top, edge = _window(truth | answered)
    scale, size = WIDTH / edge, (WIDTH, WIDTH)
    shown = np.s_[top : top + edge, left : left + edge]
    picture = np.asarray(cv2.resize(image[shown], size, interpolation=cv2.INTER_AREA), np.uint8)
    for mask, color, thick in ((truth, TRUE, 5), (answered, ANSWERED, 4)):
        large = cv2.resize(mask[shown].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        lines = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
        for each, width in (((0, 0, 0), thick + 6), (color, thick)):
            cv2.drawContours(picture, lines, -1, each, width)
    pixel = record.u - left, record.v - top
    draw_click(picture, tuple(round(scale * (each + 0.5) - 0.5) for each in pixel))
    said = "no answer" if record.error else f"IoU {record.iou:.2f}"
    draw = f", draw {record.draw}" if record.draw else ""
    where = f"{record.recording}{draw}, {record.view}: {record.name}"
    return np.concatenate([caption(f"{said} ({record.kind} click)", where), picture])


def draw_click(picture: NDArray[np.uint8], at: tuple[int, ...]) -> None:
    """A cross where the click is."""
    for color, thick in (((0, 0, 0), 12), ((255, 255, 255), 5)):
        cv2.drawMarker(picture, at, color, cv2.MARKER_CROSS, 48, thick)


def caption(*lines: str) -> NDArray[np.uint8]:
    """Lines of white text on black, as wide as a picture."""
    strip = np.zeros((LINE * len(lines) + LINE // 3, WIDTH, 3), np.uint8)
    for number, text in enumerate(lines, 1):
        write_text(strip, text, (10, LINE * number - 8))
    return strip


def write_text(picture: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    """White letters, their baseline beginning at a pixel, smaller where there is no room."""
    font, room = cv2.FONT_HERSHEY_SIMPLEX, picture.shape[1] - at[0]
    wide = cv2.getTextSize(text, font, LETTERS, 3)[0][0]
    size = LETTERS * min(1.0, room / wide)
    cv2.putText(picture, text, at, font, size, (255, 255, 255), 3, cv2.LINE_AA)


def legend() -> NDArray[np.uint8]:
    """What outlines and cross are, as one more picture of a sheet."""
    tile = np.full((3 * LINE + 40, WIDTH, 3), 90, np.uint8)
    said = ("true outline", TRUE), ("answer", ANSWERED), ("click", None)
    for number, (text, color) in enumerate(said):
        row = LINE * number + 44
        write_text(tile, text, (150, row + 16))
        if color is None:
            draw_click(tile, (75, row))
        else:
            for each, thick in (((0, 0, 0), 13), (color, 6)):
                cv2.line(tile, (20, row), (130, row), each, thick)
    return tile


def _window(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """First column and row, and edge, of a square of the image about a mask with a pixel."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    extent = max(np.ptp(rows), np.ptp(columns))
    edge = int(min(max(MARGIN * extent, 0.4 * height), height, width))
    left, top = (
        int(np.clip((each.min() + each.max() - edge) / 2, 0, size - edge))
        for each, size in ((columns, width), (rows, height))
    )
    return left, top, edge


def sheet(pictures: list[NDArray[np.uint8]], columns: int = COLUMNS) -> NDArray[np.uint8]:
    """Pictures of ``WIDTH`` with their numbers, row by row, and the legend."""
    tiles = [np.array(picture) for picture in pictures]
    for number, tile in enumerate(tiles, 1):
        corner = tile[-LINE - 12 :, : 64 if number < 10 else 92]
        corner[:] = 0
        write_text(corner, str(number), (14, LINE - 2))
    tiles.append(legend())
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(len(tile) for tile in row) for row in rows]
    shape = sum(heights) + GAP * (len(rows) - 1), columns * (WIDTH + GAP) - GAP, 3
    drawn = np.full(shape, 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = column * (WIDTH + GAP)
            drawn[top : top + len(tile), left : left + WIDTH] = tile
        top += height + GAP
    return drawn
