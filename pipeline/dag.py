"""create_pipeline: the nodes of the pipeline and how they hang together."""

import dataclasses
import json
import os

import tensorflow_model_analysis as tfma

# Not tfx.v1: it imports Google Cloud's clients too, 8 seconds that every start would pay.
from tfx import components as tfx_components
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_gen_pb2, trainer_pb2
from tfx.types import Channel, standard_artifacts

from components import DimSearch, PlanSelector
from pipeline.code_version import hash_modules
from pipeline.config import PipelineConfig
from pipeline.errors import UserError
from pipeline.example_gen import ImportExampleGen
from pipeline.infra_validation import make_infra_validator
from pipeline.preprocessing import vocabulary_files
from pipeline.pusher import Pusher
from pipeline.transform import Transform

# Node ids: the names of the plan's nodes are their classes'; these are the ones of the uniform model beside it.
UNIFORM_TRAINER = "UniformTrainer"
UNIFORM_EVALUATOR = "UniformEvaluator"

# The exported signature that takes serialized tf.Examples and gives probabilities [B, 1].
EXAMPLES_SIGNATURE = "regress"

# What each of our nodes runs: a change of these files re-runs the node.
_LIBRARY = (
    *("keras_dimgrow", "components.transformed_data"),
    *("components.row_blocks", "components.row_files", "components.rows_in_memory"),
)
_SEARCH = (*_LIBRARY, "components.dim_search", "components.artifacts")
_IDS = (
    *("pipeline.preprocessing", "pipeline.vocabularies", "pipeline.transform", "pipeline.earlier_model"),
    "components.row_blocks",
)
_EXPORT = (
    *("pipeline.training", "pipeline.model_card", "pipeline.reference_rows", "pipeline.earlier_model"),
    "pipeline.vocabularies",
    *("serving.export", "serving.export_columns", "serving.export_graph", "serving.export_signatures"),
    *("serving.files", "serving.names", "serving.reference", "serving.transform_graph"),
)
_PUSH = (
    *("pipeline.pusher", "serving.files", "serving.names", "serving.samples", "serving.session"),
    *("serving.versions", "serving.warmup", "serving.warmup_requests"),
)


@dataclasses.dataclass(frozen=True)
class Locations:
    """Where a pipeline reads and writes; paths may be remote.

    Args:
        data: directory of the prepared data.
        data_format: "csv" or "tfrecord".
        data_pattern: the files of `data`.
        root: directory of everything that the pipeline writes.
    """

    data: str
    data_format: str
    root: str
    data_pattern: str = "*"

    @property
    def artifacts(self) -> str:
        """Root of the artifacts of all nodes."""
        return os.path.join(self.root, "artifacts")


def plan_node(config: PipelineConfig) -> str:
    """Id of the node whose plan is trained."""
    return "PlanSelector" if config.search.trials else "DimSearch"


