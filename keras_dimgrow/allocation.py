"""Which dimension every table gets under a budget: an exact multiple-choice knapsack over integer costs.

`allocate` maximises sum_i u_i(d_i) subject to sum_i V_i d_i <= budget, one d_i per table: the objective of
arXiv 2505.12683, section 3, turned round (best quality within a number of parameters).

Algorithm: the tables are taken in turn, dearest first, and only those partial choices are kept that no other partial
choice beats in both cost and utility (Nemhauser & Ullmann, "Discrete Dynamic Programming and Capital Allocation", 1969).
Of these, one is dropped when even its best fractional completion is not better than the best whole choice known. The
fractional problem is solved by the edges of the concave majorants in order of utility per parameter (Sinha & Zoltners,
"The Multiple-Choice Knapsack Problem", 1979), and the whole number of edges that fit completes every partial choice to
a whole one (bounds within dynamic programming as in Pisinger, "A minimal algorithm for the multiple-choice knapsack
problem", 1995). Costs are never rounded; utilities are rounded to 2^-40 of the largest, so that their sums are exact,
and equal sums are ties.

The result is exact with one exception. Utilities in proportion to costs make the problem a subset sum, where bounds say
nothing; when more than 2^19 partial choices are left, those that cannot gain more than 1e-6 of the utility are dropped
(2e-6, 4e-6, ... as far as needed), and a warning is logged with what is then guaranteed. Dozens of tables of tens of
millions of rows with exactly proportional utilities do this; utilities that were measured do not.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_dimgrow.knapsack import Options, Suffix, options_of, suffixes_of, undominated, vertices_of

logger = logging.getLogger(__name__)

_MAX_CHOICES = 2**19  # partial choices of one table more: about 0.1 s and 50 MB
_RELATIVE_SLACK = 1e-6
_UTILITY_BITS = 40  # sums over 128 tables then stay below 2^47: exact in float64, bounds wrong by less than _TOLERANCE
_TOLERANCE = 0.5


def concave_majorant(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The least non-decreasing concave sequence that is nowhere below `values`; flat after their maximum.

    Args:
        values: u(0), u(1), ..., u(D), the utility of each number of dimensions.

    Example:
        >>> concave_majorant([0.0, 1.0, 1.0, 4.0, 3.0]).round(2)
        array([0.  , 1.33, 2.67, 4.  , 4.  ])
    """
    values = np.asarray(values, np.float64)
    vertices = vertices_of(values)
    return np.interp(np.arange(len(values)), vertices, values[vertices])


def allocate(
    utilities: Sequence[np.ndarray],
    costs: Sequence[int],
    budget: int,
    minimum: Sequence[int] | None = None,
) -> np.ndarray:
    """The dimensions of most utility within a budget.

    Args:
        utilities: u_i(0 .. D_i) of each table, [F] arrays of any real values, concave or not.
        costs: V_i >= 1, parameters of one dimension, [F].
        budget: the most that sum_i V_i d_i may be.
        minimum: the least d_i of each table, [F]; None for zeros.

    Returns:
        d_i, int64 [F]. Among choices of equal utility one of fewest parameters; which one of equals depends on the
        arguments alone.

    Raises:
        ValueError: if the arguments do not fit together, or the minimum does not fit into the budget.

    Example:
        >>> allocate([np.array([0.0, 3.0, 5.0]), np.array([0.0, 2.0, 3.0])], costs=[10, 4], budget=20)
        array([1, 2])
    """
    problem = _Problem.of(utilities, costs, budget, minimum)
    order = np.argsort(-problem.costs, kind="stable")
    tables = [options_of(problem.utilities[i], problem.costs[i], problem.minimum[i]) for i in order]
    suffixes = suffixes_of(tables)
    best = _Best(tables, budget, suffixes[0].fill(float(budget)))

    cost, utility = np.zeros(1), np.zeros(1)
    paths: list[tuple[np.ndarray, np.ndarray]] = []  # (partial choice before, option) of each partial choice, by table
    for table, here, rest in zip(tables, suffixes, suffixes[1:], strict=False):
        before = _within_limit(utility + here.bound(budget - cost), best, len(table.costs))
        if not len(before):
            break
        extended = _extend(before, cost, utility, table)
        best.complete(extended, rest, paths)
        kept = np.flatnonzero(best.is_open(extended.cost, extended.utility, rest))
        kept = kept[undominated(extended.cost[kept], extended.utility[kept])]
        cost, utility = extended.cost[kept], extended.utility[kept]
        paths.append((extended.before[kept], extended.option[kept]))

    if best.missed_by:
        logger.warning(
            "allocate: too many equally good choices to try all; the utility may miss the optimum by %.1e of it.",
            best.missed_by,
        )
    dimensions = np.zeros(len(tables), np.int64)
    dimensions[order] = [table.dimensions[choice] for table, choice in zip(tables, best.options, strict=True)]
    return dimensions


