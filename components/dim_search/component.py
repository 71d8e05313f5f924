"""DimSearch: transformed examples in, the embedding dimension of every field out."""

import json

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec, standard_artifacts

from components.artifacts import SearchReport
from components.dim_search import executor
from keras_dimgrow import ModelConfig
from keras_dimgrow.budget import Budget
from keras_dimgrow.config import Config
from keras_dimgrow.search import choose_method


class DimSearchSpec(component_spec.ComponentSpec):
    """The contract of DimSearch; its parameters are described at the component."""

    PARAMETERS = {  # noqa: RUF012
        "label": component_spec.ExecutionParameter(type=str),
        "method": component_spec.ExecutionParameter(type=str),
        "parameter_budget": component_spec.ExecutionParameter(type=str),  # JSON: null, a number or a text
        "method_config": component_spec.ExecutionParameter(type=str),
        "model_config": component_spec.ExecutionParameter(type=str),
        "batch_size": component_spec.ExecutionParameter(type=int, optional=True),
        "seed": component_spec.ExecutionParameter(type=int),
        "uniform_dimension": component_spec.ExecutionParameter(type=int),
        "root": component_spec.ExecutionParameter(type=str),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "base_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "best_hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters),
        "search_report": component_spec.ChannelParameter(type=SearchReport),
    }


class DimSearch(base_component.BaseComponent):
    """Finds the embedding dimension of each categorical field, by DimGrow (arXiv 2505.12683) or another method.

    Every integer feature of the transformed schema that has a categorical domain, but the label, is a field. The output
    `best_hyperparameters` is one JSON file, an `EmbeddingPlan`, which a Trainer gets as `fn_args.hyperparameters`;
    `search_report` shows how it was found.

    Args:
        examples: transformed examples with the splits `train` and `eval`.
        transform_graph: the Transform component's output.
        label: name of the 0/1 label among the transformed features.
        method: a name in `keras_dimgrow.METHODS`.
        parameter_budget: the most embedding parameters that the plan may have: a share of uniform 16 (float), a number (int)
            or bytes of the float32 tables ("64MB"); None for no budget. Or a RuntimeParameter: the same as JSON text.
        method_config: settings of the method, of the class `METHODS[method].config`; None for its defaults.
        model_config: the model around the embeddings.
        batch_size: rows per training step; None: as `choose_batch_size` has it for the rows of the split `train`.
        seed: seed of everything random.
        uniform_dimension: dimension of the uniform model that the report compares with.
        root: in its directory `checkpoints` an interrupted search is kept, to go on when the pipeline is run again; empty:
            it is not. May be a RuntimeParameter.
        code_version: a hash of the code that the node runs, so that the cache sees changes of it.
        base_model: a model whose plan (assets.extra/plan.json) the search starts from, if the method can; None, or a channel
            without an artifact: from small dimensions.

    Raises:
        ValueError: for an unknown method, a config of another method, or a budget that is none or that the method cannot keep.
    """

    SPEC_CLASS = DimSearchSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        label: str,
        method: str = "dimgrow",
        parameter_budget: Budget | RuntimeParameter | None = None,
        method_config: Config | None = None,
        model_config: ModelConfig | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        uniform_dimension: int = 16,
        root: str | RuntimeParameter = "",
        code_version: str = "",
        base_model: types.BaseChannel | None = None,
    ):
        if not isinstance(parameter_budget, RuntimeParameter):
            budget, parameter_budget = parameter_budget, json.dumps(parameter_budget)
        else:
            budget = json.loads(parameter_budget.default)
        _, method_config = choose_method(method, method_config, budget)
        spec = DimSearchSpec(
            examples=examples,
            transform_graph=transform_graph,
            base_model=base_model,
            label=label,
            method=method,
            parameter_budget=parameter_budget,
            method_config=method_config.to_json(),
            model_config=(model_config or ModelConfig()).to_json(),
            batch_size=batch_size,
            seed=seed,
            uniform_dimension=uniform_dimension,
            root=root,
            code_version=code_version,
            best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
            search_report=types.Channel(type=SearchReport),
        )
        super().__init__(spec=spec)
