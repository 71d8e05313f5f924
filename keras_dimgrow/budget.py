"""A parameter budget, as a user says it: a share of the uniform model, a number of parameters, or bytes."""

import re
from collections.abc import Iterable
from typing import Any

from keras_dimgrow.fields import FieldInput, first_of_each_table

UNIFORM_DIMENSION = 16  # what shares are shares of
BYTES_PER_PARAMETER = 4  # float32, as served: without optimizer slots
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B\s*", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}

Budget = float | int | str


def parse_budget(budget: Budget, fields: Iterable[FieldInput]) -> int:
    """The number of embedding parameters, sum_i V_i d_i, that `budget` allows.

    Args:
        budget: a float in (0, 1]: this share of the parameters of uniform dimension 16; an int: parameters; a text such as
            "64MB", "1.5GiB" or "800kB": bytes of the float32 tables as they are served, without optimizer slots.
        fields: the fields; each shared table counts once.

    Raises:
        ValueError: if `budget` is none of these, or no parameters at all.

    Example:
        >>> from keras_dimgrow.fields import Field
        >>> [parse_budget(budget, [Field(name="city", vocabulary_size=500)]) for budget in (0.25, 3000, "10kB")]
        [2000, 3000, 2500]
    """
    require_budget(budget)
    rows = sum(table.vocabulary_size for table in first_of_each_table(fields, ()))
    if isinstance(budget, str):
        number, unit = _SIZE.fullmatch(budget).groups("")  # type: ignore[union-attr]
        parameters = int(float(number) * _UNITS[unit.upper()]) // BYTES_PER_PARAMETER
    elif isinstance(budget, float):
        # The tolerance is for shares such as 0.3 that have no exact binary fraction.
        parameters = int(budget * UNIFORM_DIMENSION * rows * (1 + 1e-12))
    else:
        parameters = budget
    if parameters < 1:
        raise ValueError(
            f"parameter_budget must allow at least one of the uniform model's {UNIFORM_DIMENSION * rows} parameters; "
            f"received {budget!r}. Raise it."
        )
    return parameters


def require_budget(budget: Any) -> None:
    """Raises ValueError unless `budget` is in one of the three forms: what can be said before the fields are known."""
    if isinstance(budget, str):
        is_budget = _SIZE.fullmatch(budget) is not None
    elif isinstance(budget, float):
        is_budget = 0.0 < budget <= 1.0
    else:
        is_budget = isinstance(budget, int) and not isinstance(budget, bool) and budget >= 1
    if not is_budget:
        raise ValueError(
            "parameter_budget must be a share in (0.0, 1.0] of the uniform model's parameters (a float), a number of "
            f'parameters (an int >= 1) or a size such as "64MB"; received {budget!r}.'
        )
