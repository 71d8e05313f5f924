"""EmbeddingPlan: how many dimensions each field gets, and what that costs."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from keras_dimgrow.fields import FieldInput, first_of_each_table

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedField(FieldInput):
    """One field of a plan: its ids (see `FieldInput`) and its embedding dimension d (0: the field is removed)."""

    dimension: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimension < 0:
            raise ValueError(f"Field {self.name!r}: dimension must be >= 0; received {self.dimension}.")

    @property
    def parameters(self) -> int:
        """V * d, those of the field's table."""
        return self.vocabulary_size * self.dimension


@dataclasses.dataclass(frozen=True)
class EmbeddingPlan:
    """Embedding dimension of every field, in the model's order of fields: the result of a search.

    `#params = sum_i V_i * d_i` (arXiv 2505.12683, section 3), each shared table counted once. Fields of dimension 0 are
    removed from the model.

    Raises:
        ValueError: if there is no field, a name occurs twice, fields of one table differ, or every field is removed.

    Example:
        >>> plan = EmbeddingPlan.uniform([PlannedField(name="city", vocabulary_size=500, dimension=3)], 16)
        >>> plan.parameters
        8000
    """

    fields: tuple[PlannedField, ...]

    def __post_init__(self) -> None:
        first_of_each_table(self.fields, ("dimension",))
        if not any(field.dimension for field in self.fields):
            names = [field.name for field in self.fields]
            raise ValueError(f"Every field has dimension 0: {names}. A plan keeps at least one field.")

    @classmethod
    def from_dimensions(cls, fields: Iterable[FieldInput], dimensions: Mapping[str, int]) -> "EmbeddingPlan":
        """A plan that gives each of `fields` the dimension found under its name."""
        shared = [attribute.name for attribute in dataclasses.fields(FieldInput)]
        return cls(
            tuple(
                PlannedField(**{key: getattr(field, key) for key in shared}, dimension=int(dimensions[field.name]))
                for field in fields
            )
        )

    @classmethod
    def uniform(cls, fields: Iterable[FieldInput], dimension: int) -> "EmbeddingPlan":
        """The plan that a model without a search uses: `dimension` for every field."""
        fields = tuple(fields)
        return cls.from_dimensions(fields, {field.name: dimension for field in fields})

    @property
    def tables(self) -> tuple[PlannedField, ...]:
        """The first field of each table."""
        return first_of_each_table(self.fields, ())

    @property
    def dimensions(self) -> dict[str, int]:
        """Field name -> embedding dimension."""
        return {field.name: field.dimension for field in self.fields}

    @property
    def kept_fields(self) -> tuple[PlannedField, ...]:
        """The fields with at least one dimension."""
        return tuple(field for field in self.fields if field.dimension)

    @property
    def total_dimensions(self) -> int:
        """sum_i d_i over the tables."""
        return sum(table.dimension for table in self.tables)

    @property
    def parameters(self) -> int:
        """Number of embedding parameters, sum_i V_i * d_i over the tables."""
        return sum(table.parameters for table in self.tables)

    def table_bytes(self, bytes_per_value: int = 4) -> int:
        """Bytes of all embedding tables (float32 by default), without optimizer slots."""
        return self.parameters * bytes_per_value

    def ratio_to_uniform(self, dimension: int = 16) -> float:
        """Parameters of this plan divided by those of the uniform plan with `dimension` for every field."""
        return self.parameters / (dimension * sum(table.vocabulary_size for table in self.tables))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types, with its `schema_version`; settings left at their default are left out."""
        defaults = {f.name: f.default for f in dataclasses.fields(PlannedField)}
        fields = [{k: v for k, v in vars(field).items() if v != defaults[k]} for field in self.fields]
        return {"schema_version": SCHEMA_VERSION, "fields": fields}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingPlan":
        """The inverse of `to_dict`.

        Raises:
            ValueError: if `values` is no plan or one of an unknown schema version.
        """
        version = values.get("schema_version")
        if version != SCHEMA_VERSION or "fields" not in values:
            raise ValueError(
                f"Not an EmbeddingPlan of schema_version {SCHEMA_VERSION}: received schema_version={version!r} and "
                f"keys {sorted(values)}. Use the plan.json that a search of this version of keras_dimgrow wrote."
            )
        try:
            return cls(tuple(PlannedField(**field) for field in values["fields"]))
        except TypeError as error:
            raise ValueError(f"Not an EmbeddingPlan: {error}. Received fields {values['fields']!r}.") from error

    def save(self, path: str) -> None:
        """Writes the plan as JSON, to a temporary name first; `path` may be remote."""
        temporary = f"{path}.tmp"
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")
        tf.io.gfile.rename(temporary, path, overwrite=True)

    @classmethod
    def load(cls, path: str) -> "EmbeddingPlan":
        """Reads a plan that `save` wrote."""
        with tf.io.gfile.GFile(path) as file:
            return cls.from_dict(json.loads(file.read()))
