"""The front of faithfulness against cost, against its definition, and as it is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from assay.leaderboard.pareto import HEIGHT, WIDTH, Method, front, plot


def method(name: str, cost: float, skill: float) -> Method:
    return Method(name, cost, skill, skill - 0.05, skill + 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_beats_on_cost_and_skill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, skills = rng.integers(1, 8, 25).tolist(), rng.integers(0, 8, 25).tolist()
    found = front(costs, skills)
    kept = {(costs[place], skills[place]) for place in found}
    assert len(kept) == len(found)
    for cost, skill in zip(costs, skills, strict=True):
        beaten = any(
            other <= cost and another >= skill and (other, another) != (cost, skill)
            for other, another in zip(costs, skills, strict=True)
        )
        assert ((cost, skill) in kept) == (not beaten)


def test_what_costs_nothing_stands_left_of_the_logarithmic_axis() -> None:
    drawn = plot("rows", [method("length", 0.0, 0.1), method("gradient", 2.0, 0.3), method("lime", 200.0, 0.8)])
    assert drawn is not None
    assert [point.name for point in drawn.points] == ["length", "gradient", "lime"]
    assert drawn.points[0].x < drawn.x_ticks[1][0] < drawn.points[1].x < drawn.points[2].x
    assert [text for _, text in drawn.x_ticks] == ["0", "1", "10", "100", "1,000"]
    distances = np.diff([place for place, _ in drawn.x_ticks[1:]])
    assert distances == pytest.approx(distances[0], abs=0.2)


def test_a_method_without_a_skill_or_a_cost_is_named_and_not_drawn() -> None:
    drawn = plot("seconds", [method("a", 1.0, 0.5), method("b", float("nan"), 0.6), method("c", 1.0, float("nan"))])
    assert drawn is not None
    assert (len(drawn.points), drawn.left_out) == (1, ["b", "c"])
    assert plot("seconds", [method("c", 1.0, float("nan"))]) is None


@pytest.mark.parametrize("count", [1, 12, 200])
def test_names_lie_inside_and_not_on_each_other(count: int) -> None:
    rng = np.random.default_rng(count)
    many = [method(f"method_{place}", 10 ** rng.uniform(0, 3), rng.uniform(-3, 1)) for place in range(count)]
    drawn = plot("rows", many)
    assert drawn is not None
    boxes = []
    for point in drawn.points:
        assert 0 <= point.x <= WIDTH
        assert 0 <= point.y <= HEIGHT
        if point.label:
            x, y, anchor, name = point.label
            width = (6.9 if point.on_front else 6.3) * len(name)
            left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
            boxes.append((left, y - 9, left + width, y + 2))
    assert len(boxes) >= min(count, 3)
    for place, one in enumerate(boxes):
        assert one[0] >= 0
        assert one[2] <= WIDTH
        for other in boxes[place + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert len(drawn.y_ticks) <= 12
