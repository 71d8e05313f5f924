"""The ledger of a search: what each dimension of each table was measured to be worth, and what follows (pure NumPy).

The objective of arXiv 2505.12683, section 3, turned round: spend a budget of parameters where held-out loss falls most.
A table's components come strongest first (utility.py); the ledger keeps, smoothed over looks, what each of them gains on
held-out rows, and makes of it a curve u(d) for every table, over which `allocate` chooses exactly
(docs/decisions/0006).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_dimgrow.allocation import allocate, concave_majorant
from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.fields import Field
from keras_dimgrow.filling import MIN_USED_SHARE, fill

CREDIT = 0.5  # what a dimension that was never tried is expected to gain, as a part of the one before it
SMOOTHING = 0.5  # weight of the past in the moving averages
ERROR_WEIGHT = 0.5  # standard errors taken off a gain while searching
PROOF = 2.0  # standard errors taken off the gain of a further dimension that a plan is to be shaped by
TRUST = 3.0  # standard errors added to the gain of a table's first dimension: see `Ledger.utilities`
MATERIAL_SHARE = 2e-3  # of what all tables gain: a table whose first dimension gains less, at best, is not in a plan
FURTHER_SHARE = 1e-3  # of the same: what a further dimension of a plan has to gain at least
SPARE = 3  # a plan has up to this many times the parameters that are proven, or one for each training row
MAX_OF_ONE = 2  # dimensions with spare ones of a table that was shown to need one
ADDITIVE = 0.9  # additivity (`Spectrum`) from which a table needs no spare dimension
YOUNG_LOOKS = 2  # looks before new columns are judged
DOUBT_LOOKS = 4  # looks before a table whose first dimension gains nothing is given up
REST_LOOKS = 6  # looks after which a table that was given up is tried again
MAX_TRIALS = 2  # how often a table may begin
CHEAP_SHARE = 0.01  # tables with at most this part of the budget in one dimension keep one


@dataclasses.dataclass
class Ledger:
    """Gains of every table's components.

    Attributes:
        tables: the searched tables.
        gains: per table, smoothed held-out gain in nats of each component, strongest first.
        errors: per table, smoothed standard error of each gain.
        ages: looks since each table last got columns or lost its last, int [F].
        trials: how often each table began with a dimension, int [F].
        additivity: smoothed, of each table, [F]; 0 at the start.
        num_rows: training rows of a pass: so many parameters do not overfit.
    """

    tables: Sequence[Field]
    gains: list[np.ndarray]
    errors: list[np.ndarray]
    ages: np.ndarray
    trials: np.ndarray
    additivity: np.ndarray
    num_rows: int = 0

    @classmethod
    def at_start(cls, tables: Sequence[Field], dims: Sequence[int] | np.ndarray, num_rows: int = 0) -> "Ledger":
        """The ledger before the first look, of tables with these dimensions."""
        none = [np.zeros(0) for _ in tables]
        ages, additivity = np.zeros(len(tables), int), np.zeros(len(tables))
        return cls(tables, none, list(none), ages, np.minimum(dims, 1), additivity, num_rows)

    def copy(self) -> "Ledger":
        """The ledger as it is now."""
        arrays = self.ages.copy(), self.trials.copy(), self.additivity.copy()
        return Ledger(self.tables, list(self.gains), list(self.errors), *arrays, self.num_rows)

    def to_dict(self) -> dict[str, Any]:
        """All but the tables, as plain JSON types."""
        return {
            "gains": [gains.tolist() for gains in self.gains],
            "errors": [errors.tolist() for errors in self.errors],
            "ages": self.ages.tolist(),
            "trials": self.trials.tolist(),
            "additivity": self.additivity.tolist(),
            "num_rows": self.num_rows,
        }

    @classmethod
    def from_dict(cls, tables: Sequence[Field], values: dict[str, Any]) -> "Ledger":
        """The inverse of `to_dict`."""
        gains, errors = ([np.array(each, float) for each in values[key]] for key in ("gains", "errors"))
        ages, trials = (np.array(values[key], int) for key in ("ages", "trials"))
        # Of an earlier version there is none.
        additivity = np.array(values.get("additivity", np.zeros(len(tables))), float)
        return cls(tables, gains, errors, ages, trials, additivity, values["num_rows"])

    @property
    def sizes(self) -> np.ndarray:
        """V_i of each table."""
        return np.array([table.vocabulary_size for table in self.tables])

    def add(
        self, gains: Sequence[np.ndarray], errors: Sequence[np.ndarray], additivity: Sequence[float] | np.ndarray
    ) -> None:
        """Takes in one look: gain and standard error of each component of each table, and the tables' additivity."""
        self.ages += 1
        self.additivity = SMOOTHING * self.additivity + (1 - SMOOTHING) * np.asarray(additivity)
        for old, new in ((self.gains, gains), (self.errors, errors)):
            for i, values in enumerate(new):
                start = np.concatenate([old[i], values[len(old[i]) :]])[: len(values)]
                old[i] = SMOOTHING * start + (1 - SMOOTHING) * values

    def resize(self, before: np.ndarray, after: np.ndarray) -> None:
        """The tables' dimensions have changed: components behind the last are gone, new columns are young."""
        for i in np.flatnonzero(after < before):
            self.gains[i], self.errors[i] = self.gains[i][: after[i]], self.errors[i][: after[i]]
        self.ages[(after > before) | ((after == 0) & (before > 0))] = 0
        self.trials[(before == 0) & (after > 0)] += 1

    def utilities(self, error_weight: float = ERROR_WEIGHT, least_gain: float = 0.0) -> list[np.ndarray]:
        """u(0 .. d) of each table: the concave majorant of what its components gain, less `error_weight` standard errors.

        A further dimension has to prove itself, and more than `least_gain` of its gain. To the gain of a table's first
        dimension `TRUST` standard errors are added: a field that somebody chose has to be proven useless.
        """
        return [
            concave_majorant(np.append(0.0, np.cumsum(gains)))
            for gains in self._careful_gains(error_weight, least_gain)
        ]

    def _careful_gains(self, error_weight: float = ERROR_WEIGHT, least_gain: float = 0.0) -> list[np.ndarray]:
        careful = []
        for gains, errors in zip(self.gains, self.errors, strict=True):
            values = gains - error_weight * errors - least_gain
            values[:1] = (gains + (TRUST if error_weight else 0.0) * errors)[:1]
            careful.append(values)
        return careful

    def _is_material(self) -> np.ndarray:
        """Whether each table's first dimension may gain something worth having, with `TRUST` standard errors, [F].

        A table that was never tried counts as one; the total is what all components gain.
        """
        least = MATERIAL_SHARE * self._total_gain()
        pairs = zip(self.gains, self.errors, strict=True)
        return np.array([not len(gains) or gains[0] + TRUST * errors[0] >= least for gains, errors in pairs])

    def _total_gain(self) -> float:
        return sum(float(np.maximum(gains, 0).sum()) for gains in self.gains)

    def curves_and_minimum(
        self, budget: int, error_weight: float = ERROR_WEIGHT
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """What a plan is chosen from: utilities as far as dimensions were tried, and the least dimension of each table.

        A table keeps its min_dim, and one dimension if that is cheap: too little to be worth an error. One whose first
        dimension gains next to nothing at best gets no more than min_dim: useless fields cost a backbone more than parameters.
        """
        sizes, is_material = self.sizes, self._is_material()
        minimum = np.array([table.min_dim for table in self.tables])
        room = budget - int(sizes @ minimum)
        for i in np.argsort(sizes, kind="stable"):
            if not minimum[i] and is_material[i] and sizes[i] <= min(CHEAP_SHARE * budget, room):
                minimum[i] = 1
                room -= sizes[i]
        utilities = self.utilities(error_weight, FURTHER_SHARE * self._total_gain())
        for i in np.flatnonzero(~is_material):
            utilities[i] = np.zeros(1)
        curves = [
            np.concatenate([u, np.full(max(0, least + 1 - len(u)), u[-1])])
            for u, least in zip(utilities, minimum, strict=True)
        ]
        return curves, minimum

    def proven_dims(self, budget: int, error_weight: float = ERROR_WEIGHT) -> np.ndarray:
        """The dimensions of most utility within `budget` parameters, int [F]; it may take far less.

        Raises:
            ValueError: if the tables' min_dim take more than the budget, or it allows no table any dimension.
        """
        curves, minimum = self.curves_and_minimum(budget, error_weight)
        dims = allocate(curves, self.sizes.tolist(), budget, minimum.tolist())
        if not dims.any():  # nothing was shown to help: a plan keeps one field, the best guess
            affordable = np.flatnonzero(self.sizes <= budget)
            if not len(affordable):
                raise ValueError(
                    f"One dimension of the smallest field takes {self.sizes.min()} parameters; received a budget of {budget}. "
                    "Raise parameter_budget."
                )
            firsts = [gains[0] if len(gains) else -np.inf for gains in self._careful_gains(error_weight)]
            dims[max(affordable, key=lambda i: firsts[i])] = 1
        return dims

    def plan_dims(self, budget: int, error_weight: float = PROOF) -> np.ndarray:
        """`proven_dims` with spare dimensions (`with_spare`), int [F].

        Proof gives the plan its shape. What proves nothing may still help to train, and where nothing is proven, all seeds come
        to much the same plan.
        """
        return self.with_spare(self.proven_dims(budget, error_weight), budget)

    def with_spare(self, dims: np.ndarray, budget: int) -> np.ndarray:
        """`filled`, up to `SPARE` times the parameters of `dims` or one for each training row: more would overfit, int [F]."""
        return self.filled(dims, min(budget, max(SPARE * int(self.sizes @ dims), self.num_rows)))

    def filled(self, dims: np.ndarray, budget: int) -> np.ndarray:
        """`dims`, and what they leave of the budget shared out (`fill`), int [F].

        First to the tables that may use more columns: not to those that add to the logit whatever the others are
        (`ADDITIVE`), and up to `MAX_OF_ONE` to those that were shown to need one dimension. What this leaves, if that is more
        than a plan may, goes to all. Tables without dimensions get none, nor do those whose first one gains next to nothing
        at best.
        """
        most = np.minimum([table.max_dim for table in self.tables], UNIFORM_DIMENSION)
        most = np.where(self._is_material(), most, dims)
        of_use = np.where(self.additivity >= ADDITIVE, dims, np.where(dims > 1, most, np.minimum(most, MAX_OF_ONE)))
        filled = fill(dims, self.sizes, budget, of_use)
        if self.sizes @ filled < MIN_USED_SHARE * budget:
            filled = fill(dims, self.sizes, budget, most, start=filled)
        return filled

    def next_dims(self, dims: np.ndarray, budget: int, limit: int, may_begin: bool = True) -> np.ndarray:
        """The dimensions to search on with: those of most utility, with credit for those not tried, within `limit`.

        Args:
            dims: present dimensions, int [F].
            budget: parameters that the plan may have.
            limit: parameters that the search may hold.
            may_begin: whether tables at 0 dimensions may get one: not when there is no time left to judge it.
        """
        sizes, target = self.sizes, dims.copy()
        judged = (dims > 0) & (self.ages >= YOUNG_LOOKS)
        curves = {int(i): self._curve_with_credit(int(i)) for i in np.flatnonzero(judged)}
        worth = [curve[1] for curve in curves.values() if curve[-1] > 0]
        if may_begin and worth:
            rested = (self.trials == 0) | ((self.trials < MAX_TRIALS) & (self.ages >= REST_LOOKS))
            for i in np.flatnonzero((dims == 0) & rested & (sizes <= budget)):
                # As good as the typical table, until it is known better.
                curves[int(i)] = np.array([0.0, np.median(worth) * CREDIT ** self.trials[i]])
        if not curves:
            return target
        chosen = np.array(sorted(curves))
        others = np.setdiff1d(np.arange(len(dims)), chosen)
        room = limit - int(sizes[others] @ dims[others])
        least = [self._least(i, curves[i], budget) * int(dims[i] > 0) for i in chosen]
        target[chosen] = allocate([curves[i] for i in chosen], sizes[chosen], room, least)
        # A column that proved nothing stays as long as nobody needs its room: its partner may grow into it.
        room -= int(sizes[chosen] @ target[chosen])
        for i in chosen[np.argsort(sizes[chosen], kind="stable")]:
            if 0 < target[i] == dims[i] - 1 and sizes[i] <= room:
                room -= sizes[i]
                target[i] = dims[i]
        return target

    def _least(self, index: int, curve: np.ndarray, budget: int) -> int:
        is_cheap = self.sizes[index] <= CHEAP_SHARE * budget
        return min(len(curve) - 1, max(self.tables[index].min_dim, int(is_cheap)))

    def _curve_with_credit(self, index: int) -> np.ndarray:
        """u(0 .. d) of the components that gain something, and half as many more on credit, at least one."""
        gains = self._careful_gains()[index]
        num_proven = int(np.argmax(np.append(gains, -1.0) <= 0))
        least = max(1, self.tables[index].min_dim)
        if not num_proven:
            return np.append(0.0, np.full(least, 1e-9 if self.ages[index] < DOUBT_LOOKS else 0.0))
        curve = concave_majorant(np.concatenate([[0.0], np.cumsum(gains[:num_proven])]))
        credit = (curve[-1] - curve[-2]) * CREDIT ** np.arange(1, max(1, num_proven // 2) + 1)
        curve = np.concatenate([curve, curve[-1] + np.cumsum(credit)])[: self.tables[index].max_dim + 1]
        return np.append(curve, np.full(max(0, least + 1 - len(curve)), curve[-1]))
