import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.framework.config import disable_op_determinism
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.row_blocks import encode_block

VOCABULARY_SIZES = {"city": 12, "device": 6}


def make_schema(sizes: dict[str, int]) -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    for name, size in sizes.items():
        feature = schema.feature.add(name=name, type=schema_pb2.INT)
        feature.int_domain.min, feature.int_domain.max, feature.int_domain.is_categorical = 0, size - 1, True
        feature.presence.min_fraction = 1.0
        feature.shape.SetInParent()
    label = schema.feature.add(name="click", type=schema_pb2.INT)
    label.presence.min_fraction = 1.0
    label.shape.SetInParent()
    return schema


def write_blocks(path: Path, columns: dict[str, np.ndarray], rows_per_block: int) -> None:
    """What our Transform writes."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for begin in range(0, len(columns["click"]), rows_per_block):
            part = slice(begin, begin + rows_per_block)
            writer.write(encode_block({name: values[part] for name, values in columns.items()}))


def write_rows(path: Path, columns: dict[str, np.ndarray]) -> None:
    """What TFX's Transform writes."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in zip(*columns.values(), strict=True):
            values = zip(columns, row, strict=True)
            feature = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v)])) for k, v in values}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.fixture(autouse=True, scope="package")
def _op_determinism_ends():
    """The executor makes TensorFlow's operations deterministic for good: in a process of its own, not in the tests'."""
    yield
    disable_op_determinism()


@pytest.fixture(scope="session")
def transform_output(tmp_path_factory):
    """What Transform leaves behind, made by hand: (examples artifact, transform graph artifact)."""
    root = tmp_path_factory.mktemp("transform")
    schema = root / "graph" / "transformed_metadata" / "schema.pbtxt"
    schema.parent.mkdir(parents=True)
    schema.write_text(text_format.MessageToString(make_schema(VOCABULARY_SIZES)))
    rng = np.random.default_rng(0)
    for split, num_rows in (("train", 1500), ("eval", 400)):
        city, device = rng.integers(12, size=num_rows), rng.integers(6, size=num_rows)
        click = rng.random(num_rows) < np.where(city % 3 == 0, 0.85, 0.15)
        directory = root / "examples" / f"Split-{split}"
        directory.mkdir(parents=True)
        write_blocks(directory / "transformed-00000.gz", {"city": city, "device": device, "click": click}, 1000)
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(root / "graph")
    return examples, graph


def read_json(path) -> dict:
    return json.loads(Path(path).read_text())
