"""The growth policy: gates and counters in, decisions out (pure NumPy; arXiv 2505.12683, section 4.2.2).

`fields` are those of `DimGrowEmbedding.searched_tables`: one a table, which several fields may share.

Where the paper is silent (docs/decisions/0004): one dimension a field and check; a field that lost a dimension waits
before it grows again, twice as long each time; a field at 0 dimensions is revived a few times before that is final; at
a budget, the field with the highest smallest gate per parameter grows first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field

# Columns of the policy's state, an int32 array [F, STATE_COLUMNS] that starts as zeros.
WAIT = 0  # checks until the field may grow
BACKOFF = 1  # exponent of the next wait after a drop
ABSENT = 2  # checks that the field has been at 0 dimensions
REVIVALS = 3  # times that the field was revived
QUIET = 4  # checks since the field's dimensions last changed
CHECKED = 5  # training step of the last check; kept for DimensionSearch, decides nothing
STATE_COLUMNS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthConfig(Config):
    """Thresholds, pauses and budgets of growth.

    Args:
        grow_threshold: T_up; a field grows when all its gates are above it.
        shrink_threshold: T_down; a dimension is dropped when its gate is below it.
        backoff_checks: checks that a field waits to grow after its first drop; doubles with each further drop.
        max_backoff_doublings: the wait doubles at most this many times.
        revive_after_checks: checks at 0 dimensions after which a field gets one dimension again.
        max_revivals: how often a field is revived before 0 dimensions are final.
        max_total_dims: budget on sum_i d_i, None for none.
        max_parameters: budget on sum_i V_i d_i, None for none.
        max_table_bytes: budget on the bytes of all tables with their optimizer slots, None for none. Dropped dimensions
            keep their memory, and cost none when they are used again.

    Example:
        >>> GrowthConfig(max_parameters=10_000).grow_threshold
        0.6
    """

    grow_threshold: float = 0.6
    shrink_threshold: float = 0.01
    backoff_checks: int = 4
    max_backoff_doublings: int = 4
    revive_after_checks: int = 10
    max_revivals: int = 2
    max_total_dims: int | None = None
    max_parameters: int | None = None
    max_table_bytes: int | None = None

    def __post_init__(self) -> None:
        self._require_number("shrink_threshold", 0.0, 0.5)
        self._require_number("grow_threshold", 0.5, 1.0)
        for key in ("backoff_checks", "max_backoff_doublings", "max_revivals"):
            self._require_int(key, 0)
        self._require_int("revive_after_checks", 1)
        for key in ("max_total_dims", "max_parameters", "max_table_bytes"):
            self._require_int(key, 1, optional=True)

    def require_room_for(self, fields: Sequence[Field], bytes_per_parameter: int = 4) -> None:
        """Raises ValueError if a budget is below the start of the search: max(1, min_dim) dimensions a field.

        Args:
            fields: the first field of each table.
            bytes_per_parameter: bytes of one value of a table with its optimizer slots.
        """
        dims = sum(max(1, field.min_dim) for field in fields)
        parameters = sum(field.vocabulary_size * max(1, field.min_dim) for field in fields)
        for key, budget, needed, unit in (
            ("max_total_dims", self.max_total_dims, dims, "dimensions"),
            ("max_parameters", self.max_parameters, parameters, "parameters"),
            ("max_table_bytes", self.max_table_bytes, parameters * bytes_per_parameter, "bytes"),
        ):
            if budget is not None and budget < needed:
                raise ValueError(
                    f"GrowthConfig: {key}={budget} is below one dimension for each of the {len(fields)} fields, which "
                    f"takes {needed} {unit}. Raise {key} to at least {needed}, or leave fields out."
                )


@dataclasses.dataclass(frozen=True)
class Action:
    """One decision: `kind` is "grow", "drop" or "revive"; `index` is the field's position."""

    kind: str
    index: int


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What the tables hold: allocated columns of each, dropped ones included, and bytes of one value with its slots."""

    dims: Sequence[int] | np.ndarray
    bytes_per_parameter: int = 4


def decide(
    fields: Sequence[Field],
    gates: Sequence[np.ndarray],
    state: np.ndarray,
    config: GrowthConfig,
    allocation: Allocation | None = None,
) -> tuple[list[Action], np.ndarray]:
    """Decides what happens to each field at one check.

    Args:
        fields: the fields.
        gates: per field, the gates of its dimensions in use (empty: the field is at 0).
        state: counters of the last check, int32 [F, STATE_COLUMNS]; not modified.
        config: thresholds and budgets.
        allocation: for a budget in bytes; None if all that is allocated is in use, in float32 without slots.

    Returns:
        The actions, drops first and then growths in the order in which they claim the budget, and the new state.
    """
    state = state.copy()
    room = _Room(fields, gates, config, allocation)
    dims, sizes = room.dims, room.sizes
    smallest = np.array([g.min() if len(g) else 0.0 for g in gates])
    state[:, WAIT] = np.maximum(state[:, WAIT] - 1, 0)
    state[:, ABSENT] = np.where(dims == 0, state[:, ABSENT] + 1, 0)
    state[:, QUIET] += 1

    drops = [i for i, f in enumerate(fields) if dims[i] > f.min_dim and smallest[i] < config.shrink_threshold]
    for i in drops:
        dims[i] -= 1
        state[i, WAIT] = min(config.backoff_checks << int(state[i, BACKOFF]), np.iinfo(np.int32).max)
        state[i, BACKOFF] = min(state[i, BACKOFF] + 1, config.max_backoff_doublings)

    dropped = set(drops)
    revivals = [
        i
        for i in range(len(fields))
        if dims[i] == 0
        and i not in dropped
        and state[i, ABSENT] >= config.revive_after_checks
        and state[i, REVIVALS] < config.max_revivals
    ]
    growths = [
        i
        for i, field in enumerate(fields)
        if 0 < dims[i] < field.max_dim
        and i not in dropped
        and state[i, WAIT] == 0
        and smallest[i] > config.grow_threshold
    ]
    growths.sort(key=lambda i: -smallest[i] / sizes[i])

    actions = [Action("drop", i) for i in drops]
    for kind, candidates in (("revive", revivals), ("grow", growths)):
        for i in candidates:
            if room.is_enough_for(i):
                room.take(i)
                actions.append(Action(kind, i))
                if kind == "revive":
                    state[i, REVIVALS] += 1
                else:
                    state[i, BACKOFF] = max(state[i, BACKOFF] - 1, 0)
    for action in actions:
        state[action.index, QUIET] = 0
    return actions, state


class _Room:
    """Dimensions in use and allocated, and what the budgets leave."""

    def __init__(self, fields, gates, config: GrowthConfig, allocation: Allocation | None):
        self.dims = np.array([len(g) for g in gates])
        self.sizes = np.array([field.vocabulary_size for field in fields])
        self._allocation = allocation or Allocation(self.dims)
        self._allocated = np.maximum(self._allocation.dims, self.dims)
        self._config = config

    def is_enough_for(self, index: int) -> bool:
        """Whether the budgets allow field `index` one dimension more."""
        is_new = self.dims[index] == self._allocated[index]
        values = (self.sizes * self._allocated).sum() + self.sizes[index] * is_new
        return all(
            budget is None or after <= budget
            for budget, after in (
                (self._config.max_total_dims, self.dims.sum() + 1),
                (self._config.max_parameters, (self.sizes * self.dims).sum() + self.sizes[index]),
                (self._config.max_table_bytes, values * self._allocation.bytes_per_parameter),
            )
        )

    def take(self, index: int) -> None:
        """Gives field `index` one dimension more."""
        self.dims[index] += 1
        self._allocated[index] = max(self._allocated[index], self.dims[index])


def has_converged(
    fields: Sequence[Field],
    gates: Sequence[np.ndarray],
    state: np.ndarray,
    patience_checks: int,
    config: GrowthConfig,
    allocation: Allocation | None = None,
) -> bool:
    """True when no field changed for `patience_checks` checks, none waits for a revival that the budgets allow, and at
    most 5% of the searched gates are undecided, i.e. between 0.1 and 0.5."""
    values = np.concatenate([np.zeros(0), *(g for g, field in zip(gates, fields, strict=True) if field.is_searched)])
    undecided = ((values > 0.1) & (values < 0.5)).sum()
    room = _Room(fields, gates, config, allocation)
    waits_for_revival = any(
        room.dims[i] == 0 and state[i, REVIVALS] < config.max_revivals and room.is_enough_for(i)
        for i in range(len(fields))
    )
    return bool(state[:, QUIET].min() >= patience_checks and not waits_for_revival and undecided <= 0.05 * len(values))
