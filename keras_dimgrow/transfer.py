"""From a trained search model to a model with its plan that predicts the same: the start of fine-tuning (section 4.2.2)."""

import keras
import numpy as np

from keras_dimgrow.clones import clone_with
from keras_dimgrow.layers import DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding

_REFUSAL = (
    "transfer_model takes a RankingModel, functional or sequential model with a DimGrowEmbedding; received {model}. In a "
    "model of your own, put transfer_layer(embedding) in the embedding's place."
)


def transfer_layer(layer: DimGrowEmbedding | GrowableEmbedding) -> PlannedEmbedding:
    """A PlannedEmbedding with the plan of `layer` and its columns; of a DimGrowEmbedding those that survive, with the gates
    folded into the adapter.

    In inference both give the same output; for a DimGrowEmbedding if it uses no dimension that `plan()` leaves out: after
    `search`, or after `layer.settle()`. With the adapter per field, removed fields keep their place in the output, as zeros.

    Raises:
        ValueError: if `layer` has no values yet, or its gates removed every field.

    Example:
        >>> from keras_dimgrow import Field
        >>> layer = DimGrowEmbedding([Field(name="city", vocabulary_size=50, min_dim=2)], adapter_width=8, seed=0)
        >>> expected = layer({"city": np.arange(50)})
        >>> bool(np.allclose(transfer_layer(layer)({"city": np.arange(50)}), expected, atol=1e-6))
        True
    """
    if not layer.built:
        raise ValueError(f"The layer {layer.name!r} has no values to transfer yet. Train its model, or load it, first.")
    planned = PlannedEmbedding(
        layer.plan(),
        layer.adapter_width,
        layer.adapter,
        layer.stddev,
        layer.seed,
        layer.check_ids,
        keep_removed=True,
        dtype=layer.dtype_policy,
        name=layer.name,
    )
    planned.build(None)
    tables, kernels = {}, {}
    if isinstance(layer, DimGrowEmbedding):
        gates = np.split(np.asarray(layer.all_gates()), np.cumsum(layer.allocated_dims)[:-1])
        survivors = layer.surviving_columns()
    else:
        gates = [np.ones(dim, np.float32) for dim in layer.allocated_dims]
        survivors = [np.arange(dim) for dim in layer.allocated_dims]
    bounds = np.cumsum([layer.allocated_dims[table] for table in layer.table_of])[:-1]
    rows_of_fields = np.split(layer.kernel.numpy(), bounds)
    for field, table, rows in zip(layer.fields, layer.table_of, rows_of_fields, strict=True):
        columns = survivors[table]
        tables[field.name] = layer.tables[table].numpy()[:, columns]
        kernels[field.name] = rows[columns] * gates[table][columns, np.newaxis]
    planned.assign_by_field(tables, kernels)
    return planned


def transfer_model(model: keras.Model) -> keras.Model:
    """A model like `model`, not compiled, each layer of a search in it turned into a PlannedEmbedding (`transfer_layer`).

    All other weights are copied; `model` is left as it is. Takes a `RankingModel`, a functional or a sequential model,
    also nested ones.

    Raises:
        ValueError: for another kind of model (build yours with `transfer_layer`), or one without a DimGrowEmbedding.

    Example:
        >>> from keras_dimgrow import Field
        >>> layer = DimGrowEmbedding([Field(name="city", vocabulary_size=50, min_dim=2)], adapter_width=8, seed=0)
        >>> model = keras.Sequential([keras.Input((1,), dtype="int32"), layer, keras.layers.Dense(1, "sigmoid")])
        >>> [type(each).__name__ for each in transfer_model(model).layers]
        ['PlannedEmbedding', 'Dense']
    """
    return clone_with(model, (DimGrowEmbedding, GrowableEmbedding), transfer_layer, _REFUSAL)
