"""The models that serving_speed.py compares, of the Criteo profile, exported for serving; and requests for them."""

import json
import os
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from criteo_profile import ADAPTER_WIDTH, make_fields, make_uniform_model, mixed_dims
from tensorflow.core.protobuf import saved_model_pb2

import keras_dimgrow as kd
from serving.export_graph import flatten_graph, small_weights

TOTAL_ROWS = 1_000_000
SHARE = 0.2
STORAGES = ("float32", "float16", "int8")
BATCH_SIZES = (512, 32, 1)
NUM_REQUESTS = 100


def make_plan(fields: list[kd.Field]) -> kd.EmbeddingPlan:
    """A plan of 20% of uniform 16's parameters, by a fixed rule: no field is removed, dimensions are 1 to 6.

    `mixed_dims`, and then, from the largest table to the smallest, one more dimension as often as it fits. A searched plan
    often removes fields, which only makes it faster.
    """
    sizes, dims = [field.vocabulary_size for field in fields], mixed_dims()
    room = SHARE * 16 * sum(sizes) - sum(size * dim for size, dim in zip(sizes, dims, strict=True))
    for index, size in enumerate(sizes):
        more = int(room // size)
        dims[index] += more
        room -= more * size
    return kd.EmbeddingPlan.from_dimensions(fields, {f.name: dim for f, dim in zip(fields, dims, strict=True)})


def export_all(directory: str) -> None:
    """Writes a SavedModel of each model, as version 1 in a directory of its name; beside them, two files:

    - requests.npz: `B_field` are the ids of all requests of batch size B, [NUM_REQUESTS, B];
    - tensors.json: of each model, the input tensors of serving_default by name, and its output tensor.

    The model `other` has three small fields: a process loads it to start TensorFlow.
    """
    fields = make_fields(TOTAL_ROWS)
    planned = _make_planned(make_plan(fields))
    models = {f"plan_{storage}": kd.with_storage(planned, storage) for storage in STORAGES}
    models["uniform_fused"] = kd.with_storage(_make_planned(kd.EmbeddingPlan.uniform(fields, 16)))
    models["uniform_separate"] = make_uniform_model(fields, None)
    for name, model in models.items():
        export(model, model, fields, os.path.join(directory, name, "1"))
    small = fields[-3:]
    other = make_uniform_model(small, None)
    export(other, other, small, os.path.join(directory, "other", "1"))
    tensors = {name: read_tensor_names(os.path.join(directory, name, "1")) for name in (*models, "other")}
    with open(os.path.join(directory, "tensors.json"), "w", encoding="utf-8") as stream:
        json.dump(tensors, stream)
    requests = {size: make_requests(size, NUM_REQUESTS) for size in BATCH_SIZES}
    arrays = {f"{size}_{f.name}": np.stack([r[f.name] for r in requests[size]]) for size in requests for f in fields}
    np.savez(os.path.join(directory, "requests.npz"), **arrays)


def _make_planned(plan: kd.EmbeddingPlan) -> kd.RankingModel:
    embedding = kd.PlannedEmbedding(plan, ADAPTER_WIDTH, seed=0)
    return kd.build_model(embedding, kd.ModelConfig(adapter_width=ADAPTER_WIDTH), seed=0)


def export(call: Callable, model: keras.Model, fields: list[kd.Field], path: str) -> None:
    """One signature, of `model` or of a `call` of its layers: int64 [B] by field. Done as `serving.export` does it.

    `archive.track(model)` would write each of them twice, of every model.
    """
    signature = {field.name: tf.TensorSpec([None], tf.int64, name=field.name) for field in fields}
    constants = small_weights(model)

    def predict(ids):
        with keras.StatelessScope(constants):
            return {"outputs": call(ids, training=False)}

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", predict, [signature])
    archive.write_out(path, verbose=False)
    flatten_graph(path)


def read_tensor_names(path: str) -> dict:
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        [graph] = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    signature = graph.signature_def["serving_default"]
    inputs = {key: info.name for key, info in sorted(signature.inputs.items())}
    return {"inputs": inputs, "output": signature.outputs["outputs"].name}


def make_requests(batch_size: int, num_requests: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Zipf ids, int64 [B] by field."""
    rng = np.random.default_rng(seed)
    return [
        {f.name: np.minimum(rng.zipf(1.2, batch_size) - 1, f.vocabulary_size - 1) for f in make_fields(TOTAL_ROWS)}
        for _ in range(num_requests)
    ]


if __name__ == "__main__":
    export_all(sys.argv[1])
