"""Pusher: a blessed model in, a new version in the directory that TF Serving watches out."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec, standard_artifacts

from pipeline.pusher import executor


class PusherSpec(component_spec.ComponentSpec):
    """The contract of Pusher; its parameters are described at the component."""

    PARAMETERS = {  # noqa: RUF012
        "root": component_spec.ExecutionParameter(type=str),
        "keep_versions": component_spec.ExecutionParameter(type=int),  # 0: all
        "num_warmup_records": component_spec.ExecutionParameter(type=int),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {  # noqa: RUF012
        "pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel),
    }


class Pusher(base_component.BaseComponent):
    """Publishes a model if all its validators blessed it, as TFX's Pusher does, and moreover

    - at once: a server never sees a version that is half written (TFX's copies into the directory that it watches);
    - with warm-up records of real rows;
    - and removes versions that are too old.

    The output `pushed_model` is a copy of the version, with the custom properties of TFX's Pusher: pushed,
    pushed_destination, pushed_version.

    Args:
        model: the Trainer's model.
        model_blessing: the Evaluator's.
        infra_blessing: the InfraValidator's; None where there is none.
        examples: raw examples with a split `eval`, for the warm-up records.
        root: the versions go into its directory `serving_model`; may be remote, and a RuntimeParameter.
        keep_versions: how many versions stay; None: all.
        num_warmup_records: requests to write; 0: none.
        code_version: a hash of the code that the node runs, so that the cache sees changes of it.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        examples: types.BaseChannel,
        root: str | RuntimeParameter,
        infra_blessing: types.BaseChannel | None = None,
        keep_versions: int | None = None,
        num_warmup_records: int = 0,
        code_version: str = "",
    ):
        spec = PusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            examples=examples,
            root=root,
            keep_versions=keep_versions or 0,
            num_warmup_records=num_warmup_records,
            code_version=code_version,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec)
