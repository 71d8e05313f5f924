"""From a trained model to a model with a plan that predicts the same, or nearly: the start of fine-tuning (section 4.2.2)."""

import functools

import keras
import numpy as np

from keras_dimgrow.clones import Layers, clone_with
from keras_dimgrow.layers import DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding
from keras_dimgrow.models import RankingModel
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.redimension import change_dimensions

_REFUSAL = (
    "transfer_model takes a RankingModel, functional or sequential model with a DimGrowEmbedding; received {model}. In a "
    "model of your own, put transfer_layer(embedding) in the embedding's place."
)


def transfer_layer(
    layer: DimGrowEmbedding | GrowableEmbedding | PlannedEmbedding, plan: EmbeddingPlan | None = None
) -> PlannedEmbedding:
    """A PlannedEmbedding with the plan of `layer` and its columns; of a DimGrowEmbedding those that survive, with the gates
    folded into the adapter.

    In inference both give the same output; for a DimGrowEmbedding if it uses no dimension that `plan()` leaves out: after
    `search`, or after `layer.settle()`. With the adapter per field, removed fields keep their place in the output, as zeros.

    Args:
        layer: a layer with values.
        plan: another plan. Where it has at least the layer's dimensions the output stays the same, else it is the nearest that
            so few dimensions can give; fields that the layer does not know start afresh. None: the layer's own.

    Raises:
        ValueError: if `layer` has no values yet, or its gates removed every field; or if `plan` has a field with other ids
            (`grow_vocabulary` first) or leaves no place for a field in the output per field.

    Example:
        >>> from keras_dimgrow import Field
        >>> layer = DimGrowEmbedding([Field(name="city", vocabulary_size=50, min_dim=2)], adapter_width=8, seed=0)
        >>> expected = layer({"city": np.arange(50)})
        >>> bool(np.allclose(transfer_layer(layer)({"city": np.arange(50)}), expected, atol=1e-6))
        True
    """
    if not layer.built:
        raise ValueError(f"The layer {layer.name!r} has no values to transfer yet. Train its model, or load it, first.")
    planned = layer if isinstance(layer, PlannedEmbedding) else _with_own_plan(layer)
    if planned is layer or (plan is not None and plan != planned.plan):
        return change_dimensions(planned, plan or planned.plan)
    return planned


def _with_own_plan(layer: DimGrowEmbedding | GrowableEmbedding) -> PlannedEmbedding:
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


def transfer_model(model: keras.Model, plan: EmbeddingPlan | None = None) -> keras.Model:
    """A model like `model`, not compiled, each layer of a search in it turned into a PlannedEmbedding (`transfer_layer`).

    All other weights are copied; `model` is left as it is. Takes a `RankingModel`, a functional or a sequential model,
    also nested ones.

    Args:
        model: the model of a search; with `plan`, also a `RankingModel` that has a plan already, as `retrain` gives it.
        plan: see `transfer_layer`; for a `RankingModel`. None: the plan of each layer.

    Raises:
        ValueError: for another kind of model (build yours with `transfer_layer`), or one without a DimGrowEmbedding; or if
            `plan` does not fit (`transfer_layer`).

    Example:
        >>> from keras_dimgrow import Field
        >>> layer = DimGrowEmbedding([Field(name="city", vocabulary_size=50, min_dim=2)], adapter_width=8, seed=0)
        >>> model = keras.Sequential([keras.Input((1,), dtype="int32"), layer, keras.layers.Dense(1, "sigmoid")])
        >>> [type(each).__name__ for each in transfer_model(model).layers]
        ['PlannedEmbedding', 'Dense']
    """
    if plan is None:
        return clone_with(model, (DimGrowEmbedding, GrowableEmbedding), transfer_layer, _REFUSAL)
    kinds: Layers = (DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding)
    if not isinstance(model, RankingModel):
        raise ValueError(_REFUSAL.format(model=f"{type(model).__name__} {model.name!r}, and a plan"))
    return clone_with(model, kinds, functools.partial(transfer_layer, plan=plan), _REFUSAL)
