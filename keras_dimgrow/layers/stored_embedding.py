"""StoredEmbedding: a PlannedEmbedding as it is served, its tables stored in few bytes and read with few operations."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters, storage
from keras_dimgrow.layers.planned_embedding import PlannedEmbedding
from keras_dimgrow.plan import EmbeddingPlan


@keras.saving.register_keras_serializable("keras_dimgrow")
class StoredEmbedding(PlannedEmbedding):
    """Gives what a `PlannedEmbedding` gives, in inference only: `with_storage` makes it.

    Rows are looked up in their stored form and decoded then; no operation ever touches a whole table. Its plan is that of
    the tables as they are stored: some are padded with zeros to a dimension that others have (`storage.pad_dimensions`).

    Args:
        plan: the plan of the stored tables.
        adapter_width: see `PlannedEmbedding`.
        adapter: see `PlannedEmbedding`.
        storage: "float32", "float16" or "int8".
        check_ids: see `PlannedEmbedding`.
        keep_removed: see `PlannedEmbedding`.

    Input and output shape: see `PlannedEmbedding`.

    Raises:
        ValueError: if it is called with `training=True`; for ids that do not fit.
    """

    def __init__(
        self,
        plan: EmbeddingPlan | Mapping,
        adapter_width: int = 64,
        adapter: str = "joint",
        storage: str = "float32",
        check_ids: bool = False,
        keep_removed: bool = False,
        **kwargs,
    ):
        super().__init__(
            plan,
            adapter_width,
            adapter,
            seed=0,
            check_ids=check_ids,
            keep_removed=keep_removed,
            **({"trainable": False} | kwargs),
        )
        self.storage = validate_storage(storage)

    def build(self, input_shape):
        self.tables = {}
        for dim, fused in self._fused.items():
            self.tables[str(dim)] = self.add_weight(
                shape=storage.stored_shape(self.storage, fused.num_rows, dim),
                dtype=storage.stored_dtype(self.storage, dim),
                initializer="zeros",
                trainable=False,
                name=f"table_{dim}",
                autocast=False,
            )
            setattr(self, f"table_{dim}", self.tables[str(dim)])  # tf.train.Checkpoint does not look into Keras's dicts
        shape = (sum(field.dimension for field in self._fields_of_q), self.adapter_width)
        self.kernel = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="kernel")

    def call(self, inputs, training=None):
        if training:
            raise ValueError(
                f"{self.name}: a model made by with_storage only predicts: its {self.storage} tables have no gradients. "
                "Train the model that it was made of, and call with_storage again."
            )
        parts = {dim: tf.cast(_concatenate(q), self.compute_dtype) for dim, q in self._embed(inputs).items()}
        kernel = tf.cast(self.kernel.value, self.compute_dtype)
        return self._adapt_jointly(parts, kernel) if self.adapter == "joint" else self._adapt_per_field(parts, kernel)

    def _adapt_jointly(self, parts: Mapping[int, tf.Tensor], kernel: tf.Tensor) -> tf.Tensor:
        """Q W as the sum of the products of Q's halves: fewer operations than a product for each dimension.

        Q as a whole would be copied by two threads where the batch is large, which takes longer (docs/decisions/0007).
        """
        q, sizes = list(parts.values()), self._sizes(parts)
        middle = min(range(1, len(q)), key=lambda i: max(sum(sizes[:i]), sum(sizes[i:])), default=1)
        halves = [_concatenate(half) for half in (q[:middle], q[middle:]) if half]
        kernels = _split(kernel, [sum(half) for half in (sizes[:middle], sizes[middle:]) if half])
        # Not add_n: loading takes longer with every kind of operation, and the backbone adds, too.
        return functools.reduce(operator.add, map(adapters.adapt_jointly, halves, kernels))

    def _adapt_per_field(self, parts: Mapping[int, tf.Tensor], kernel: tf.Tensor) -> tf.Tensor:
        """e_i W_i of each field, [B, F, width]: a product for each field, where the block matrix has F^2."""
        width = self.adapter_width
        products = []
        for (dim, q), rows in zip(parts.items(), _split(kernel, self._sizes(parts)), strict=True):
            q = tf.transpose(tf.reshape(q, [-1, len(self._fused[dim].fields), dim]), [1, 0, 2])
            products.append(tf.matmul(q, tf.reshape(rows, [-1, dim, width])))
        if len(self.fields_of_output) > len(self._fields_of_q):
            products.append(tf.zeros_like(products[0][:1]))  # removed fields that keep their place
        places = {field.name: place for place, field in enumerate(self._fields_of_q)}
        order = [places.get(field.name, len(places)) for field in self.fields_of_output]
        return tf.transpose(tf.gather(tf.concat(products, axis=0), order), [1, 0, 2])

    def _sizes(self, dims: Iterable[int]) -> list[int]:
        """The columns of Q, and rows of the kernel, that the fields of these dimensions have."""
        return [dim * len(self._fused[dim].fields) for dim in dims]

    def _lookup(self, dim: int, rows: tf.Tensor) -> tf.Tensor:
        return storage.decode(super()._lookup(dim, rows), self.storage, dim)

    def _values(self, dim: int) -> np.ndarray:
        return storage.decode(tf.constant(super()._values(dim)), self.storage, dim).numpy()

    def assign_by_field(self, tables: Mapping[str, np.ndarray], kernels: Mapping[str, np.ndarray]) -> None:
        """Takes over the table [V, <= d] and the adapter's rows [<= d, width] of each field, padded and encoded."""
        self._require_values()
        dims = {field.name: field.dimension for field in self.plan.kept_fields}
        kernels = {name: np.pad(rows, ((0, dims[name] - len(rows)), (0, 0))) for name, rows in kernels.items()}
        padded = {name: np.pad(table, ((0, 0), (0, dims[name] - table.shape[1]))) for name, table in tables.items()}
        super().assign_by_field({name: storage.encode(table, self.storage) for name, table in padded.items()}, kernels)

    def get_config(self):
        config = super().get_config()
        for name in ("stddev", "seed"):  # of initial values, which it has none of
            del config[name]
        return config | {"storage": self.storage}


def _concatenate(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def _split(kernel: tf.Tensor, sizes: list[int]) -> list[tf.Tensor]:
    """The kernel's rows in parts. A constant, as it is where a model is exported, is split now, not by the server."""
    constant = tf.get_static_value(kernel)
    return tf.split(kernel, sizes) if constant is None else np.split(constant, np.cumsum(sizes)[:-1])


def validate_storage(name: str) -> str:
    """`name`, if it is a storage.

    Raises:
        ValueError: if it is none.
    """
    if name not in storage.STORAGES:
        raise ValueError(f"storage must be one of {', '.join(storage.STORAGES)}; received {name!r}.")
    return name
