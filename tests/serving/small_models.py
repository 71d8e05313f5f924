"""A small SavedModel for servers and clients: two columns with defaults and one without, quick to make and load."""

import os

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

_EXAMPLE = {
    "age": tf.io.FixedLenFeature([], tf.float32, default_value=0.0),
    "city": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "code": tf.io.FixedLenFeature([], tf.int64, default_value=0),
}


def expect_scores(rows: list[dict], bias: float = 0.0) -> np.ndarray:
    """What the model says of {age, city, code} rows, in NumPy, float32 [B]."""
    ages = np.array([row.get("age", np.nan) for row in rows], np.float32)
    ages = np.clip(np.where(np.isfinite(ages), ages, 0), -100, 100)
    lengths = np.array([len(row.get("city", "").encode()) % 7 for row in rows])
    codes = np.array([row.get("code", 0) % 5 for row in rows])
    return 1 / (1 + np.exp(-(0.01 * ages + 0.2 * lengths - 0.3 * codes + bias)))


def save_small_model(directory: str | os.PathLike, bias: float = 0.0, has_defaults: bool = True) -> str:
    """Writes the model; returns its directory.

    Signatures: `serving_default` and `predict` of columns [B] -> outputs [B, 1], with SignatureDef.defaults for age
    (NaN) and city (""); `classify` and `regress` of tf.Examples; `many` -> outputs [B, 1] and name_bytes [B].
    """
    module = tf.Module()
    module.bias = tf.Variable(bias, dtype=tf.float32)

    def score(age, city, code):
        age = tf.clip_by_value(tf.where(tf.math.is_finite(age), age, 0.0), -100.0, 100.0)
        length = tf.cast(tf.strings.length(city) % 7, tf.float32)
        logits = 0.01 * age + 0.2 * length - 0.3 * tf.cast(code % 5, tf.float32) + module.bias
        return tf.sigmoid(logits)[:, tf.newaxis]

    def score_examples(inputs):
        return score(**tf.io.parse_example(inputs, _EXAMPLE))

    specs = {
        "age": tf.TensorSpec([None], tf.float32, name="age"),
        "city": tf.TensorSpec([None], tf.string, name="city"),
        "code": tf.TensorSpec([None], tf.int64, name="code"),
    }
    examples = [tf.TensorSpec([None], tf.string, name="inputs")]

    def classify(inputs):
        scores = score_examples(inputs)
        classes = tf.tile([["0", "1"]], [tf.size(inputs), 1])
        return {"scores": tf.concat([1 - scores, scores], axis=1), "classes": classes}

    columns = tf.function(lambda age, city, code: {"outputs": score(age, city, code)}).get_concrete_function(**specs)
    many = tf.function(lambda city: {"outputs": score(0.0, city, 0), "name_bytes": city})
    signatures = {
        "serving_default": columns,
        "predict": columns,
        "classify": tf.function(classify, input_signature=examples),
        "regress": tf.function(lambda inputs: {"outputs": score_examples(inputs)}, input_signature=examples),
        "many": many.get_concrete_function(specs["city"]),
    }
    tf.saved_model.save(module, os.fspath(directory), signatures=signatures)
    if has_defaults:
        _write_defaults(os.path.join(directory, "saved_model.pb"))
    return os.fspath(directory)


def _write_defaults(path: str) -> None:
    saved_model = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved_model.ParseFromString(file.read())
    for name in ("serving_default", "predict"):
        defaults = saved_model.meta_graphs[0].signature_def[name].defaults
        defaults["age"].CopyFrom(tf.make_tensor_proto([float("nan")], tf.float32))
        defaults["city"].CopyFrom(tf.make_tensor_proto([b""], tf.string))
    with open(path, "wb") as file:
        file.write(saved_model.SerializeToString())
