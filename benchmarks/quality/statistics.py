"""Means, standard errors, differences and interpolation: pure functions of numbers."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean, its standard error (NaN where there is but one value), and the number of values."""

    mean: float
    error: float
    num_values: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error, stdev / sqrt(n).

    Example:
        >>> estimate([1.0, 2.0, 3.0]).mean
        2.0
    """
    if not values:
        return Estimate(math.nan, math.nan, 0)
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return Estimate(statistics.fmean(values), error, len(values))


def difference(values: Mapping[Hashable, float], others: Mapping[Hashable, float]) -> Estimate:
    """`values` minus `others`, paired where both have the same keys; else of two independent means."""
    if values.keys() == others.keys():
        return estimate([values[key] - others[key] for key in values])
    a, b = estimate(list(values.values())), estimate(list(others.values()))
    return Estimate(a.mean - b.mean, math.hypot(a.error, b.error), min(a.num_values, b.num_values))


def interpolate(curve: Sequence[tuple[float, float]], parameters: float) -> float | None:
    """The value of a curve of (parameters, value) at a size between its points, linear in log parameters.

    None outside of the curve: a smaller model than the smallest of the curve cannot be had uniformly.

    Example:
        >>> interpolate([(10, 0.5), (1000, 0.7)], 100)
        0.6
    """
    points = sorted(curve)
    if not points or not points[0][0] <= parameters <= points[-1][0]:
        return None
    sizes = np.log([size for size, _ in points])
    return round(float(np.interp(math.log(parameters), sizes, [value for _, value in points])), 12)


def mean_correlation(plans: Sequence[Sequence[int]]) -> float | None:
    """Mean Pearson correlation of dimensions over all pairs of plans (papers: AutoDim, section 3.8.2).

    Two plans of which one has equal dimensions throughout correlate by 1 if they are the same, else by 0. None for fewer
    than two plans.

    Example:
        >>> mean_correlation([[1, 2, 3], [2, 4, 6]])
        1.0
    """
    pairs = list(itertools.combinations(plans, 2))
    return statistics.fmean(_correlation(a, b) for a, b in pairs) if pairs else None


def _correlation(a: Sequence[int], b: Sequence[int]) -> float:
    if len(set(a)) == 1 or len(set(b)) == 1:
        return float(list(a) == list(b))
    return round(float(np.corrcoef(a, b)[0, 1]), 12)