def create_pipeline(
    config: PipelineConfig,
    locations: Locations,
    *,
    with_resolver: bool = True,
    with_parameters: bool = False,
    infra_platform: str | None = None,
    **pipeline_options,
) -> Pipeline:
    """Data -> Transform -> DimSearch -> Trainer -> Evaluator (-> InfraValidator) -> Pusher, and a uniform model beside it.

    Args:
        config: the configuration.
        locations: where it reads and writes.
        with_resolver: compare with the latest blessed model. False where the runner cannot resolve (open-source Kubeflow).
        with_parameters: make data, budget and root parameters of the compiled pipeline, with the values given as defaults. The
            runner on this machine has no parameters.
        infra_platform: where InfraValidator runs the model, docker or kubernetes; None: it is left out.
        pipeline_options: more arguments of `tfx.orchestration.pipeline.Pipeline`.

    Raises:
        UserError: if the configuration asks for a warm start where no earlier model can be resolved.
    """
    method_config, _, model_config = config.make_library_configs()
    budget, data, root = config.search.parameter_budget, locations.data, locations.root
    if with_parameters:
        # Not used where there are several budgets, search.trials.
        budget = RuntimeParameter("budget", str, json.dumps(budget))
        data, root = RuntimeParameter("data", str, data), RuntimeParameter("root", str, root)
    example_gen = _example_gen(config, locations, data)
    statistics_gen = tfx_components.StatisticsGen(examples=example_gen.outputs["examples"])
    # Without shapes every column is sparse: a value may be missing at serving even if none was in training.
    schema_gen = tfx_components.SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=False)
    validator = tfx_components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    latest_blessed, baseline = _resolver() if with_resolver else None, None
    if latest_blessed is not None:
        baseline = latest_blessed.outputs["model"]
    if config.warm_start != "none" and baseline is None:
        raise UserError(
            f"warm_start: {config.warm_start} needs the last blessed model, which open-source Kubeflow Pipelines cannot "
            "resolve. Set warm_start: none, or run on Vertex AI or on one machine."
        )
    earlier = None if config.warm_start == "none" else baseline
    transform = Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        custom_config={
            "label": config.data.label,
            "features": config.features.to_dict(),
            "code_version": hash_modules(*_IDS),
        },
        base_model=earlier,
    )

    def search_within(parameter_budget) -> DimSearch:
        return DimSearch(
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            label=config.data.label,
            method=config.search.method,
            parameter_budget=parameter_budget,
            method_config=method_config,
            model_config=model_config,
            batch_size=config.batch_size,
            seed=config.seed,
            uniform_dimension=config.uniform_dimension,
            root=root,
            code_version=hash_modules(*_SEARCH),
            base_model=earlier,
        )

    search: DimSearch | PlanSelector
    nodes: list[BaseNode] = [example_gen, statistics_gen, schema_gen, validator, transform]
    if config.search.trials:
        trials = [search_within(trial).with_id(f"DimSearch{i}") for i, trial in enumerate(config.search.trials, 1)]
        version = hash_modules("components.plan_selector", "components.dim_search.executor")
        search = PlanSelector(trials, method_config.to_dict()["tolerance"], version)
        nodes += [*trials, search]
    else:
        search = search_within(budget)
        nodes.append(search)

    if latest_blessed is not None:
        nodes.append(latest_blessed)
    plan, base_model = search.outputs["best_hyperparameters"], earlier if config.warm_start == "weights" else None
    trainer = _trainer(config, locations, transform, plan, base_model)
    evaluator = _evaluator(config, example_gen, trainer, baseline)
    nodes += [trainer, evaluator]
    infra_blessing = None
    if infra_platform is not None:
        raw, model = example_gen.outputs["examples"], trainer.outputs["model"]
        infra_validator = make_infra_validator(infra_platform, config.serving, model, raw, EXAMPLES_SIGNATURE)
        nodes.append(infra_validator)
        infra_blessing = infra_validator.outputs["blessing"]
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_blessing,
        examples=example_gen.outputs["examples"],
        root=root,
        keep_versions=config.serving.keep_versions,
        num_warmup_records=config.serving.warmup_records,
        code_version=hash_modules(*_PUSH),
    )
    nodes.append(pusher)

    if config.compare_with_uniform:
        uniform_trainer = _trainer(config, locations, transform).with_id(UNIFORM_TRAINER)
        # Without a blessing: else it would be the last blessed model.
        uniform_evaluator = _evaluator(config, example_gen, uniform_trainer, None, with_blessing=False)
        nodes += [uniform_trainer, uniform_evaluator.with_id(UNIFORM_EVALUATOR)]
    return Pipeline(pipeline_name=config.name, pipeline_root=locations.artifacts, components=nodes, **pipeline_options)


def _resolver() -> Resolver:
    return Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("LatestBlessedModel")


def _example_gen(config: PipelineConfig, locations: Locations, data: str | RuntimeParameter):
    splits = [
        example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=buckets)
        for name, buckets in config.split.to_dict().items()
    ]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
    files = example_gen_pb2.Input.Split(name="all", pattern=locations.data_pattern)
    configs = {"input_config": example_gen_pb2.Input(splits=[files]), "output_config": output}
    if locations.data_format == "csv":
        return tfx_components.CsvExampleGen(input_base=data, **configs)
    return ImportExampleGen(input_base=data, **configs, code_version=hash_modules("pipeline.example_gen"))


def _trainer(config: PipelineConfig, locations: Locations, transform, plan=None, base_model=None):
    custom_config = {
        "label": config.data.label,
        "training": dict(config.training),
        "model": dict(config.model),
        "batch_size": config.batch_size,
        "seed": config.seed,
        "numeric_columns": [*config.features.integer, *config.features.numeric],
        "uniform_dimension": config.uniform_dimension,
        "storage": config.serving.storage,
        "num_reference_rows": config.serving.reference_rows,
        "vocabulary_files": vocabulary_files(config.features.to_dict()),
        "raw_data": {
            "directory": locations.data,
            "data_format": locations.data_format,
            "pattern": locations.data_pattern,
        },
        "code_version": hash_modules(*_LIBRARY, *_EXPORT),
    }
    return tfx_components.Trainer(
        run_fn="pipeline.training.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        hyperparameters=plan,
        base_model=base_model,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config=custom_config,
    )


def _evaluator(config: PipelineConfig, example_gen, trainer, baseline, with_blessing: bool = True):
    absolute = tfma.GenericValueThreshold(lower_bound={"value": config.evaluation.min_auc})
    relative = tfma.GenericChangeThreshold(
        direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -config.evaluation.max_auc_drop}
    )
    threshold = tfma.MetricThreshold(value_threshold=absolute, change_threshold=None if baseline is None else relative)
    metrics = [
        tfma.MetricConfig(
            class_name="AUC", config='{"num_thresholds": 10000}', threshold=threshold if with_blessing else None
        ),
        tfma.MetricConfig(class_name="BinaryCrossentropy"),
        tfma.MetricConfig(class_name="Calibration"),
        tfma.MetricConfig(class_name="ExampleCount"),
    ]
    eval_config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=EXAMPLES_SIGNATURE, label_key=config.data.label)],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )
    return tfx_components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline,
        eval_config=eval_config,
        example_splits=["test"],
    )
