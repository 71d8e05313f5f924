"""EmbeddingPlan: how many dimensions each field gets, and what that costs."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.chunking import ChunkConfig, choose_ratios, count_slots
from keras_dimgrow.fields import FieldInput, first_of_each_table

SCHEMA_VERSION = 1  # of plans by fields; those with chunks have the next one, which older readers refuse
CHUNKS_SCHEMA_VERSION = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedField(FieldInput):
    """One field of a plan: its ids (see `FieldInput`) and its embedding dimension d (0: the field is removed).

    Args:
        name, vocabulary_size, combiner, weights, missing_id, table: see `FieldInput`.
        dimension: d; of a field in chunks, that of an unpruned row.
        is_chunked: whether rows have as many of the dimensions as the pool of the plan's chunks has room for (FIITED).
        start_dimension: dimensions that rows of a field in chunks start with, on average (`ChunkedEmbedding.start_with`). None:
            every table starts with the same share of its chunks.
    """

    dimension: int
    is_chunked: bool = False
    start_dimension: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimension < 0:
            raise ValueError(f"Field {self.name!r}: dimension must be >= 0; received {self.dimension}.")
        if self.start_dimension is not None and not (self.is_chunked and 0 <= self.start_dimension <= self.dimension):
            raise ValueError(
                f"Field {self.name!r}: start_dimension must be 0 to dimension, for a field in chunks; received "
                f"start_dimension={self.start_dimension}, dimension={self.dimension}, is_chunked={self.is_chunked}."
            )

    @property
    def parameters(self) -> int:
        """V * d, those of the field's table; of one in chunks, if no row were pruned."""
        return self.vocabulary_size * self.dimension


