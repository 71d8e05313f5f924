"""One small real export: a Transform graph over five raw columns and a tiny Keras model behind it."""

import dataclasses

import apache_beam as beam
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from serving.export import export_saved_model
from serving.reference import Reference, compute_reference
from serving.transform_graph import TransformGraph

# A hyphen and a space: names that are no Python identifiers must survive as signature inputs.
RAW_FEATURE_SPEC = {
    "work-class": tf.io.VarLenFeature(tf.string),
    "Region code": tf.io.VarLenFeature(tf.int64),
    "age": tf.io.VarLenFeature(tf.int64),
    "income": tf.io.VarLenFeature(tf.float32),
    "channel": tf.io.FixedLenFeature([1], tf.string, default_value=""),
}
NUMERIC_COLUMNS = ["age", "income"]
LARGEST_INTEGER = 2**63 - 1
ROWS = [
    {"work-class": "private", "Region code": 7, "age": 39, "income": 1.5, "channel": "web"},
    {"work-class": "public", "Region code": -5, "age": 17, "income": -2.0, "channel": "shop"},
    {"work-class": "self", "Region code": LARGEST_INTEGER, "age": 90, "income": 40.0, "channel": "web"},
    {"channel": "phone"},
]


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export, and the model, Transform layer and Transform SavedModel it was made of; `rows` are its reference's."""

    model: keras.Model
    transform_layer: tf.Module
    transform_directory: str
    directory: str
    reference: Reference
    rows: list[dict]

    def expect(self, rows: list[dict]) -> np.ndarray:
        """Probabilities [B] of typed rows, by Keras: absent columns are missing."""
        parsed = tf.io.parse_example([serialize(row) for row in rows], RAW_FEATURE_SPEC)
        ids = {name: tf.reshape(x, [-1]) for name, x in self.transform_layer(parsed).items()}
        return self.model(ids).numpy()[:, 0]


def serialize(row: dict) -> bytes:
    example = tf.train.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example.SerializeToString()


def preprocess(inputs: dict) -> dict:
    outputs = {}
    for name, x in inputs.items():
        if isinstance(x, tf.SparseTensor):
            values = x.values if x.dtype == tf.string else tf.strings.as_string(x.values)
            sparse = tf.SparseTensor(x.indices, values, tf.stack([x.dense_shape[0], 1]))
            x = tf.sparse.to_dense(sparse, "<missing>")
        outputs[name] = tft.compute_and_apply_vocabulary(
            tf.where(x == "", "<missing>", x), num_oov_buckets=1, reserved_tokens=["<missing>"]
        )
    # One feature as [B], the others [B, 1]: transforms give either.
    outputs["age"] = tf.squeeze(outputs["age"], axis=1)
    return outputs


def build_model(names: list[str]) -> keras.Model:
    inputs = {name: keras.Input([], dtype="int64", name=name) for name in names}
    initializer = keras.initializers.RandomNormal(seed=1)
    embedded = [
        keras.layers.Embedding(8, 2, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=index))(x)
        for index, x in enumerate(inputs.values())
    ]
    hidden = keras.layers.Concatenate()(embedded)
    outputs = keras.layers.Dense(1, activation="sigmoid", kernel_initializer=initializer)(hidden)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    directory = tmp_path_factory.mktemp("export")
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(_without_defaults()))
    rows = [{name: [row[name]] if name in row else None for name in RAW_FEATURE_SPEC} for row in ROWS]
    with beam.Pipeline(runner="FnApiRunner") as pipeline, tft_beam.Context(temp_dir=str(directory / "beam")):
        transform = (pipeline | beam.Create(rows), metadata) | tft_beam.AnalyzeDataset(preprocess)
        transform | tft_beam.WriteTransformFn(str(directory / "transform"))
    tft_output = tft.TFTransformOutput(str(directory / "transform"))
    layer, transform_directory = tft_output.transform_features_layer(), tft_output.transform_savedmodel_dir
    model = build_model(list(RAW_FEATURE_SPEC))
    target = str(directory / "versions" / "7")
    rows = make_rows(1000)
    examples = [serialize(row) for row in rows]
    reference = compute_reference(model, layer, RAW_FEATURE_SPEC, list(RAW_FEATURE_SPEC), examples)
    export_saved_model(
        model,
        TransformGraph(transform_directory, list(RAW_FEATURE_SPEC)),
        RAW_FEATURE_SPEC,
        list(RAW_FEATURE_SPEC),
        target,
        numeric_columns=NUMERIC_COLUMNS,
        extra_assets={"plan.json": "{}"},
        reference=reference,
    )
    return Exported(model, layer, transform_directory, target, reference, rows)


def make_rows(num_rows: int) -> list[dict]:
    """Rows of known and unknown values, each column missing in some of them."""
    rng = np.random.default_rng(0)
    choices: dict[str, list] = {name: [row[name] for row in ROWS if name in row] for name in RAW_FEATURE_SPEC}
    choices["work-class"] += ["", "never seen", "sch\u00f6n"]
    choices["Region code"] += [8, -(2**62)]
    choices["age"] += [18, 2**20]
    choices["income"] += [float("inf"), 0.0]
    return [
        {name: values[rng.integers(len(values))] for name, values in choices.items() if rng.random() < 0.8}
        for _ in range(num_rows)
    ]


def _without_defaults() -> dict:
    """tft's metadata knows no defaults."""
    return RAW_FEATURE_SPEC | {"channel": tf.io.FixedLenFeature([1], tf.string)}
