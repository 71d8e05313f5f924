"""Transform: raw examples in, ids out; with an earlier model, ids that go on from that model's."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import transform_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from pipeline.transform import executor


class TransformSpec(standard_component_specs.TransformSpec):
    """The contract of TFX's Transform, and one input more."""

    INPUTS = standard_component_specs.TransformSpec.INPUTS | {
        "base_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }


class Transform(base_beam_component.BaseBeamComponent):
    """TFX's Transform, materialized and without statistics, whose preprocessing_fn also learns of an earlier model.

    The transformed examples are blocks of rows (`components.row_blocks`).

    Args:
        examples: raw examples with the splits `train` and `eval`; vocabularies are made from `train`.
        schema: of the examples.
        preprocessing_fn: dotted path of the function.
        custom_config: what it is called with. With a `base_model` the key `earlier_vocabularies` is added: {column: path of
            that model's vocabulary}.
        base_model: the model whose ids stay; None, or a channel without an artifact: all vocabularies are new.
    """

    SPEC_CLASS = TransformSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        preprocessing_fn: str,
        custom_config: Mapping[str, Any],
        base_model: types.BaseChannel | None = None,
    ):
        transformed_examples = types.Channel(type=standard_artifacts.Examples)
        transformed_examples.matching_channel_name = "examples"
        spec = TransformSpec(
            examples=examples,
            schema=schema,
            base_model=base_model,
            preprocessing_fn=preprocessing_fn,
            force_tf_compat_v1=0,
            splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"]),
            custom_config=json_utils.dumps(dict(custom_config)),
            disable_statistics=1,
            transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
            transformed_examples=transformed_examples,
        )
        super().__init__(spec=spec)
