"""preprocessing_fn: raw columns into ids, one categorical field a column (TensorFlow Transform).

Every column becomes text tokens, and every token an id of the column's own vocabulary: id 0 is a missing value, the last
id an unknown one. Quantities become tokens by buckets: integers by floor(ln(x)^2) (arXiv 2006.14827, section 3.1),
other numbers by quantiles.

A run that goes on from an earlier one keeps that one's ids, and appends values that are new (`pipeline.vocabularies`).
"""

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tensorflow_transform as tft

from pipeline.vocabularies import MISSING, append_vocabulary


def preprocessing_fn(inputs, custom_config):
    """Turns raw columns into ids, int64 [B] each, and the label into int64 [B].

    Args:
        inputs: {column: SparseTensor [B, 1] or Tensor [B, 1]}.
        custom_config: `label`; `features` with the keys of `pipeline.config.FeaturesConfig`; and `earlier_vocabularies`,
            {column: path of the vocabulary whose ids it keeps}, without which all vocabularies are new.
    """
    features = custom_config["features"]
    tokens = {}
    for name in features["categorical"]:
        tokens[name] = _densify(_present(inputs[name]), _text)
    for name in features["integer"]:
        tokens[name] = _densify(_present(inputs[name]), _log_squared)
    for name in features["numeric"]:
        tokens[name] = _densify(_present(inputs[name]), lambda x: _quantile(x, features["num_quantiles"]))

    files = vocabulary_files(features)
    earlier = custom_config.get("earlier_vocabularies", {})
    outputs = {}
    for name, values in tokens.items():
        if name in earlier:
            vocabulary = append_vocabulary(values, earlier[name], files[name], features["min_frequency"])
        else:
            vocabulary = tft.vocabulary(
                values,
                frequency_threshold=features["min_frequency"],
                vocab_filename=files[name],
                reserved_tokens=[MISSING],
            )
        outputs[name] = tft.apply_vocabulary(values, vocabulary, num_oov_buckets=1)
    label = _present(inputs[custom_config["label"]])
    outputs[custom_config["label"]] = _column(label, tf.cast(label.values, tf.int64), default=0)
    return outputs


def vocabulary_files(features: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Column -> the name of its vocabulary in the Transform graph."""
    columns = [*features["categorical"], *features["integer"], *features["numeric"]]
    return {name: f"{index:03d}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" for index, name in enumerate(columns)}


def _present(x) -> tf.SparseTensor:
    """Only the values that are there: empty text and NaN count as missing."""
    if isinstance(x, tf.Tensor):
        rows = tf.range(tf.shape(x, out_type=tf.int64)[0])
        indices = tf.stack([rows, tf.zeros_like(rows)], axis=1)
        x = tf.SparseTensor(indices, tf.reshape(x, [-1]), tf.stack([tf.size(rows, out_type=tf.int64), 1]))
    if x.dtype == tf.string:
        return tf.sparse.retain(x, tf.strings.strip(x.values) != "")
    if x.dtype.is_floating:
        return tf.sparse.retain(x, tf.math.is_finite(x.values))
    return x


def _densify(x: tf.SparseTensor, tokens_of) -> tf.Tensor:
    """Tokens [B] of a column, MISSING where it has no value."""
    return _column(x, tokens_of(x.values), default=MISSING)


def _column(x: tf.SparseTensor, values: tf.Tensor, default) -> tf.Tensor:
    shape = tf.stack([x.dense_shape[0], 1])
    return tf.squeeze(tf.sparse.to_dense(tf.SparseTensor(x.indices, values, shape), default), axis=1)


def _text(x: tf.Tensor) -> tf.Tensor:
    return tf.strings.strip(x) if x.dtype == tf.string else tf.strings.as_string(x, shortest=x.dtype.is_floating)


def _log_squared(x: tf.Tensor) -> tf.Tensor:
    """floor(ln(x)^2) for x > 2, x - 2 for the others: every small value keeps a bucket of its own."""
    x = tf.cast(x, tf.float64)
    squared = tf.floor(tf.square(tf.math.log(tf.maximum(x, 1.0))))
    return tf.strings.as_string(tf.cast(tf.where(x > 2, squared, tf.floor(x) - 2), tf.int64))


def _quantile(x: tf.Tensor, num_quantiles: int) -> tf.Tensor:
    x = tf.cast(x, tf.float32)
    boundaries = tft.quantiles(x, num_buckets=num_quantiles, epsilon=0.01)
    return tf.strings.as_string(tft.apply_buckets(x, boundaries))
