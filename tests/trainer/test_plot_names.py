"""The names of checkpoints on a plot: each beside its own point, none over another."""

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from trainer.plot_names import Named, write_names

CROWDED = [(0.0, -0.1), (2.03, 0.06), (1.9, 0.29), (2.01, 0.33), (1.98, 0.03)]


@pytest.mark.parametrize("points", [CROWDED, [(1.0, 1.0), (1.0, 1.0)], [(3.0, 0.5)]])
def test_no_name_covers_another(points: list[tuple[float, float]]) -> None:
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*zip(*points, strict=True))
    named = [Named(f"@{number}", x, y, y - 0.2, y + 0.2) for number, (x, y) in enumerate(points)]
    write_names(axes, named, "black")
    figure.draw_without_rendering()
    written = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in written] == [one.text for one in named]
    boxes = [text.get_window_extent() for text in written]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for box, point in zip(boxes, points, strict=True):
        x, y = axes.transData.transform(point)
        assert not box.contains(x, y) and abs((box.x0 + box.x1) / 2 - x) < 40 and abs((box.y0 + box.y1) / 2 - y) < 40
