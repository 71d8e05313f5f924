"""The ledger of a search: what each dimension of each table was measured to be worth, and what follows (pure NumPy).

The objective of arXiv 2505.12683, section 3, turned round: spend a budget of parameters where held-out loss falls most.
A table's components come strongest first (utility.py); the ledger keeps, smoothed over looks, what each of them gains on
held-out rows, and makes of it a curve u(d) for every table, over which `allocate` chooses exactly
(docs/decisions/0006).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_dimgrow.allocation import allocate, concave_majorant
from keras_dimgrow.fields import Field

CREDIT = 0.5  # what a dimension that was never tried is expected to gain, as a part of the one before it
SMOOTHING = 0.5  # weight of the past in the moving averages
ERROR_WEIGHT = 0.5  # standard errors taken off a gain
YOUNG_LOOKS = 2  # looks before a new column is judged
CHEAP_SHARE = 0.01  # tables of at most this part of the budget keep a dimension while searching


@dataclasses.dataclass
class Ledger:
    """Gains of every table's components.

    Attributes:
        tables: the searched tables.
        gains: per table, smoothed held-out gain in nats of each component, strongest first.
        errors: per table, smoothed standard error of each gain.
        ages: looks since each table last changed, int [F].
    """

    tables: Sequence[Field]
    gains: list[np.ndarray]
    errors: list[np.ndarray]
    ages: np.ndarray

    @classmethod
    def empty(cls, tables: Sequence[Field]) -> "Ledger":
        """A ledger before the first look."""
        none = [np.zeros(0) for _ in tables]
        return cls(tables, none, list(none), np.zeros(len(tables), int))

    @property
    def sizes(self) -> np.ndarray:
        """V_i of each table."""
        return np.array([table.vocabulary_size for table in self.tables])

    def add(self, gains: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> None:
        """Takes in one look: gain and standard error of each component of each table."""
        self.ages += 1
        for old, new in ((self.gains, gains), (self.errors, errors)):
            for i, values in enumerate(new):
                start = np.concatenate([old[i], values[len(old[i]) :]])[: len(values)]
                old[i] = SMOOTHING * start + (1 - SMOOTHING) * values

    def cut(self, index: int, dim: int) -> None:
        """Table `index` lost the components behind the first `dim`."""
        self.gains[index], self.errors[index] = self.gains[index][:dim], self.errors[index][:dim]

    def utilities(self) -> list[np.ndarray]:
        """u(0 .. d) of each table: the concave majorant of what its components gain, less half a standard error."""
        return [
            concave_majorant(np.concatenate([[0.0], np.cumsum(gains - ERROR_WEIGHT * errors)]))
            for gains, errors in zip(self.gains, self.errors, strict=True)
        ]

    def plan_dims(self, budget: int) -> np.ndarray:
        """The dimensions of most utility within `budget` parameters, int [F]."""
        minimum = [table.min_dim for table in self.tables]
        curves = [
            np.concatenate([u, np.full(max(0, least + 1 - len(u)), u[-1])])
            for u, least in zip(self.utilities(), minimum, strict=True)
        ]
        return allocate(curves, self.sizes, budget, minimum)

    def next_dims(self, dims: np.ndarray, budget: int, limit: int, is_early: bool) -> np.ndarray:
        """The dimensions to search on with: those of most utility, those never tried credited, within `limit` parameters.

        Args:
            dims: present dimensions, int [F].
            budget: parameters that the plan may have.
            limit: parameters that the search may hold.
            is_early: whether it is too early to judge tables whose first component gains nothing.
        """
        sizes, target = self.sizes, dims.copy()
        judged = np.flatnonzero((self.ages >= YOUNG_LOOKS) & (dims > 0))
        if not len(judged):
            return target
        fixed = np.setdiff1d(np.arange(len(dims)), judged)
        room = limit - int((sizes[fixed] * dims[fixed]).sum())
        curves = [self._curve_with_credit(i, is_early) for i in judged]
        least = [
            min(len(curve) - 1, max(self.tables[i].min_dim, int(sizes[i] <= CHEAP_SHARE * budget)))
            for i, curve in zip(judged, curves, strict=True)
        ]
        target[judged] = allocate(curves, sizes[judged], room, least)
        # A column that proved nothing stays as long as nobody needs its room: its partner may grow into it.
        room -= int((sizes[judged] * target[judged]).sum())
        for i in judged[np.argsort(sizes[judged], kind="stable")]:
            if 0 < target[i] == dims[i] - 1 and sizes[i] <= room:
                room -= sizes[i]
                target[i] = dims[i]
        return target

    def _curve_with_credit(self, index: int, is_early: bool) -> np.ndarray:
        table = self.tables[index]
        gains = self.gains[index] - ERROR_WEIGHT * self.errors[index]
        proven = int(np.argmax(np.append(gains, -1.0) <= 0))  # components before the first that gains nothing
        if not proven:
            doubt = max(self.gains[index][0], 1e-9)  # not proven useless either
            return np.array([0.0, doubt]) if is_early or self.gains[index][0] > 0 else np.array([0.0, 0.0])
        curve = concave_majorant(np.concatenate([[0.0], np.cumsum(gains[:proven])]))
        untried = CREDIT ** np.arange(1, max(1, proven // 2) + 1)
        curve = np.concatenate([curve, curve[-1] + (curve[-1] - curve[-2]) * np.cumsum(untried)])
        return curve[: table.max_dim + 1]
