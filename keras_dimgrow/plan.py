"""EmbeddingPlan: how many dimensions each field gets, and what that costs."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from keras_dimgrow.fields import Field

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedField:
    """One field of a plan: its vocabulary size V and its embedding dimension d (0: the field is removed)."""

    name: str
    vocabulary_size: int
    dimension: int

    def __post_init__(self) -> None:
        Field(name=self.name, vocabulary_size=self.vocabulary_size)
        if self.dimension < 0:
            raise ValueError(f"Field {self.name!r}: dimension must be >= 0; received {self.dimension}.")

    @property
    def parameters(self) -> int:
        """V * d."""
        return self.vocabulary_size * self.dimension


@dataclasses.dataclass(frozen=True)
class EmbeddingPlan:
    """Embedding dimension of every field, in the model's order of fields: the result of a search.

    `#params = sum_i V_i * d_i` (arXiv 2505.12683, section 3). Fields of dimension 0 are removed from the model.

    Raises:
        ValueError: if there is no field, a name occurs twice or every field is removed.
    """

    fields: tuple[PlannedField, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names:
            raise ValueError("An EmbeddingPlan needs at least one field; received none.")
        if len(set(names)) < len(names):
            raise ValueError(f"Field names must be unique; received {names}.")
        if not any(field.dimension for field in self.fields):
            raise ValueError(f"Every field has dimension 0: {names}. A plan keeps at least one field.")

    @classmethod
    def from_dimensions(cls, fields: Iterable[Field], dimensions: Mapping[str, int]) -> "EmbeddingPlan":
        """A plan that gives each of `fields` the dimension found under its name."""
        return cls(
            tuple(
                PlannedField(name=f.name, vocabulary_size=f.vocabulary_size, dimension=int(dimensions[f.name]))
                for f in fields
            )
        )

    @classmethod
    def uniform(cls, fields: Iterable[Field], dimension: int) -> "EmbeddingPlan":
        """The plan that a model without a search uses: `dimension` for every field."""
        fields = tuple(fields)
        return cls.from_dimensions(fields, {field.name: dimension for field in fields})

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
        """sum_i d_i."""
        return sum(field.dimension for field in self.fields)

    @property
    def parameters(self) -> int:
        """Number of embedding parameters, sum_i V_i * d_i."""
        return sum(field.parameters for field in self.fields)

    def table_bytes(self, bytes_per_value: int = 4) -> int:
        """Bytes of all embedding tables (float32 by default), without optimizer slots."""
        return self.parameters * bytes_per_value

    def ratio_to_uniform(self, dimension: int = 16) -> float:
        """Parameters of this plan divided by those of the uniform plan with `dimension` for every field."""
        return self.parameters / (dimension * sum(field.vocabulary_size for field in self.fields))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types, with its `schema_version`."""
        return {"schema_version": SCHEMA_VERSION, "fields": [dataclasses.asdict(field) for field in self.fields]}

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
