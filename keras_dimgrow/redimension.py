"""A trained PlannedEmbedding with the dimensions of another plan: what it computes changes as little as it can."""

import dataclasses

import numpy as np

from keras_dimgrow.fields import FieldInput
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.plan import EmbeddingPlan, PlannedField


def change_dimensions(layer: PlannedEmbedding, plan: EmbeddingPlan) -> PlannedEmbedding:
    """A layer like `layer` with `plan`.

    A table E with adapter rows W gives E W. With more dimensions it gives the same: new columns are zeros, with adapter rows
    that are not, so that they learn (as `GrowableEmbedding.grow` has it). With fewer it gives the nearest matrix of that rank
    (Eckart and Young). A field that had no dimension starts with zeros, too; one that `layer` does not know starts afresh;
    one that `plan` does not know is left out.

    Raises:
        ValueError: if a field's ids, table or combiner are not those of `plan`, or the layer's output would have other fields.
    """
    _require_same_inputs(layer, plan)
    changed = _make_layer(layer, plan)
    tables, kernels = changed.tables_by_field(), changed.kernels_by_field()
    old_tables, old_kernels = layer.tables_by_field(), layer.kernels_by_field()
    for first in plan.tables:
        sharing = [field.name for field in plan.fields if field.table_key == first.table_key]
        known = [name for name in sharing if name in layer.plan.dimensions]
        if not first.dimension or not known:
            continue
        table = np.zeros_like(tables[first.name])
        if known[0] in old_tables:
            fresh = [kernels[name] for name in known]
            table, resized = _resize(old_tables[known[0]], [old_kernels[name] for name in known], fresh)
            kernels |= dict(zip(known, resized, strict=True))
        tables |= dict.fromkeys(sharing, table)
    changed.assign_by_field(tables, kernels)
    return changed


def _resize(
    table: np.ndarray, kernels: list[np.ndarray], fresh: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """E [V, d] and the W_i [d, w] of its fields, with the dimension of `fresh` [d', w]."""
    old_dim, new_dim, width = table.shape[1], len(fresh[0]), fresh[0].shape[1]
    if new_dim >= old_dim:
        padded = np.pad(table, ((0, 0), (0, new_dim - old_dim)))
        return padded, [np.concatenate([w, more[old_dim:]]) for w, more in zip(kernels, fresh, strict=True)]
    # E W = (E R^T) Q^T with orthonormal Q: the right singular vectors of E R^T are those of its small Gram matrix.
    q, r = np.linalg.qr(np.hstack(kernels).astype(np.float64).T)
    rotated = table @ r.T
    _, vectors = np.linalg.eigh(rotated.T @ rotated)
    basis = vectors[:, ::-1][:, :new_dim]
    joined = (basis.T @ q.T).astype(table.dtype)
    parts = np.split(joined, np.arange(width, joined.shape[1], width), axis=1)
    # There are fewer of them than dimensions where the adapter is narrower than the table.
    return _resize((rotated @ basis).astype(table.dtype), parts, fresh)


def _make_layer(layer: PlannedEmbedding, plan: EmbeddingPlan) -> PlannedEmbedding:
    """A fresh layer whose output, per field, has the fields of `layer`'s."""
    config = layer.get_config() | {"plan": plan.to_dict()}
    candidates = [PlannedEmbedding.from_config(config | {"keep_removed": keep}) for keep in (layer.keep_removed, True)]
    if layer.adapter == "joint":
        candidates = candidates[:1]
    places = [field.name for field in layer.fields_of_output]
    for candidate in candidates:
        if layer.adapter == "joint" or [field.name for field in candidate.fields_of_output] == places:
            candidate.build(None)
            return candidate
    kept = [field.name for field in plan.kept_fields]
    raise ValueError(
        f"The layer {layer.name!r} has a place in its output for each of the fields {places}, and what follows was trained "
        f"with them; received a plan that keeps {kept}. Train from scratch, or keep these fields."
    )


def _require_same_inputs(layer: PlannedEmbedding, plan: EmbeddingPlan) -> None:
    old = {field.name: field for field in layer.plan.fields}
    for field in plan.fields:
        if field.name in old:
            for attribute in dataclasses.fields(FieldInput):
                _require_same(old[field.name], field, attribute.name)


def _require_same(old: PlannedField, new: PlannedField, key: str) -> None:
    if getattr(old, key) != getattr(new, key):
        cure = "Call grow_vocabulary first." if key == "vocabulary_size" else "Train from scratch."
        values = f"{getattr(old, key)!r} in the trained model and {getattr(new, key)!r} in the plan"
        raise ValueError(f"Field {new.name!r}: {key} is {values}. {cure}")
