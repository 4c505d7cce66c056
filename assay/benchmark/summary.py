"""From the examples of a cell to its numbers: means with bootstrap intervals, skill, and mean curves with bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.benchmark.store import Cell

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

CONTROLS = ("random", "oracle")
RESAMPLES = 2000
GRID = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with a bootstrap 95 % interval (percentile method; Efron 1979)."""

    mean: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


@lru_cache(maxsize=4)
def _weights(count: int) -> Floats:
    """How often each bootstrap sample holds each example, [resamples, count]; the same for all cells of that size."""
    rng = np.random.default_rng(0)
    drawn = (np.bincount(rng.integers(0, count, size=count), minlength=count) for _ in range(RESAMPLES))
    return np.stack(list(drawn)).astype(np.float64)


def _means(values: Floats) -> tuple[Floats, Floats]:
    """Means over the examples that are defined in every row of `values`, [rows], and in each resample, [resamples, rows]."""
    defined = np.isfinite(values).all(axis=0)
    filled = np.where(defined, values, 0.0)
    weights = _weights(values.shape[1])
    with np.errstate(invalid="ignore"):
        point = filled.sum(axis=1) / defined.sum()
        samples = (weights @ filled.T) / (weights @ defined)[:, None]
    return point, samples


def _estimate(point: float, samples: Floats) -> Estimate:
    samples = samples[np.isfinite(samples)]
    if not np.isfinite(point) or not len(samples):
        return UNDEFINED
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(point, float(low), float(high))


def mean_interval(values: Floats) -> Estimate:
    """The mean of the defined values, [examples], and its interval; NaN where there is none."""
    if not len(values):
        return UNDEFINED
    point, samples = _means(values[None, :])
    return _estimate(float(point[0]), samples[:, 0])


def skill_interval(values: Floats, random: Floats, oracle: Floats) -> Estimate:
    """Skill = (score − random) / (oracle − random): 0 is chance, 1 the best ranking that was found.

    A ratio of means over the examples on which all three are defined; the bootstrap draws examples, so the three stay
    paired. NaN where the oracle does not beat chance, because there is then no scale to read a score on.

    Args:
        values: [examples], the method's scores.
        random: [examples], those of the control `random`.
        oracle: [examples], those of the control `oracle`.
    """
    if not len(values):
        return UNDEFINED
    point, samples = _means(np.stack([values, random, oracle]))

    def ratio(means: Floats) -> Floats:
        room = means[..., 2] - means[..., 1]
        usable = np.abs(room) > 1e-9
        result: Floats = np.divide(means[..., 0] - means[..., 1], room, out=np.full_like(room, np.nan), where=usable)
        return result

    return _estimate(float(ratio(point[None, :])[0]), ratio(samples))


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell, perturbation and measure, with intervals, skill and ranks.

    Columns: `key`, `protocol` (the protocol's key), `task`, `model`, `explainer`, `metric`, `perturbation`,
    `direction`, `headline`, `mean`, `ci_low`, `ci_high`, `n` (examples with a value), `undefined` (without), `skill`,
    `skill_low`, `skill_high`, `rank` (1 is best, within protocol, perturbation and measure; the controls `random` and
    `oracle` have none) and the mean cost of an example: `forward_rows`, `forward_tokens`, `backward_rows`,
    `backward_tokens` and `seconds`.
    """
    import pandas as pd

    rows = []
    controls = {(cell.meta["protocol_key"], cell.explainer): cell for cell in cells}
    for cell in cells:
        cost = cell.meta["cost"]
        own = _by_example(cell)
        floor = _by_example(controls.get((cell.meta["protocol_key"], "random")))
        ceiling = _by_example(controls.get((cell.meta["protocol_key"], "oracle")))
        for (perturbation, measure), values in own.items():
            about = cell.meta["measures"][measure]
            estimate = mean_interval(values.to_numpy(dtype=np.float64))
            skill = UNDEFINED
            key = (perturbation, measure)
            if key in floor and key in ceiling:
                order = values.index
                paired = [series.reindex(order).to_numpy(np.float64) for series in (values, floor[key], ceiling[key])]
                skill = skill_interval(*paired)
            rows.append(
                {
                    "key": cell.key,
                    "protocol": cell.meta["protocol_key"],
                    "task": cell.protocol["task"]["name"],
                    "model": cell.protocol["model"]["name"],
                    "explainer": cell.explainer,
                    "metric": measure,
                    "perturbation": perturbation,
                    "direction": about["direction"],
                    "headline": about["headline"],
                    "mean": estimate.mean,
                    "ci_low": estimate.low,
                    "ci_high": estimate.high,
                    "n": int(values.notna().sum()),
                    "undefined": int(values.isna().sum()),
                    "skill": skill.mean,
                    "skill_low": skill.low,
                    "skill_high": skill.high,
                    **cost,
                }
            )
    frame = pd.DataFrame(rows)
    if not len(frame):
        return frame
    better = frame["mean"].where(frame["direction"] == "lower", -frame["mean"])
    better = better.where(~frame["explainer"].isin(CONTROLS))
    frame["rank"] = better.groupby([frame["protocol"], frame["perturbation"], frame["metric"]]).rank(method="min")
    return frame


def _by_example(cell: Cell | None) -> dict[tuple[str, str], pd.Series[float]]:
    """The values of a cell by perturbation and measure, each indexed by example."""
    if cell is None:
        return {}
    return {
        (str(perturbation), str(measure)): group.set_index("example")["value"]
        for (perturbation, measure), group in cell.scores.groupby(["perturbation", "metric"], sort=False)
    }


def mean_curves(cell: Cell) -> pd.DataFrame:
    """The mean curve of each measure on a common grid, with a bootstrap 95 % band.

    Columns: `perturbation`, `metric`, `x` (51 points from 0 to 1), `mean`, `low`, `high`. Between its own points an
    example's curve is interpolated linearly, as the trapezoid rule does.
    """
    import pandas as pd

    frames = []
    for (perturbation, metric), group in cell.table("curves").groupby(["perturbation", "metric"], sort=False):
        curves = np.stack([np.interp(GRID, x, y) for x, y in zip(group["x"], group["y"], strict=True)])
        low, high = np.percentile(_weights(len(curves)) @ curves / len(curves), [2.5, 97.5], axis=0)
        frames.append(
            pd.DataFrame(
                {
                    "perturbation": perturbation,
                    "metric": metric,
                    "x": GRID,
                    "mean": curves.mean(axis=0),
                    "low": low,
                    "high": high,
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_CURVE_COLUMNS)


_CURVE_COLUMNS = ["perturbation", "metric", "x", "mean", "low", "high"]
