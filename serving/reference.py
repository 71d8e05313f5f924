"""Reference outputs of a model: what Keras makes of some rows, stored beside the SavedModel that must say the same."""

import dataclasses
import gzip
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from serving.export_columns import FeatureSpec
from serving.names import name_input, name_inputs

_EXAMPLES, _OUTPUTS = "reference_examples.tfrecord.gz", "reference_outputs.npy.gz"


@dataclasses.dataclass(frozen=True)
class Reference:
    """Rows and what a model makes of them.

    Args:
        examples: serialized tf.Examples of the raw columns, object [N].
        outputs: probabilities, float32 [N, 1].
        features: {output name of the feature: its ids, int64 [N]}, what the model is fed.
    """

    examples: np.ndarray
    outputs: np.ndarray
    features: dict[str, np.ndarray]

    def expect(self, signature: str, outputs: Iterable[str]) -> dict[str, np.ndarray]:
        """What outputs of a signature must be, by their names; those that the reference does not know are left out."""
        probabilities = {"outputs": self.outputs, "scores": np.concatenate([1 - self.outputs, self.outputs], axis=1)}
        known = self.features if signature == "transform_features" else probabilities
        return {name: known[name] for name in outputs if name in known}

    def to_columns(self, inputs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
        """The rows as raw columns of a signature, [N] each."""
        rows = [tf.train.Example.FromString(example).features.feature for example in self.examples]
        cells = [{name_input(name): _value(feature) for name, feature in row.items()} for row in rows]
        return {
            name: np.array([_cast(row.get(name), spec.dtype) for row in cells], _numpy_dtype(spec.dtype))
            for name, spec in inputs.items()
        }

    def save(self, directory: str) -> None:
        """Writes two files into a directory that exists; the same rows give the same bytes."""
        columns = {"outputs": self.outputs[:, 0], **{f"feature:{name}": x for name, x in self.features.items()}}
        table = np.empty(len(self.examples), [(name, x.dtype) for name, x in columns.items()])
        for name, x in columns.items():
            table[name] = x
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        with tf.io.TFRecordWriter(os.path.join(directory, _EXAMPLES), "GZIP") as writer:
            for example in self.examples:
                writer.write(example)
        with tf.io.gfile.GFile(os.path.join(directory, _OUTPUTS), "wb") as file:
            file.write(gzip.compress(buffer.getvalue(), mtime=0))


def load_reference(directory: str) -> Reference | None:
    """The reference that `save` wrote into a directory; None if there is none.

    Raises:
        ValueError: if its two files do not belong together.
    """
    outputs_path = os.path.join(directory, _OUTPUTS)
    if not tf.io.gfile.exists(outputs_path):
        return None
    with tf.io.gfile.GFile(outputs_path, "rb") as file:
        table = np.load(io.BytesIO(gzip.decompress(file.read())), allow_pickle=False)
    records = tf.data.TFRecordDataset(os.path.join(directory, _EXAMPLES), compression_type="GZIP")
    examples = list(records.as_numpy_iterator())
    if len(examples) != len(table):
        raise ValueError(
            f"{directory}: {_EXAMPLES} has {len(examples)} rows, {_OUTPUTS} {len(table)}. Export the model again."
        )
    features = {name.removeprefix("feature:"): table[name] for name in table.dtype.names if name != "outputs"}
    return Reference(np.array(examples, object), table["outputs"][:, np.newaxis], features)


def compute_reference(
    model: Callable[..., tf.Tensor],
    transform_layer: Callable[[Mapping], Mapping],
    raw_feature_spec: FeatureSpec,
    feature_names: Sequence[str],
    examples: Sequence[bytes],
) -> Reference:
    """Runs the Transform layer and the Keras model eagerly, with nothing of an export in between.

    Args:
        model: {feature name: int64 [B]} -> probabilities [B, 1].
        transform_layer: `tft_output.transform_features_layer()`, the whole one.
        raw_feature_spec: the raw columns without the label.
        feature_names: outputs of `transform_layer` that `model` consumes.
        examples: serialized tf.Examples of the raw columns, at least one; a few thousand at most: they are one batch.

    Raises:
        ValueError: if there are no examples.
    """
    if not examples:
        raise ValueError("Reference outputs need at least one row; received none. Pass rows, or no reference.")
    transformed = transform_layer(tf.io.parse_example(tf.constant(list(examples)), dict(raw_feature_spec)))
    features = {name: tf.reshape(transformed[name], [-1]) for name in feature_names}
    outputs = np.asarray(tf.cast(model(features, training=False), tf.float32))
    names = name_inputs(feature_names)
    return Reference(
        examples=np.array(list(examples), object),
        outputs=outputs,
        features={names[name]: x.numpy().astype(np.int64) for name, x in features.items()},
    )


def _value(feature: tf.train.Feature) -> bytes | float | int | None:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    return values[0] if values else None


def _cast(value: bytes | float | int | None, dtype: tf.DType) -> bytes | float:
    if dtype == tf.string:
        return b"" if value is None else value if isinstance(value, bytes) else str(value).encode()
    return float("nan") if value is None else float(value)


def _numpy_dtype(dtype: tf.DType):
    return object if dtype == tf.string else dtype.as_numpy_dtype
