"""DimSearch: transformed examples in, the embedding dimension of every field out."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.artifacts import SearchReport
from components.dim_search import executor
from keras_dimgrow import DimGrowPaperConfig, ModelConfig


class DimSearchSpec(component_spec.ComponentSpec):
    """The contract of DimSearch; its parameters are described at the component."""

    PARAMETERS = {  # noqa: RUF012
        "label": component_spec.ExecutionParameter(type=str),
        "search_config": component_spec.ExecutionParameter(type=str),
        "model_config": component_spec.ExecutionParameter(type=str),
        "batch_size": component_spec.ExecutionParameter(type=int),
        "seed": component_spec.ExecutionParameter(type=int),
        "uniform_dimension": component_spec.ExecutionParameter(type=int),
        "checkpoint_directory": component_spec.ExecutionParameter(type=str),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {  # noqa: RUF012
        "best_hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters),
        "search_report": component_spec.ChannelParameter(type=SearchReport),
    }


class DimSearch(base_component.BaseComponent):
    """Finds the embedding dimension of each categorical field by DimGrow (arXiv 2505.12683).

    Every integer feature of the transformed schema that has a categorical domain, but the label, is a field. The output
    `best_hyperparameters` is one JSON file, an `EmbeddingPlan`, which a Trainer gets as `fn_args.hyperparameters`;
    `search_report` shows how it was found.

    Args:
        examples: transformed examples with the splits `train` and `eval`.
        transform_graph: the Transform component's output.
        label: name of the 0/1 label among the transformed features.
        search_config: how to search.
        model_config: the model around the embeddings.
        batch_size: rows per training step.
        seed: seed of everything random.
        uniform_dimension: dimension of the uniform model that the report compares with.
        checkpoint_directory: where an interrupted search is kept, to go on when the pipeline is run again; empty for none.
        code_version: a hash of the code that the node runs, so that the cache sees changes of it.
    """

    SPEC_CLASS = DimSearchSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        label: str,
        search_config: DimGrowPaperConfig | None = None,
        model_config: ModelConfig | None = None,
        batch_size: int = 1024,
        seed: int = 0,
        uniform_dimension: int = 16,
        checkpoint_directory: str = "",
        code_version: str = "",
    ):
        spec = DimSearchSpec(
            examples=examples,
            transform_graph=transform_graph,
            label=label,
            search_config=(search_config or DimGrowPaperConfig()).to_json(),
            model_config=(model_config or ModelConfig()).to_json(),
            batch_size=batch_size,
            seed=seed,
            uniform_dimension=uniform_dimension,
            checkpoint_directory=checkpoint_directory,
            code_version=code_version,
            best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
            search_report=types.Channel(type=SearchReport),
        )
        super().__init__(spec=spec)
