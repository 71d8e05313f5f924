"""The embedding layer of AutoDim's search: every candidate dimension of every field at once (sections 2.2.1 to 2.2.3)."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers.inputs import batch_size_of, embed, read_ids
from keras_dimgrow.methods.autodim_mixture import column_ranges, gumbel_softmax, linear_mixture, padded_mixture
from keras_dimgrow.shuffle import add_shuffle_seed, next_seed

STDDEV = 0.01


@dataclasses.dataclass(frozen=True)
class CandidateGroup:
    """The tables with the same candidate dimensions: one variable, one below the other, and one batched transformation.

    Attributes:
        candidates: d_1 < ... < d_N.
        tables: positions of the tables in `AutoDimEmbedding.tables`.
        offsets: row of id 0 of each table in the variable.
        num_rows: rows of all tables.
        fields: positions of the fields in the layer's, those with one value a row first.
        table_of: for each of `fields`, the position of its table in `tables`.
    """

    candidates: tuple[int, ...]
    tables: list[int]
    offsets: list[int]
    num_rows: int
    fields: list[int]
    table_of: list[int]


def group_by_candidates(fields: Sequence[Field], candidates: Sequence[tuple[int, ...]]) -> list[CandidateGroup]:
    """The groups of `fields`, whose tables (see `tables_of`) have these candidates."""
    tables = tables_of(fields)
    keys = [table.table_key for table in tables]
    groups = []
    for dims in dict.fromkeys(candidates):
        members = [i for i, other in enumerate(candidates) if other == dims]
        starts = np.cumsum([0] + [tables[i].vocabulary_size for i in members]).tolist()
        owners = {f: keys.index(field.table_key) for f, field in enumerate(fields)}
        mine = sorted((f for f, t in owners.items() if t in members), key=lambda f: not fields[f].is_plain)
        table_of = [members.index(owners[f]) for f in mine]
        groups.append(CandidateGroup(dims, members, starts[:-1], starts[-1], mine, table_of))
    return groups


class AutoDimEmbedding(keras.layers.Layer):
    """Embeds fields by the weighted sum of their candidate embeddings, and adapts it to a fixed width.

    Candidates are brought to width D = d_N (linear transformation and BatchNorm, or BatchNorm and zero-padding), summed
    by Gumbel-softmax weights (equation (7)), and mapped by a kernel [F * D, adapter_width] (adapter "joint") or one
    [D, adapter_width] per field ("per_field"), as `PlannedEmbedding` does with the plan's dimensions. Fields that share a
    table share alpha and the drawn weights, and have transformations of their own. BatchNorm has no scale and no shift
    (equations (2), (3)) and takes the moments of the batch at hand, always: there is no mode for inference.

    Args:
        fields: the fields.
        candidates: for each table (see `tables_of`) its candidate dimensions, ascending.
        is_sharing: whether candidate n is the first d_n columns of one table (else each has its own).
        is_linear: whether candidates are transformed linearly (else padded with zeros).
        adapter_width, adapter: as of `PlannedEmbedding`.
        seed: seed of initial values and Gumbel noise.

    Attributes:
        alphas: logits of alpha, one variable [tables, N] a group; trained apart from the other weights.
        temperature: tau of equation (6); infinite for equal weights, as in pretraining.

    Input shape: dict {field name: int [B], or [B, L] with a combiner}.
    Output shape: `[B, adapter_width]`, or `[B, F, adapter_width]` per field.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        candidates: Sequence[tuple[int, ...]],
        is_sharing: bool,
        is_linear: bool,
        adapter_width: int,
        adapter: str,
        seed: int,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.fields = tuple(fields)
        self.candidates = tuple(candidates)
        self.groups = group_by_candidates(fields, candidates)
        self.width = max(max(dims) for dims in candidates)
        self.is_sharing = is_sharing
        self.is_linear = is_linear
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.seed = seed

    def build(self, input_shape):
        def add(shape, name, stddev=STDDEV):
            index = len(self.weights)
            initializer = keras.initializers.RandomNormal(stddev=stddev, seed=self.seed + index)
            return self.add_weight(shape=shape, initializer=initializer, name=name, dtype="float32", autocast=False)

        self.tables, self.transformations, self.kernels, self.alphas = [], [], [], []
        for index, group in enumerate(self.groups):
            columns = column_ranges(group.candidates, self.is_sharing)[-1][1]
            self.tables.append(add((group.num_rows, columns), f"table_{index}"))
            num_fields = len(group.fields)
            dims = group.candidates if self.is_linear else ()
            # By d_n^-1/2 each candidate starts with the same variance, whatever its dimension: a fair start.
            self.transformations.append(
                [add((num_fields, dim, self.width), f"transformation_{index}_{dim}", dim**-0.5) for dim in dims]
            )
            self.kernels.append(add((num_fields, self.width, self.adapter_width), f"kernel_{index}"))
            self.alphas.append(
                self.add_weight(
                    shape=(len(group.tables), len(group.candidates)),
                    initializer="zeros",
                    dtype="float32",
                    autocast=False,
                    name=f"alpha_{index}",
                )
            )
        self.temperature = self.add_weight(
            shape=(), initializer="ones", dtype="float32", trainable=False, autocast=False, name="temperature"
        )
        self.noise_seed = add_shuffle_seed(self, self.seed)

    def call(self, inputs, training=None):
        ids = read_ids(inputs, self.fields, self.name)
        parts = []
        for index in range(len(self.groups)):
            x, mixture = self._mix(index, ids)
            # The product of the two small matrices first: the mixture of width D is never laid out.
            parts.append((x, tf.matmul(mixture, self.kernels[index].value)))
        if self.adapter == "joint":
            adapted = tf.add_n([tf.einsum("fbc,fcw->bw", x, kernel) for x, kernel in parts])
        else:
            adapted = tf.concat([tf.matmul(x, kernel) for x, kernel in parts], axis=0)
            order = np.argsort([field for group in self.groups for field in group.fields])
            adapted = tf.transpose(tf.gather(adapted, order), [1, 0, 2])
        return tf.cast(adapted, self.compute_dtype)

    def _mix(self, index: int, ids) -> tuple[tf.Tensor, tf.Tensor]:
        """Centred embeddings [F, B, C] of one group's fields, and the matrix [F, C, D] of their mixture."""
        group = self.groups[index]
        x = self._look_up(index, ids)
        centred = x - tf.reduce_mean(x, axis=1, keepdims=True)
        p = gumbel_softmax(self.alphas[index].value, self.temperature.value, next_seed(self.noise_seed))
        p = tf.gather(p, group.table_of)
        ranges = column_ranges(group.candidates, self.is_sharing)
        if self.is_linear:
            kernels = [kernel.value for kernel in self.transformations[index]]
            return centred, linear_mixture(centred, kernels, p, ranges)
        return centred, padded_mixture(centred, p, ranges, self.width)

    def _look_up(self, index: int, ids) -> tf.Tensor:
        """Embeddings [F, B, C] of one group's fields."""
        group, table = self.groups[index], self.tables[index].value
        offsets = [group.offsets[position] for position in group.table_of]
        is_plain = [self.fields[field].is_plain for field in group.fields]
        num_plain = sum(is_plain)
        parts = []
        if num_plain:
            rows = tf.stack([tf.cast(ids[field].ids, tf.int64) for field in group.fields[:num_plain]])
            parts.append(tf.gather(table, rows + tf.constant(offsets[:num_plain], tf.int64)[:, tf.newaxis]))
        combined = list(zip(group.fields, offsets, strict=True))[num_plain:]
        if combined:
            parts.append(tf.stack([embed(table, ids[f], self.fields[f], offset) for f, offset in combined]))
        return tf.concat(parts, axis=0)

    def architectural_weights(self) -> list[np.ndarray]:
        """alpha of each table, [N], in the order of `tables_of(fields)`."""
        found: dict[int, np.ndarray] = {}
        for group, logits in zip(self.groups, self.alphas, strict=True):
            found |= dict(zip(group.tables, np.asarray(tf.nn.softmax(logits.value)), strict=True))
        return [found[table] for table in range(len(self.candidates))]

    def dimensions(self) -> list[int]:
        """Of each table, the candidate with the largest alpha (equation (13)); of equal ones the smallest."""
        weights = zip(self.candidates, self.architectural_weights(), strict=True)
        return [dims[int(np.argmax(alpha))] for dims, alpha in weights]

    @property
    def table_parameters(self) -> int:
        """Parameters of the tables of all candidates."""
        return sum(int(np.prod(table.shape)) for table in self.tables)

    def compute_output_shape(self, input_shape: Mapping) -> tuple:
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.fields), self.adapter_width)