@dataclasses.dataclass(frozen=True)
class EmbeddingPlan:
    """Embedding dimension of every field, in the model's order of fields: the result of a search.

    `#params = sum_i V_i * d_i` (arXiv 2505.12683, section 3), each shared table counted once. Fields of dimension 0 are
    removed from the model.

    Args:
        fields: the fields, in the model's order.
        chunks: how the rows of fields with `is_chunked` are cut and pruned; None where there are none. Their parameters are the
            values of the pool; its index and utilities count as bytes (`ChunkedEmbedding.summary`), not as parameters.

    Raises:
        ValueError: if there is no field, a name occurs twice, fields of one table differ, every field is removed, or `chunks`
            does not fit the fields.

    Example:
        >>> plan = EmbeddingPlan.uniform([PlannedField(name="city", vocabulary_size=500, dimension=3)], 16)
        >>> plan.parameters
        8000
    """

    fields: tuple[PlannedField, ...]
    chunks: ChunkConfig | None = None

    def __post_init__(self) -> None:
        first_of_each_table(self.fields, ("dimension", "is_chunked", "start_dimension"))
        if not any(field.dimension for field in self.fields):
            names = [field.name for field in self.fields]
            raise ValueError(f"Every field has dimension 0: {names}. A plan keeps at least one field.")
        chunked = self.chunked_fields
        if bool(chunked) != (self.chunks is not None):
            raise ValueError(
                "A plan has chunks where it has fields in chunks, and only there; received chunks="
                f"{self.chunks!r} and is_chunked for {[field.name for field in chunked]}."
            )
        if self.chunks is None:
            return
        for field in chunked:
            if not field.dimension or field.dimension % self.chunks.chunks:
                raise ValueError(
                    f"Field {field.name!r}: the number of chunks must divide its dimension; received "
                    f"chunks={self.chunks.chunks}, dimension={field.dimension}."
                )
        if len({field.start_dimension is None for field in chunked}) > 1:
            raise ValueError("Either all fields in chunks have a start_dimension or none; received a plan with both.")

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

    def in_chunks(
        self,
        config: ChunkConfig,
        dimension: int = UNIFORM_DIMENSION,
        min_rows: int = 0,
        is_start: bool = True,
    ) -> "EmbeddingPlan":
        """This plan with its large tables in chunks, which it need not know of yet.

        Args:
            config: how rows are cut and pruned.
            dimension: of an unpruned row.
            min_rows: tables of so many rows and more are put in chunks; smaller ones stay as they are, removed ones removed.
            is_start: whether rows start with the dimensions of this plan (at most `dimension`); else every table starts with
                the same share of its chunks.

        Raises:
            ValueError: if no table is so large, or `config` does not fit.

        Example:
            >>> from keras_dimgrow.fields import Field
            >>> fields = [Field(name="user", vocabulary_size=1000), Field(name="hour", vocabulary_size=24)]
            >>> plan = EmbeddingPlan.uniform(fields, 4).in_chunks(ChunkConfig(pruning_ratio=0.75), min_rows=100)
            >>> plan.dimensions, plan.parameters
            ({'user': 16, 'hour': 4}, 4096)
        """
        fields = []
        for field in self.fields:
            if field.dimension and field.vocabulary_size >= min_rows:
                start = min(field.dimension, dimension) if is_start else None
                field = dataclasses.replace(field, dimension=dimension, is_chunked=True, start_dimension=start)
            fields.append(field)
        if not any(field.is_chunked for field in fields):
            largest = max(field.vocabulary_size for field in self.kept_fields)
            raise ValueError(
                f"No table is put in chunks: received min_rows={min_rows}, and the largest that the plan keeps has {largest} "
                "rows. Lower min_rows, or train the plan as it is."
            )
        return EmbeddingPlan(tuple(fields), config)

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
    def chunked_fields(self) -> tuple[PlannedField, ...]:
        """The fields whose rows are in chunks."""
        return tuple(field for field in self.fields if field.is_chunked)

    @property
    def whole_fields(self) -> tuple[PlannedField, ...]:
        """The kept fields whose rows all have their dimension."""
        return tuple(field for field in self.kept_fields if not field.is_chunked)

    @property
    def pool_parameters(self) -> int:
        """Values that the pools of chunks hold; 0 without chunks."""
        if self.chunks is None:
            return 0
        dimensions = {table: table.dimension for table in self.tables if table.is_chunked}
        ratios = choose_ratios(self.chunks, dimensions)
        total = 0
        for dim in set(dimensions.values()):
            num_rows = sum(table.vocabulary_size for table in dimensions if table.dimension == dim)
            total += count_slots(self.chunks, num_rows, ratios) * (dim // self.chunks.chunks)
        return total

    @property
    def total_dimensions(self) -> int:
        """sum_i d_i over the tables."""
        return sum(table.dimension for table in self.tables)

    @property
    def parameters(self) -> int:
        """Number of embedding parameters: sum_i V_i * d_i over the tables, and the values of the pools of chunks."""
        return sum(table.parameters for table in self.tables if not table.is_chunked) + self.pool_parameters

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
        if self.chunks is None:
            return {"schema_version": SCHEMA_VERSION, "fields": fields}
        return {"schema_version": CHUNKS_SCHEMA_VERSION, "fields": fields, "chunks": self.chunks.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingPlan":
        """The inverse of `to_dict`.

        Raises:
            ValueError: if `values` is no plan or one of an unknown schema version.
        """
        version = values.get("schema_version")
        if version not in (SCHEMA_VERSION, CHUNKS_SCHEMA_VERSION) or "fields" not in values:
            known = f"{SCHEMA_VERSION} or {CHUNKS_SCHEMA_VERSION}"
            raise ValueError(
                f"Not an EmbeddingPlan of schema_version {known}: received schema_version={version!r} and "
                f"keys {sorted(values)}. Use the plan.json that a search of this version of keras_dimgrow wrote."
            )
        try:
            chunks = ChunkConfig.from_dict(values["chunks"]) if "chunks" in values else None
            return cls(tuple(PlannedField(**field) for field in values["fields"]), chunks)
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
