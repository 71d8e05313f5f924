"""The whole Transform node by PortableRunner, against Beam's job service: the API by which Flink and Spark are given work."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.row_blocks import decode_block
from pipeline.beam_options import check_beam_args, make_beam_args
from pipeline.earlier_model import directory_of
from pipeline.transform.executor import Executor

pytestmark = pytest.mark.slow

FEATURES = {
    "categorical": ["city", "device"],
    "integer": ["clicks"],
    "numeric": ["price"],
    "min_frequency": 2,
    "num_quantiles": 4,
}
KINDS = {"city": schema_pb2.BYTES, "device": schema_pb2.BYTES, "clicks": schema_pb2.INT, "price": schema_pb2.FLOAT}
EARLIER = ["<missing>", "city 3", "a city that is gone"]


@pytest.fixture(scope="module")
def job_service(tmp_path_factory):
    """Address of Beam's own job service, in a process of its own."""
    directory = tmp_path_factory.mktemp("job-service")
    port_file = directory / "port"
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port_file", str(port_file), "--staging_dir", str(directory / "staging")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 120
        while not port_file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert port_file.exists(), (directory / "log").read_text()
        yield f"localhost:{port_file.read_text()}"
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Raw examples, their schema and an earlier model whose cities go on, as the node gets them."""
    root = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for split, num_rows in (("train", 600), ("eval", 100)):
        directory = root / "examples" / f"Split-{split}"
        directory.mkdir(parents=True)
        for shard in range(2):
            with tf.io.TFRecordWriter(str(directory / f"data-0000{shard}-of-00002.gz"), "GZIP") as writer:
                for _ in range(num_rows // 2):
                    writer.write(make_example(rng).SerializeToString())
    schema = schema_pb2.Schema()
    for name, kind in (KINDS | {"label": schema_pb2.INT}).items():
        schema.feature.add(name=name, type=kind, value_count=schema_pb2.ValueCount(min=1, max=1))
    (root / "schema").mkdir()
    (root / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(schema))
    earlier = root / "model" / os.path.basename(directory_of("Format-Serving")) / "vocabularies"
    earlier.mkdir(parents=True)
    (earlier / "city").write_text("".join(f"{value}\n" for value in EARLIER))
    kinds = {
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
        "base_model": standard_artifacts.Model,
    }
    artifacts = {name: kind() for name, kind in kinds.items()}
    for name, artifact in artifacts.items():
        artifact.uri = str(root / name.removeprefix("base_"))
    artifacts["examples"].split_names = artifact_utils.encode_split_names(["train", "eval"])
    return {name: [artifact] for name, artifact in artifacts.items()}


def make_example(rng) -> tf.train.Example:
    row = tf.train.Example()
    row.features.feature["label"].int64_list.value.append(int(rng.integers(2)))
    row.features.feature["clicks"].int64_list.value.append(int(rng.exponential(50)))
    for name in ("city", "device"):
        if rng.random() < 0.9:
            row.features.feature[name].bytes_list.value.append(f"{name} {int(rng.exponential(6))}".encode())
    if rng.random() < 0.9:
        row.features.feature["price"].float_list.value.append(rng.normal())
    return row


def transform(inputs, directory, beam_args) -> dict[str, object]:
    """What the node leaves when Beam runs by these flags: vocabularies, schema, and the records of each split."""
    outputs = {
        "transform_graph": standard_artifacts.TransformGraph(),
        "transformed_examples": standard_artifacts.Examples(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(directory / name)
    context = Executor.Context(beam_pipeline_args=beam_args, tmp_dir=str(directory / "tmp"), unique_id="1")
    splits = transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"])
    properties = {
        "preprocessing_fn": "pipeline.preprocessing.preprocessing_fn",
        "custom_config": json_utils.dumps({"label": "label", "features": FEATURES}),
        "splits_config": proto_utils.proto_to_json(splits),
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
    }
    Executor(context).Do(inputs, {name: [artifact] for name, artifact in outputs.items()}, properties)
    graph = directory / "transform_graph"
    left: dict[str, object] = {
        path.name: path.read_bytes() for path in sorted((graph / "transform_fn" / "assets").iterdir())
    }
    (schema,) = (graph / "transformed_metadata").glob("schema.pbtxt")
    left["schema"] = schema.read_text()
    for split in ("train", "eval"):
        files = sorted(map(str, (directory / "transformed_examples" / f"Split-{split}").iterdir()))
        records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
        # Runners shard as they like: rows are compared without their order.
        left[split] = sorted(row for record in records for row in rows_of(record))
    return left


def rows_of(record) -> list[tuple[int, ...]]:
    """The ids of a block's rows, the columns by name."""
    names = sorted(tf.train.Example.FromString(record).features.feature)
    return [tuple(row) for row in decode_block(record, names).tolist()]


@pytest.fixture(scope="module")
def direct(inputs, tmp_path_factory):
    return transform(inputs, tmp_path_factory.mktemp("direct"), make_beam_args("local"))


@pytest.mark.parametrize("profile", [None, "flink"])
def test_transform_by_the_job_service_leaves_what_it_leaves_by_the_direct_runner(
    inputs, direct, job_service, tmp_path, profile
):
    args = [f"--job_endpoint={job_service}", "--environment_type=LOOPBACK"]
    if profile is None:
        args.append("--runner=PortableRunner")
        check_beam_args(args)
    else:
        args = make_beam_args(profile, args)

    by_job_service = transform(inputs, tmp_path, args)

    assert by_job_service == direct
    assert [len(direct[split]) for split in ("train", "eval")] == [600, 100]
    cities = direct["000_city"].decode().splitlines()
    assert cities[: len(EARLIER)] == EARLIER
    assert len(cities) > 10
    assert {"001_device", "002_clicks", "003_price"} <= set(direct)
