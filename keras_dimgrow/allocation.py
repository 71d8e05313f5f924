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

import numpy as np

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
    vertices = _vertices(values)
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
    tables = [_options(problem.utilities[i], problem.costs[i], problem.minimum[i]) for i in order]
    suffixes = _suffixes(tables)
    best = _Best(tables, suffixes[0].fill(float(budget)))

    cost, utility, bound = np.zeros(1), np.zeros(1), np.full(1, np.inf)
    paths: list[tuple[np.ndarray, np.ndarray]] = []  # (partial choice before, option) of each partial choice, by table
    for table, rest in zip(tables, suffixes[1:], strict=True):
        before = _within_limit(bound, best, len(table.costs))
        if not len(before):
            break
        cost = np.add.outer(cost[before], table.costs).ravel()
        utility = np.add.outer(utility[before], table.utilities).ravel()
        before, option = np.repeat(before, len(table.costs)), np.tile(np.arange(len(table.costs)), len(before))

        edges = rest.num_edges_within(budget - cost)  # -1 where not even the least choices fit
        whole = np.where(edges < 0, -np.inf, utility + rest.utilities[edges])
        tops = np.flatnonzero(whole == whole.max())
        top = tops[np.argmin(cost[tops] + rest.costs[edges[tops]])]
        if best.is_beaten_by(whole[top], cost[top] + rest.costs[edges[top]]):
            best.take(_backtrack([*paths, (before, option)], int(top)) + rest.options_after(int(edges[top])))

        bound = utility + rest.bound(budget - cost)
        has_more = bound >= best.utility + 1 - _TOLERANCE
        has_as_much_for_less = utility + rest.bound(best.cost - 1 - cost) >= best.utility - _TOLERANCE
        kept = np.flatnonzero(has_more | has_as_much_for_less)
        kept = kept[_undominated(cost[kept], utility[kept])]
        cost, utility, bound = cost[kept], utility[kept], bound[kept]
        paths.append((before[kept], option[kept]))

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
        scale = 2.0**_UTILITY_BITS / largest if largest > 0 else 1.0
        return cls([np.rint(curve * scale) for curve in curves], np.asarray(costs, np.int64), np.asarray(minimum))


@dataclasses.dataclass(frozen=True)
class _Options:
    """What one table may have: dimensions with their cost and utility, both strictly rising, and its edges.

    An edge leads from one vertex of the concave majorant to the next.
    """

    dimensions: np.ndarray
    costs: np.ndarray
    utilities: np.ndarray
    vertices: np.ndarray


def _options(utilities: np.ndarray, cost: int, minimum: int) -> _Options:
    dimensions = np.arange(minimum, len(utilities))
    costs = dimensions * float(cost)
    kept = _undominated(costs, utilities[minimum:])
    majorant = _vertices(utilities[minimum:])
    return _Options(
        dimensions[kept], costs[kept], utilities[minimum:][kept], np.searchsorted(dimensions[kept], minimum + majorant)
    )


def _vertices(values: np.ndarray) -> np.ndarray:
    """Where the least non-decreasing concave majorant bends or begins, up to the first maximum."""
    vertices: list[int] = []
    for i in range(int(np.argmax(values)) + 1):
        while len(vertices) > 1:
            a, b = vertices[-2:]
            if (values[b] - values[a]) * (i - b) > (values[i] - values[b]) * (b - a):
                break
            vertices.pop()
        vertices.append(i)
    return np.array(vertices)


def _undominated(cost: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """The choices, by rising cost, that have more utility than every one that costs no more."""
    order = np.lexsort((-utility, cost))
    sorted_utility = utility[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(sorted_utility)[:-1]])
    return order[sorted_utility > before]


@dataclasses.dataclass(frozen=True)
class _Suffix:
    """The tables from one on, and what a first number of their edges costs and is worth.

    Attributes:
        num_tables: how many tables.
        owners, targets: the table of each edge and the option it leads to, by falling utility per parameter.
        costs, utilities: [edges + 1] of the least choice of every table and the first edges.
    """

    num_tables: int
    owners: np.ndarray
    targets: np.ndarray
    costs: np.ndarray
    utilities: np.ndarray

    def bound(self, capacity: np.ndarray) -> np.ndarray:
        """The utility of the best fractional choice within each capacity; -inf where nothing fits."""
        bound = np.interp(capacity, self.costs, self.utilities)
        return np.where(capacity < self.costs[0], -np.inf, bound)

    def num_edges_within(self, capacity: np.ndarray) -> np.ndarray:
        """How many edges fit into each capacity."""
        return np.searchsorted(self.costs, capacity, side="right") - 1

    def options_after(self, num_edges: int) -> list[int]:
        """The option of each table after the first edges."""
        options = np.zeros(self.num_tables, np.int64)
        options[self.owners[:num_edges]] = self.targets[:num_edges]  # of a table's edges the last one counts
        return options.tolist()

    def fill(self, budget: float) -> list[int]:
        """The option of each table after all edges that fit one after the other, those that do not fit left out."""
        options, is_open, left = [0] * self.num_tables, [True] * self.num_tables, budget - self.costs[0]
        for owner, target, cost in zip(self.owners, self.targets, np.diff(self.costs), strict=True):
            is_open[owner] &= bool(cost <= left)
            if is_open[owner]:
                options[owner] = int(target)
                left -= cost
        return options


def _suffixes(tables: list[_Options]) -> list[_Suffix]:
    """The tables from the first, second, ... on; the last one is empty."""
    owners = np.concatenate([np.full(len(table.vertices) - 1, i) for i, table in enumerate(tables)])
    targets = np.concatenate([table.vertices[1:] for table in tables])
    costs = np.concatenate([np.diff(table.costs[table.vertices]) for table in tables])
    utilities = np.concatenate([np.diff(table.utilities[table.vertices]) for table in tables])
    order = np.argsort(-utilities / costs, kind="stable")
    suffixes = []
    for first in range(len(tables) + 1):
        edges = order[owners[order] >= first]
        least_cost = sum(table.costs[0] for table in tables[first:])
        least_utility = sum(table.utilities[0] for table in tables[first:])
        suffixes.append(
            _Suffix(
                num_tables=len(tables) - first,
                owners=owners[edges] - first,
                targets=targets[edges],
                costs=np.concatenate([[least_cost], least_cost + np.cumsum(costs[edges])]),
                utilities=np.concatenate([[least_utility], least_utility + np.cumsum(utilities[edges])]),
            )
        )
    return suffixes


class _Best:
    """The best whole choice so far: an option of each table."""

    def __init__(self, tables: list[_Options], options: list[int]):
        self._tables = tables
        self.missed_by = 0.0  # by what part of the utility another choice may be better
        self.take(options)

    def take(self, options: list[int]) -> None:
        self.options = options
        chosen = list(zip(self._tables, options, strict=True))
        self.cost = sum(table.costs[option] for table, option in chosen)
        self.utility = sum(table.utilities[option] for table, option in chosen)

    def is_beaten_by(self, utility: float, cost: float) -> bool:
        return (utility, -cost) > (self.utility, -self.cost)


def _backtrack(paths: list[tuple[np.ndarray, np.ndarray]], state: int) -> list[int]:
    """The options that led to a state of the last table in `paths`."""
    options = []
    for before, option in reversed(paths):
        options.append(int(option[state]))
        state = int(before[state])
    return options[::-1]