def _within_limit(bound: np.ndarray, best: "_Best", num_options: int) -> np.ndarray:
    """Which partial choices go on: all, unless there are too many; then those that may gain most."""
    going_on = np.arange(len(bound))
    unit = max(abs(best.utility), 2.0**_UTILITY_BITS)
    slack = 0.0
    while len(going_on) * num_options > _MAX_CHOICES:
        slack = max(_RELATIVE_SLACK, 2 * slack)
        going_on = np.flatnonzero(bound >= best.utility + slack * unit)
    best.missed_by = max(best.missed_by, slack)
    return going_on


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The arguments of `allocate`, checked; utilities in whole multiples of 2^-40 of the largest."""

    utilities: list[np.ndarray]
    costs: np.ndarray
    minimum: np.ndarray

    @classmethod
    def of(cls, utilities, costs, budget, minimum) -> "_Problem":
        minimum = [0] * len(costs) if minimum is None else minimum
        if not len(utilities) == len(costs) == len(minimum) or not len(costs):
            raise ValueError(
                "allocate needs one utility curve, one cost and one minimum for each table; received "
                f"{len(utilities)} curves, {len(costs)} costs and {len(minimum)} minima."
            )
        curves = [np.asarray(curve, np.float64) for curve in utilities]
        for i, (curve, cost, least) in enumerate(zip(curves, costs, minimum, strict=True)):
            if not np.isfinite(curve).all() or not 0 <= least < len(curve) or cost < 1:
                raise ValueError(
                    f"allocate: table {i} needs finite utilities, a cost >= 1 and a minimum that has a utility; received "
                    f"utilities={curve.tolist()}, cost={cost}, minimum={least}."
                )
        least_cost = sum(int(cost) * int(least) for cost, least in zip(costs, minimum, strict=True))
        if least_cost > budget:
            raise ValueError(
                f"allocate: the minimum alone takes {least_cost} parameters; received budget={budget}. Raise the budget or "
                "lower the minimum."
            )
        largest = max(np.abs(curve).max() for curve in curves)
        unit = largest if largest > 0 else 1.0
        return cls(
            [np.rint(curve / unit * 2.0**_UTILITY_BITS) for curve in curves],
            np.asarray(costs, np.int64),
            np.asarray(minimum),
        )


class _Extended(NamedTuple):
    """Partial choices of one table more: what they cost and are worth, and where they come from."""

    cost: np.ndarray
    utility: np.ndarray
    before: np.ndarray
    option: np.ndarray


def _extend(before: np.ndarray, cost: np.ndarray, utility: np.ndarray, table: Options) -> _Extended:
    """The partial choices number `before`, each with every option of the next table."""
    num_options = len(table.costs)
    return _Extended(
        np.add.outer(cost[before], table.costs).ravel(),
        np.add.outer(utility[before], table.utilities).ravel(),
        np.repeat(before, num_options),
        np.tile(np.arange(num_options), len(before)),
    )


class _Best:
    """The best whole choice so far: an option of each table."""

    def __init__(self, tables: list[Options], budget: int, options: list[int]):
        self._tables, self._budget = tables, budget
        self.missed_by = 0.0  # by what part of the utility another choice may be better
        self._take(options)

    def _take(self, options: list[int]) -> None:
        self.options = options
        chosen = list(zip(self._tables, options, strict=True))
        self.cost = sum(table.costs[option] for table, option in chosen)
        self.utility = sum(table.utilities[option] for table, option in chosen)

    def complete(self, extended: _Extended, rest: Suffix, paths: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Takes the best partial choice together with the edges of `rest` that fit, if that is better."""
        edges = rest.num_edges_within(self._budget - extended.cost)  # -1 where not even the least choices fit
        cost = extended.cost + rest.costs[edges]
        utility = np.where(edges < 0, -np.inf, extended.utility + rest.utilities[edges])
        tops = np.flatnonzero(utility == utility.max())
        top = tops[np.argmin(cost[tops])]
        if (utility[top], -cost[top]) > (self.utility, -self.cost):
            options = _backtrack([*paths, (extended.before, extended.option)], int(top))
            self._take(options + rest.options_after(int(edges[top])))

    def is_open(self, cost: np.ndarray, utility: np.ndarray, rest: Suffix) -> np.ndarray:
        """Whether a partial choice may lead to more utility, or to as much for less."""
        has_more = utility + rest.bound(self._budget - cost) >= self.utility + 1 - _TOLERANCE
        return has_more | (utility + rest.bound(self.cost - 1 - cost) >= self.utility - _TOLERANCE)


def _backtrack(paths: list[tuple[np.ndarray, np.ndarray]], state: int) -> list[int]:
    """The options that led to a state of the last table in `paths`."""
    options = []
    for before, option in reversed(paths):
        options.append(int(option[state]))
        state = int(before[state])
    return options[::-1]
