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
TRUE, ANSWERED = (60, 230, 90), (255, 60, 220)
WIDTH, GAP, COLUMNS = 640, 8, 2
"""Of a picture, between pictures [px], and pictures side by side on the sheet."""
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
    """(WIDTH, WIDTH, 3) the part of the image about both outlines, true in green and answered in
    magenta, the click and, in the corner, the IoU and what was clicked."""
    left, top, edge = _window(truth | answered)
    scale, size = WIDTH / edge, (WIDTH, WIDTH)
    shown = np.s_[top : top + edge, left : left + edge]
    picture = np.asarray(cv2.resize(image[shown], size, interpolation=cv2.INTER_AREA), np.uint8)
    for mask, color, thick in ((truth, TRUE, 5), (answered, ANSWERED, 2)):
        large = cv2.resize(mask[shown].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        lines = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
        cv2.drawContours(picture, lines, -1, color, thick)
    pixel = record.u - left, record.v - top
    at = round(scale * (pixel[0] + 0.5) - 0.5), round(scale * (pixel[1] + 0.5) - 0.5)
    for color, thick in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.drawMarker(picture, at, color, cv2.MARKER_CROSS, 18, thick)
    said = "no answer" if record.error else f"IoU {record.iou:.2f}"
    draw = f", draw {record.draw}" if record.draw else ""
    where = f"{record.dataset}, {record.recording}{draw}, {record.view}: {record.name}"
    cv2.rectangle(picture, (0, 0), (WIDTH, 44), (0, 0, 0), -1)
    for text, baseline in ((f"{said} ({record.kind} click)", 17), (where, 37)):
        cv2.putText(
            picture,
            text,
            (6, baseline),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return picture


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
    """Pictures of ``WIDTH``, row by row."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(len(picture) for picture in row) for row in rows]
    shape = sum(heights) + GAP * (len(rows) - 1), columns * (WIDTH + GAP) - GAP, 3
    drawn = np.zeros(shape, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            left = column * (WIDTH + GAP)
            drawn[top : top + len(picture), left : left + WIDTH] = picture
        top += height + GAP
    return drawn
