"""What is embedded: a categorical field, its vocabulary, and how its ids come."""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

COMBINERS = ("mean", "sum", "sqrtn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldInput:
    """What `Field` and `PlannedField` share: the ids of a field and how they are looked up.

    Args:
        name: unique name of the field; the key of its ids in a model's input.
        vocabulary_size: V, the number of distinct ids `0 .. V - 1` (out-of-vocabulary ids included), at least 2.
        combiner: for a field with many values a row, ids [B, L]: "mean" (sum w e / sum w), "sum" (sum w e) or "sqrtn"
            (sum w e / sqrt(sum w^2)). None (the default): one value a row, ids [B].
        weights: name of the input with the weight w of each value, float [B, L]; None weighs all values 1.
        missing_id: the id that stands for no value: padding, or an absent value. It need not lie in the vocabulary, is
            embedded as zeros and counts in no combiner. None: every id is a value.
        table: fields with the same `table` share one embedding table, and hence one dimension. None: a table of its own.

    Raises:
        ValueError: if a value is out of its range, or `weights` comes without a combiner.
    """

    name: str
    vocabulary_size: int
    combiner: str | None = None
    weights: str | None = None
    missing_id: int | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("A field needs a name; received an empty one.")
        if self.vocabulary_size < 2:
            raise ValueError(
                f"Field {self.name!r}: vocabulary_size must be >= 2; received {self.vocabulary_size}. "
                "A field with one value carries no information: leave it out of the model."
            )
        if self.combiner not in (None, *COMBINERS):
            raise ValueError(
                f"Field {self.name!r}: combiner must be one of {COMBINERS} or None; received {self.combiner!r}."
            )
        if self.weights is not None and self.combiner is None:
            raise ValueError(
                f"Field {self.name!r}: weights={self.weights!r} need a combiner: weights belong to the many values of "
                'a row. Add combiner="mean", "sum" or "sqrtn".'
            )

    @property
    def table_key(self) -> tuple[str, str]:
        """What fields of one table have in common; a field's name is never taken for a table's."""
        return ("field", self.name) if self.table is None else ("table", self.table)

    @property
    def is_plain(self) -> bool:
        """Whether each row has exactly one value: an embedding is then a mere gather."""
        return self.combiner is None and self.missing_id is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field(FieldInput):
    """A categorical field whose dimension is searched.

    Args:
        name, vocabulary_size, combiner, weights, missing_id, table: see `FieldInput`.
        min_dim: the search never takes the field below this many dimensions. 0 (the default) lets it be removed.
        max_dim: the search never takes the field above this many dimensions. With `max_dim == min_dim` the field is not
            searched: it has this many dimensions, no gates and no penalty.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> Field(name="city", vocabulary_size=500, min_dim=1)  # doctest: +ELLIPSIS
        Field(name='city', vocabulary_size=500, ...)
    """

    min_dim: int = 0
    max_dim: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_dim < 0:
            raise ValueError(f"Field {self.name!r}: min_dim must be >= 0; received {self.min_dim}.")
        if self.max_dim < max(1, self.min_dim):
            raise ValueError(
                f"Field {self.name!r}: max_dim must be >= max(1, min_dim); received max_dim={self.max_dim}, "
                f"min_dim={self.min_dim}. Raise max_dim or lower min_dim."
            )

    @property
    def is_searched(self) -> bool:
        """Whether the search may change the field's dimension."""
        return self.min_dim < self.max_dim


AnyField = TypeVar("AnyField", bound=FieldInput)


def first_of_each_table(fields: Iterable[AnyField], must_agree: tuple[str, ...]) -> tuple[AnyField, ...]:
    """The first field of each table, in order: those that count where tables are counted.

    Raises:
        ValueError: if there is no field, a name occurs twice, or fields of one table differ in an attribute that
            `must_agree` names, or in `vocabulary_size`.
    """
    fields = tuple(fields)
    names = [field.name for field in fields]
    if not names:
        raise ValueError("A model needs at least one field; received none.")
    if len(set(names)) < len(names):
        raise ValueError(f"Field names must be unique; received {names}.")
    first: dict[tuple[str, str], AnyField] = {}
    for field in fields:
        owner = first.setdefault(field.table_key, field)
        for key in ("vocabulary_size", *must_agree):
            if getattr(field, key) != getattr(owner, key):
                raise ValueError(
                    f"Fields {owner.name!r} and {field.name!r} share table {field.table!r} and must have the same "
                    f"{key}; received {getattr(owner, key)} and {getattr(field, key)}."
                )
    return tuple(first.values())


def tables_of(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The first field of each table of a search: what the growth policy decides about."""
    return first_of_each_table(fields, ("min_dim", "max_dim"))
