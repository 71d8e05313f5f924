"""The executor of ImportExampleGen: every file becomes one shard of each split.

TFX's own parses each record, serializes it again and shuffles all of them through Beam, which keeps them in memory when it
runs on one machine: 4 KB a row of 39 columns. This one streams each file on its own: the records keep their order, which the
files should have at random (`pipeline.datasets` writes them so).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

_RECORDS_AT_A_TIME = 1024


class Executor(base_beam_executor.BaseBeamExecutor):
    """Divides the records of all files by a hash of their bytes, as TFX does."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, object],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        input_config, output_config = example_gen_pb2.Input(), example_gen_pb2.Output()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config)
        proto_utils.json_to_proto(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        splits = [(split.name, split.hash_buckets) for split in output_config.split_config.splits]
        examples.split_names = artifact_utils.encode_split_names(
            utils.generate_output_split_names(input_config, output_config)
        )
        (source,) = input_config.splits
        pattern = os.path.join(str(exec_properties[standard_component_specs.INPUT_BASE_KEY]), source.pattern)
        files = sorted(tf.io.gfile.glob(pattern))
        if not files:
            raise ValueError(f"{pattern}: no file matches. Check the path (--data PATH or data.path).")
        directories = [artifact_utils.get_split_uri([examples], name) for name, _ in splits]
        for directory in directories:
            tf.io.gfile.makedirs(directory)
        counts = [count for _, count in splits]
        tasks = [(file, f"data_tfrecord-{index:05d}-of-{len(files):05d}.gz") for index, file in enumerate(files)]
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(tasks, reshuffle=True)
                | "Divide" >> beam.MapTuple(lambda file, name: divide_file(file, directories, name, counts))
            )
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)


def divide_file(path: str, directories: Sequence[str], name: str, bucket_counts: Sequence[int]) -> list[int]:
    """Divides one file's records into directory/name of each split; returns the number of records of each.

    Args:
        path: TFRecords, gzip where the name ends in .gz, plain otherwise.
        directories: of the splits.
        name: of the gzip files to write, which get it when they are whole.
        bucket_counts: hash buckets of each split.

    Raises:
        ValueError: if the file is broken.
    """
    compression = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression, buffer_size=2**20).batch(_RECORDS_AT_A_TIME).prefetch(1)
    # The split of each bucket.
    splits = [split for split, count in enumerate(bucket_counts) for _ in range(count)]
    counts = [0] * len(directories)
    with _new_files([os.path.join(directory, name) for directory in directories]) as writers:
        try:
            for batch in records.as_numpy_iterator():
                for record in batch:
                    split = splits[int.from_bytes(hashlib.sha256(record).digest(), "big") % len(splits)]
                    writers[split].write(record)
                    counts[split] += 1
        except tf.errors.DataLossError as error:
            raise ValueError(
                f"{path}: broken after record {sum(counts)} or up to {_RECORDS_AT_A_TIME} later ({error.message}). "
                "Copy or write the file again; a compressed one must be gzip and end in .gz."
            ) from error
    return counts


@contextlib.contextmanager
def _new_files(paths: Sequence[str]) -> Iterator[list[tf.io.TFRecordWriter]]:
    """Writers of temporary names, which are renamed when all is written, and removed on any error."""
    partials = [f"{path}.{os.getpid()}.partial" for path in paths]
    options = tf.io.TFRecordOptions("GZIP", compression_level=1)
    try:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(tf.io.TFRecordWriter(partial, options)) for partial in partials]
        for partial, path in zip(partials, paths, strict=True):
            tf.io.gfile.rename(partial, path, overwrite=True)
    except BaseException:
        for partial in partials:
            if tf.io.gfile.exists(partial):
                tf.io.gfile.remove(partial)
        raise
