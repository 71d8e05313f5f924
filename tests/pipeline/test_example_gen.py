"""ImportExampleGen's executor: which record goes into which split."""

import hashlib
import json

import pytest
import tensorflow as tf
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from pipeline.example_gen import executor
from pipeline.example_gen.executor import Executor, divide_file

RECORDS = {name: [f"{name} {i}".encode() for i in range(2500)] for name in "ab"}
BUCKETS = {"train": 8, "eval": 1, "test": 1}


def write_records(path, records) -> str:
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for record in records:
            writer.write(record)
    return str(path)


def read_records(path) -> list[bytes]:
    return list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())


def expected(records, begin: int, end: int) -> list[bytes]:
    """TFX's rule: a hash of the record, modulo all buckets."""
    return [r for r in records if begin <= int(hashlib.sha256(r).hexdigest(), 16) % 10 < end]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(the Examples artifact, its directory) of a gzip and a plain file, divided by the executor."""
    root = tmp_path_factory.mktemp("import")
    (root / "in").mkdir()
    write_records(root / "in" / "a.gz", RECORDS["a"])
    write_records(root / "in" / "b.tfrecord", RECORDS["b"])
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "out")
    splits = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=count) for name, count in BUCKETS.items()]
    source = example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="all", pattern="*")])
    properties = {
        "input_base": str(root / "in"),
        "input_config": proto_utils.proto_to_json(source),
        "output_config": proto_utils.proto_to_json(
            example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
        ),
    }
    context = Executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--direct_num_workers=1"], tmp_dir=str(root), unique_id="1"
    )
    Executor(context).Do({}, {"examples": [examples]}, properties)
    return examples, root / "out"


def test_every_file_becomes_a_shard_of_each_split_in_its_own_order(imported):
    examples, out = imported

    for split, (begin, end) in {"train": (0, 8), "eval": (8, 9), "test": (9, 10)}.items():
        files = sorted((out / f"Split-{split}").iterdir())
        assert [file.name for file in files] == [f"data_tfrecord-0000{i}-of-00002.gz" for i in range(2)]
        for file, name in zip(files, "ab", strict=True):
            assert read_records(file) == expected(RECORDS[name], begin, end)
    assert json.loads(examples.split_names) == list(BUCKETS)


def test_what_comes_after_is_told_that_the_records_are_examples(imported):
    examples, _ = imported

    assert examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"


def test_a_broken_file_is_named_and_leaves_nothing_behind(tmp_path):
    path = write_records(tmp_path / "a.gz", RECORDS["a"])
    content = (tmp_path / "a.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "out").mkdir()

    with pytest.raises(ValueError, match=r"a\.gz: broken after record \d+.*Copy or write the file again"):
        divide_file(path, [str(tmp_path / "out")], "data.gz", [1])

    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_full_leaves_no_half_written_shard(tmp_path, monkeypatch):
    path = write_records(tmp_path / "a.gz", RECORDS["a"])
    (tmp_path / "out").mkdir()

    def refuse(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(executor.tf.io.gfile, "rename", refuse)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        divide_file(path, [str(tmp_path / "out")], "data.gz", [1])

    assert list((tmp_path / "out").iterdir()) == []
