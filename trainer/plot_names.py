"""Names beside the points of a plot, each where it covers least of the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

SIZE, REACH = 8.0, 7.0  # of a letter and of a point's ring, in typographic points


@dataclass(frozen=True, slots=True)
class Named:
    """A point, the ends of its interval, and what is written beside it."""

    text: str
    x: float
    y: float
    low: float
    high: float


def write_names(axes: Axes, points: Sequence[Named], colour: str) -> None:
    """Each name right or left of its point, above or below: where it meets fewest names, points and intervals.

    To be called once everything else is drawn and the axes have their limits.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # only then is it known where points will be
    scale = 72 / figure.dpi
    at = [axes.transData.transform((one.x, one.y)) * scale for one in points]
    taken = [Bbox.from_extents(x - REACH, y - REACH, x + REACH, y + REACH) for x, y in at]
    for one, (x, _) in zip(points, at, strict=True):
        ends = [axes.transData.transform((one.x, end))[1] * scale for end in (one.low, one.high)]
        taken.append(Bbox.from_extents(x - 1, ends[0], x + 1, ends[1]))
    for one, (x, y) in zip(points, at, strict=True):
        width = 0.65 * SIZE * len(one.text)
        sides, levels = (REACH + 2, -REACH - 2 - width), (2.0, -SIZE - 2.0, REACH + 4.0, -SIZE - REACH - 4.0)
        places = [(left, low) for left in sides for low in levels]
        boxes = [Bbox.from_bounds(x + left, y + low, width, SIZE) for left, low in places]
        best = min(range(len(places)), key=lambda i: sum(boxes[i].overlaps(other) for other in taken))
        axes.annotate(one.text, (one.x, one.y), places[best], textcoords="offset points", fontsize=SIZE, color=colour)
        taken.append(boxes[best])
