"""Warm-up records: real requests that TF Serving sends to a model while it loads, so that no user waits for the first one.

TF Serving reads `assets.extra/tf_serving_warmup_requests`, TFRecords of PredictionLog, at most 1000; see
tensorflow.org/tfx/serving/saved_model_warmup. The rows lie in the model's directory as they were given.
"""

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.session import SavedModelError, describe_error

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000


class WarmupError(SavedModelError):
    """Warm-up records cannot be made, read or replayed; the message says which and why."""


def write_warmup(saved_model: str | os.PathLike[str], logs: Sequence[prediction_log_pb2.PredictionLog]) -> str:
    """Writes records into a SavedModel, instead of those it may have; returns the file. It is complete or not there.

    Raises:
        ValueError: if there are more than 1000: TF Serving would not load the model.
    """
    if len(logs) > MAX_RECORDS:
        raise ValueError(f"TF Serving reads at most {MAX_RECORDS} warm-up records; received {len(logs)}.")
    path = os.path.join(os.fspath(saved_model), WARMUP_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for log in logs:
                writer.write(log.SerializeToString(deterministic=True))
        tf.io.gfile.rename(temporary, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
    return path


def read_warmup(saved_model: str | os.PathLike[str]) -> list[prediction_log_pb2.PredictionLog]:
    """The warm-up records of a SavedModel; none if it has no file of them.

    Raises:
        WarmupError: if the file is none of PredictionLogs.
    """
    path = os.path.join(os.fspath(saved_model), WARMUP_FILE)
    if not tf.io.gfile.exists(path):
        return []
    logs = []
    with tf.device("CPU:0"):
        records = iter(tf.data.TFRecordDataset(path))
        for index in itertools.count():
            try:
                logs.append(prediction_log_pb2.PredictionLog.FromString(next(records).numpy()))
            except StopIteration:
                return logs
            except (tf.errors.DataLossError, DecodeError) as error:
                raise WarmupError(f"{path}: record {index} is no PredictionLog. Write the records anew.") from error
    return logs


def replay_warmup(
    saved_model: str | os.PathLike[str], logs: Sequence[prediction_log_pb2.PredictionLog] | None = None
) -> list[dict[str, np.ndarray]]:
    """Runs warm-up records through a Session, as TF Serving does at loading; returns the outputs of each.

    Args:
        saved_model: the directory that holds saved_model.pb.
        logs: the records. None: those that lie in the SavedModel.

    Raises:
        WarmupError: if there are none or too many, or one names an unknown signature or input, or fails; the message
            gives its index.
    """
    directory = os.fspath(saved_model)
    logs = read_warmup(directory) if logs is None else logs
    if not 1 <= len(logs) <= MAX_RECORDS:
        raise WarmupError(f"{directory} has {len(logs)} warm-up records; TF Serving needs 1 to {MAX_RECORDS}.")
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session, session.graph.as_default():
        definitions = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def
        outputs = []
        for index, log in enumerate(logs):
            with _named(f"{directory}: warm-up record {index}"):
                definition, feeds = _open_log(log, definitions)
                fetches = {name: info.name for name, info in definition.outputs.items()}
                outputs.append(session.run(fetches, feeds))
        return outputs


@contextlib.contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
        raise WarmupError(f"{place} fails: {describe_error(error)}") from error


def _open_log(
    log: prediction_log_pb2.PredictionLog, definitions: Mapping[str, Any]
) -> tuple[Any, dict[str, np.ndarray]]:
    """The signature that a record asks, and what to feed its graph."""
    kind = log.WhichOneof("log_type")
    if kind not in ("predict_log", "classify_log", "regress_log"):
        raise ValueError(f"it is a {kind}, which is not replayed.")
    request = getattr(log, kind).request
    name = request.model_spec.signature_name or "serving_default"
    if name not in definitions:
        raise ValueError(f"there is no signature {name!r}; there are {sorted(definitions)}.")
    definition = definitions[name]
    if kind != "predict_log":
        (info,) = definition.inputs.values()
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
        return definition, {info.name: np.array(examples, object)}
    given = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
    if unknown := sorted(set(given) - set(definition.inputs)):
        raise ValueError(f"signature {name!r} has no input {unknown}.")
    defaults = {key: tf.make_ndarray(tensor) for key, tensor in definition.defaults.items()}
    if missing := sorted(set(definition.inputs) - set(given) - set(defaults)):
        raise ValueError(f"signature {name!r} needs the input {missing}.")
    return definition, {definition.inputs[key].name: value for key, value in (defaults | given).items()}
