"""Makes warm-up requests to every signature of a SavedModel out of real rows; serving.warmup writes and replays them."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.names import name_input
from serving.samples import read_example_features
from serving.session import SessionModel, Signature
from serving.warmup import MAX_RECORDS, WarmupError

BATCH_SIZES = (1, 32)

Row = Mapping[str, Any]


def make_warmup_logs(
    saved_model: str | os.PathLike[str],
    rows: Sequence[Row],
    *,
    num_records: int = 100,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> list[prediction_log_pb2.PredictionLog]:
    """Requests to every signature of a SavedModel, made of real rows.

    Signatures and batch sizes take turns; rows are used one after the other, from the start again when they end.

    Args:
        saved_model: the directory that holds saved_model.pb.
        rows: {column: text, bytes, number or None}; columns that the model does not take are left out, absent ones are
            missing values. All columns of a signature are filled, as batching in the server needs it.
        num_records: how many to make, at most 1000; at least one for each signature and batch size is best.
        batch_sizes: rows a request.

    Raises:
        ValueError: without rows, if no row has a column of the model, or if num_records is not from 1 to 1000.
        WarmupError: if a value does not suit its column.
    """
    if not rows:
        raise ValueError("Warm-up records are made of real rows; received none.")
    if not 1 <= num_records <= MAX_RECORDS:
        raise ValueError(f"num_records must be from 1 to {MAX_RECORDS}, as TF Serving reads; received {num_records}.")
    endless = itertools.cycle(rows)
    with SessionModel(os.fspath(saved_model)) as model:
        features = {name: dtype for name, (dtype, _) in read_example_features(model).items()}
        known = {*features, *(name for signature in model.signatures.values() for name in signature.inputs)}
        if not any(name in known or name_input(name) in known for row in rows for name in row):
            raise ValueError(
                f"No row has a column of the model; it has {sorted(known)}, the first row {sorted(rows[0])}."
            )
        kinds = itertools.cycle([(s, size) for size in batch_sizes for s in model.signatures.values()])
        return [
            _make_log(signature, list(itertools.islice(endless, size)), features)
            for signature, size in itertools.islice(kinds, num_records)
        ]


def rows_of_examples(serialized: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """{column: first value} of serialized tf.Examples; columns without a value are left out."""
    for record in serialized:
        row = {}
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            kind = feature.WhichOneof("kind")
            if kind and getattr(feature, kind).value:
                row[name] = getattr(feature, kind).value[0]
        yield row


def _make_log(
    signature: Signature, rows: list[Row], features: Mapping[str, tf.DType]
) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    if features and set(signature.inputs) in ({"examples"}, {"inputs"}):
        request = _fill_examples(log, signature, [_make_example(row, features) for row in rows])
    else:
        request = log.predict_log.request
        columns = {name_input(name): name for row in rows for name in row}
        for name, spec in signature.inputs.items():
            values = [_cast(row.get(columns.get(name, name)), spec.dtype, name) for row in rows]
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, spec.dtype))
    request.model_spec.name = "model"  # TF Serving does not look at it
    request.model_spec.signature_name = signature.name
    return log


def _fill_examples(
    log: prediction_log_pb2.PredictionLog, signature: Signature, examples: list[tf.train.Example]
) -> Any:
    """The request in `log` that the signature's names fit: those of TF Serving's Classify, its Regress, or others."""
    (name,) = signature.inputs
    outputs = set(signature.output_tensors)
    if name == "inputs" and outputs <= {"classes", "scores"}:
        request = log.classify_log.request
    elif name == "inputs" and outputs == {"outputs"}:
        request = log.regress_log.request
    else:
        serialized = [example.SerializeToString(deterministic=True) for example in examples]
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(serialized, object), tf.string))
        return log.predict_log.request
    request.input.example_list.examples.extend(examples)
    return request


def _make_example(row: Row, features: Mapping[str, tf.DType]) -> tf.train.Example:
    example = tf.train.Example()
    for name, dtype in features.items():
        if row.get(name) in (None, "", b""):
            continue
        value, feature = _cast(row[name], dtype, name), example.features.feature[name]
        if dtype == tf.string:
            feature.bytes_list.value.append(value)
        elif dtype.is_floating:
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example


def _cast(value: Any, dtype: tf.DType, column: str) -> Any:
    """One value as a column of the signature takes it; None is the dtype's missing value."""
    try:
        if dtype == tf.string:
            return value if isinstance(value, bytes) else str("" if value is None else value).encode()
        text = value.decode() if isinstance(value, bytes) else value
        if dtype.is_floating:
            return float("nan") if text in (None, "") else float(text)
        return 0 if text in (None, "") else int(text)
    except (TypeError, ValueError) as error:
        raise WarmupError(f"Column {column!r}: {value!r} is no {dtype.name}. Give rows as they are served.") from error
