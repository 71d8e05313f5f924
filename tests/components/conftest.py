import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.framework.config import disable_op_determinism
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import artifact_utils, standard_artifacts

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


def write_records(path: Path, rows: list[dict[str, int]]) -> None:
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            feature = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v)])) for k, v in row.items()}
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
        rows = []
        for _ in range(num_rows):
            city, device = rng.integers(12), rng.integers(6)
            rows.append({"city": city, "device": device, "click": rng.random() < (0.85 if city % 3 == 0 else 0.15)})
        write_records(root / "examples" / f"Split-{split}" / "transformed-00000.gz", rows)
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(root / "graph")
    return examples, graph


def read_json(path) -> dict:
    return json.loads(Path(path).read_text())
