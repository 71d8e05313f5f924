"""What Transform runs: TFX's executor, told where the earlier model's vocabularies are, and writing rows in blocks."""

from typing import Any
from unittest import mock

from absl import logging
from tfx import types
from tfx.components.transform import executor as tfx_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils, path_utils

from pipeline.earlier_model import directory_of, vocabularies_of
from pipeline.transform.blocks import EncodeBlocks


class Executor(tfx_executor.Executor):
    """TFX's executor with the earlier vocabularies in the custom_config; its transformed examples are blocks of rows."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs TFX's executor.

        Raises:
            ValueError: if the earlier model has no vocabularies.
        """
        inputs = dict(input_dict)
        base_models = inputs.pop("base_model", [])
        key = standard_component_specs.CUSTOM_CONFIG_KEY
        if base_models:
            uri = artifact_utils.get_single_instance(base_models).uri
            logging.info("Vocabularies go on from those of the model %s.", uri)
            earlier = vocabularies_of(directory_of(path_utils.serving_model_dir(uri)))
            custom_config = json_utils.loads(exec_properties[key]) | {"earlier_vocabularies": earlier}
            exec_properties = exec_properties | {key: json_utils.dumps(custom_config)}
        # TFX has no other place for it: its file formats are a tf.Example a row and Parquet, written row by row.
        with mock.patch.object(tfx_executor.TransformProcessor, "_RecordBatchToExamplesFn", EncodeBlocks):
            super().Do(inputs, output_dict, exec_properties)
