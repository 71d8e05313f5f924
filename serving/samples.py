"""Inputs made up for a signature, to run it without knowing its data."""

import numpy as np
import tensorflow as tf

from serving.session import SessionModel, Signature

Batch = dict[str, np.ndarray]

# Rows by the dtype's kind: text that is a number suits string and integer columns alike.
_MISSING: dict[str, bytes | float] = {"string": b"", "float": float("nan"), "other": 0}
_VALUES: dict[str, list] = {"string": [b"1", b"", b"2"], "float": [1.0, float("nan"), 2.0], "other": [1, 0, 1]}


def make_batches(model: SessionModel, signature: Signature) -> dict[str, Batch]:
    """Batches of 1 and 3 rows, by what is in them: all missing, some values, and (raw columns) text that is unknown.

    A label that two signatures share stands for the same rows in both.
    """
    if is_examples(signature):
        return _make_example_batches(next(iter(signature.inputs)), read_example_features(model))
    batches = {}
    for num_rows in (1, 3):
        batches[f"{num_rows} x all missing"] = {
            name: _make_array(spec, [_MISSING[_kind(spec.dtype)]] * num_rows) for name, spec in signature.inputs.items()
        }
        batches[f"{num_rows} x some values"] = {
            name: _make_array(spec, _VALUES[_kind(spec.dtype)][:num_rows]) for name, spec in signature.inputs.items()
        }
    if any(spec.dtype == tf.string for spec in signature.inputs.values()):
        batches["1 x unknown text"] = {
            name: _make_array(spec, [b"? unknown ?" if spec.dtype == tf.string else 1])
            for name, spec in signature.inputs.items()
        }
    return batches


def make_optional_batches(signature: Signature) -> dict[str, tuple[Batch, Batch]]:
    """Batches without some inputs, each with the batch of all inputs that must give the same outputs.

    Empty unless every input has a default.
    """
    if set(signature.defaults) != set(signature.inputs):
        return {}
    first = next(iter(signature.inputs))
    missing = {name: _make_array(spec, [_MISSING[_kind(spec.dtype)]] * 3) for name, spec in signature.inputs.items()}
    values = {first: _make_array(signature.inputs[first], _VALUES[_kind(signature.inputs[first].dtype)])}
    empty = {name: x[:0] for name, x in missing.items()}
    return {
        "no column": ({}, {name: x[:1] for name, x in missing.items()}),
        f"3 x only {first}": (values, missing | values),
        f"3 x {first}, the others empty": (empty | values, missing | values),
    }


def is_examples(signature: Signature) -> bool:
    """Whether a signature takes serialized tf.Examples."""
    inputs = [(name, spec.dtype) for name, spec in signature.inputs.items()]
    if signature.method_name in (tf.saved_model.CLASSIFY_METHOD_NAME, tf.saved_model.REGRESS_METHOD_NAME):
        return [dtype for _, dtype in inputs] == [tf.string]
    return inputs == [("examples", tf.string)]


def read_example_features(model: SessionModel) -> dict[str, tuple[tf.DType, bool]]:
    """{feature: (dtype, is_required)} of the tf.Examples that a model parses, read from its graph's ParseExample ops.

    Empty where the graph has none (it may parse by other means).
    """
    features: dict[str, tuple[tf.DType, bool]] = {}
    for function in model.meta_graph.graph_def.library.function:
        nodes = {node.name: node for node in function.node_def}
        for node in nodes.values():
            if node.op != "ParseExampleV2":
                continue
            # ParseExampleV2's inputs: serialized, names, sparse_keys, dense_keys, ragged_keys, then the dense defaults.
            sources = [nodes.get(source.split(":")[0]) for source in node.input]
            for key, dtype in zip(_constant(sources[2]), node.attr["sparse_types"].list.type, strict=True):
                features[key.decode()] = (tf.as_dtype(dtype), False)
            dense = zip(_constant(sources[3]), node.attr["Tdense"].list.type, sources[5:], strict=True)
            for key, dtype, default in dense:
                is_required = default is not None and default.op == "Const" and _constant(default).size == 0
                features[key.decode()] = (tf.as_dtype(dtype), is_required)
    return features


def _constant(node: tf.compat.v1.NodeDef) -> np.ndarray:
    return tf.make_ndarray(node.attr["value"].tensor)


def _make_example_batches(input_name: str, features: dict[str, tuple[tf.DType, bool]]) -> dict[str, Batch]:
    def serialize(row: int | None) -> bytes:
        example = tf.train.Example()
        for name, (dtype, is_required) in features.items():
            # The middle row of _VALUES is the missing one: a feature that may be absent is absent there.
            if row is not None and (row != 1 or is_required):
                _append(example.features.feature[name], dtype, number=2 if row == 2 else 1)
        return example.SerializeToString()

    def pack(rows: list[int | None]) -> Batch:
        return {input_name: np.array([serialize(row) for row in rows], object)}

    if any(is_required for _, is_required in features.values()):
        return {"1 x filled example": pack([0]), "3 x filled example": pack([0, 1, 2])}
    batches = {"1 x all missing": pack([None]), "3 x all missing": pack([None] * 3)}
    if features:
        batches |= {"1 x some values": pack([0]), "3 x some values": pack([0, 1, 2])}
    return batches


def _append(feature: tf.train.Feature, dtype: tf.DType, number: int) -> None:
    if dtype == tf.string:
        feature.bytes_list.value.append(str(number).encode())
    elif dtype == tf.int64:
        feature.int64_list.value.append(number)
    else:
        feature.float_list.value.append(number)


def _kind(dtype: tf.DType) -> str:
    if dtype == tf.string:
        return "string"
    return "float" if dtype.is_floating else "other"


def _make_array(spec: tf.TensorSpec, rows: list) -> np.ndarray:
    """Rows [B] as an array [B, ...] of a signature's input; unknown axes get length 1."""
    array = np.array(rows, object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
    inner = [] if spec.shape.rank is None else [length or 1 for length in spec.shape.as_list()[1:]]
    return np.broadcast_to(array.reshape([-1] + [1] * len(inner)), [len(rows), *inner])
