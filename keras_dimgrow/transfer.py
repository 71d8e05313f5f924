"""From a trained search model to a model with its plan that predicts the same: the start of fine-tuning (section 4.2.2)."""

import keras
import numpy as np

from keras_dimgrow.layers import DimGrowEmbedding, PlannedEmbedding
from keras_dimgrow.models import RankingModel


def transfer_layer(layer: DimGrowEmbedding) -> PlannedEmbedding:
    """A PlannedEmbedding with the plan of `layer` and its surviving columns; gates are folded into the adapter.

    In inference both give the same output if `layer` uses no dimension that `plan()` leaves out: after `search`, or after
    `layer.settle()`. With the adapter per field, removed fields keep their place in the output, as zeros.

    Raises:
        ValueError: if `layer` has no values yet, or its gates removed every field.
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
    gates = np.split(np.asarray(layer.all_gates()), np.cumsum(layer.allocated_dims)[:-1])
    bounds = np.cumsum([layer.allocated_dims[table] for table in layer.table_of])[:-1]
    rows_of_fields = np.split(layer.kernel.numpy(), bounds)
    survivors = layer.surviving_columns()
    for field, table, rows in zip(layer.fields, layer.table_of, rows_of_fields, strict=True):
        columns = survivors[table]
        tables[field.name] = layer.tables[table].numpy()[:, columns]
        kernels[field.name] = rows[columns] * gates[table][columns, np.newaxis]
    planned.assign_by_field(tables, kernels)
    return planned


def transfer_model(model: keras.Model) -> keras.Model:
    """A model like `model`, not compiled, with each DimGrowEmbedding turned into a PlannedEmbedding (`transfer_layer`).

    All other weights are copied; `model` is left as it is. Takes a `RankingModel`, a functional or a sequential model.

    Raises:
        ValueError: for another kind of model (build yours with `transfer_layer`), or one without a DimGrowEmbedding.
    """
    if isinstance(model, RankingModel) and isinstance(model.embedding, DimGrowEmbedding):
        backbone = type(model.backbone).from_config(model.backbone.get_config())
        transferred = RankingModel(transfer_layer(model.embedding), backbone, name=model.name)
        transferred.build()
        backbone.set_weights(model.backbone.get_weights())
        return transferred
    is_cloneable = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not is_cloneable or not any(isinstance(layer, DimGrowEmbedding) for layer in model.layers):
        raise ValueError(
            f"transfer_model takes a RankingModel, functional or sequential model with a DimGrowEmbedding; received "
            f"{type(model).__name__} {model.name!r}. In a model of your own, put transfer_layer(embedding) in the "
            "embedding's place."
        )

    def clone(layer):
        if isinstance(layer, DimGrowEmbedding):
            return transfer_layer(layer)
        return type(layer).from_config(layer.get_config())

    transferred = keras.models.clone_model(model, clone_function=clone)
    for old, new in zip(model.layers, transferred.layers, strict=True):
        if not isinstance(old, DimGrowEmbedding):
            new.set_weights(old.get_weights())
    return transferred
