"""The fractional multiple-choice knapsack of `allocate`: options of tables, and the bounds that their edges give."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """What one table may have: dimensions with their cost and utility, both strictly rising, and its edges.

    An edge leads from one vertex of the concave majorant to the next.
    """

    dimensions: np.ndarray
    costs: np.ndarray
    utilities: np.ndarray
    vertices: np.ndarray


def options_of(utilities: np.ndarray, cost: int, minimum: int) -> Options:
    """The undominated options of a table from its least dimension on; `cost` is that of one dimension."""
    dimensions = np.arange(minimum, len(utilities))
    costs = dimensions * float(cost)
    kept = undominated(costs, utilities[minimum:])
    majorant = vertices_of(utilities[minimum:])
    return Options(
        dimensions[kept], costs[kept], utilities[minimum:][kept], np.searchsorted(dimensions[kept], minimum + majorant)
    )


def vertices_of(values: np.ndarray) -> np.ndarray:
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


def undominated(cost: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """The choices, by rising cost, that have more utility than every one that costs no more."""
    order = np.lexsort((-utility, cost))
    sorted_utility = utility[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(sorted_utility)[:-1]])
    return order[sorted_utility > before]


@dataclasses.dataclass(frozen=True)
class Suffix:
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


def suffixes_of(tables: list[Options]) -> list[Suffix]:
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
            Suffix(
                num_tables=len(tables) - first,
                owners=owners[edges] - first,
                targets=targets[edges],
                costs=np.concatenate([[least_cost], least_cost + np.cumsum(costs[edges])]),
                utilities=np.concatenate([[least_utility], least_utility + np.cumsum(utilities[edges])]),
            )
        )
    return suffixes
