"""TFX's ImportExampleGen with an executor of ours: what differs is how it runs, not what it is."""

from google.protobuf import any_pb2, wrappers_pb2
from tfx import components as tfx_components
from tfx.dsl.components.base import executor_spec
from tfx.proto import example_gen_pb2

from pipeline.example_gen.executor import Executor


class ImportExampleGen(tfx_components.FileBasedExampleGen):
    """tf.Examples in TFRecord files, divided into splits by a hash; see `tfx.components.ImportExampleGen`.

    Args:
        input_base: directory of the files.
        input_config: one input split, with the files' pattern.
        output_config: the splits and their buckets.
        code_version: a hash of the code that the node runs, so that the cache sees changes of it.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        input_base: str,
        input_config: example_gen_pb2.Input,
        output_config: example_gen_pb2.Output,
        code_version: str,
    ):
        packed = any_pb2.Any()
        packed.Pack(wrappers_pb2.StringValue(value=code_version))
        super().__init__(
            input_base=input_base,
            input_config=input_config,
            output_config=output_config,
            custom_config=example_gen_pb2.CustomConfig(custom_config=packed),
            output_data_format=example_gen_pb2.FORMAT_TF_EXAMPLE,
        )
