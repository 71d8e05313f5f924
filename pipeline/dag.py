"""create_pipeline: the nodes of the pipeline and how they hang together."""

import dataclasses
import os

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components import DimSearch
from keras_dimgrow import ModelConfig, SearchConfig
from pipeline.code_version import hash_modules
from pipeline.config import PipelineConfig

# Node ids: the names of the plan's nodes are their classes'; these are the ones of the uniform model beside it.
UNIFORM_TRAINER = "UniformTrainer"
UNIFORM_EVALUATOR = "UniformEvaluator"

_LIBRARY = ("keras_dimgrow", "components.transformed_data")


@dataclasses.dataclass(frozen=True)
class Locations:
    """Where a pipeline reads and writes; paths may be remote.

    Args:
        data: directory of the prepared data.
        data_format: "csv" or "tfrecord".
        root: directory of everything that the pipeline writes.
    """

    data: str
    data_format: str
    root: str

    @property
    def artifacts(self) -> str:
        """Root of the artifacts of all nodes."""
        return os.path.join(self.root, "artifacts")

    @property
    def serving_model(self) -> str:
        """Where blessed models are pushed, one directory a version."""
        return os.path.join(self.root, "serving_model")

    @property
    def checkpoints(self) -> str:
        """Where interrupted searches are kept."""
        return os.path.join(self.root, "checkpoints")


def create_pipeline(
    config: PipelineConfig, locations: Locations, *, with_resolver: bool = True, **pipeline_options
) -> tfx.dsl.Pipeline:
    """Data -> Transform -> DimSearch -> Trainer -> Evaluator -> Pusher, and a uniform model beside it.

    Args:
        config: the configuration.
        locations: where it reads and writes.
        with_resolver: compare with the latest blessed model. False where the runner cannot resolve (open-source Kubeflow).
        pipeline_options: more arguments of `tfx.dsl.Pipeline`.
    """
    example_gen = _example_gen(config, locations)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    # Without shapes every column is sparse: a value may be missing at serving even if none was in training.
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=False)
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        custom_config={
            "label": config.data.label,
            "features": config.features.to_dict(),
            "code_version": hash_modules("pipeline.preprocessing"),
        },
        splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=["train", "eval"]),
        disable_statistics=True,
    )
    search = DimSearch(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        label=config.data.label,
        search_config=SearchConfig.from_dict(config.search),
        model_config=ModelConfig.from_dict(config.model),
        batch_size=config.batch_size,
        seed=config.seed,
        uniform_dimension=config.uniform_dimension,
        checkpoint_directory=locations.checkpoints,
        code_version=hash_modules(*_LIBRARY, "components.dim_search"),
    )
    nodes: list[BaseNode] = [example_gen, statistics_gen, schema_gen, validator, transform, search]

    trainer = _trainer(config, transform, plan=search.outputs["best_hyperparameters"])
    baseline = None
    if with_resolver:
        resolver = tfx.dsl.Resolver(
            strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
            model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
            model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
        ).with_id("LatestBlessedModel")
        nodes.append(resolver)
        baseline = resolver.outputs["model"]
    evaluator = _evaluator(config, example_gen, trainer, baseline)
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=locations.serving_model)
        ),
    )
    nodes += [trainer, evaluator, pusher]

    if config.compare_with_uniform:
        uniform_trainer = _trainer(config, transform, plan=None).with_id(UNIFORM_TRAINER)
        nodes += [uniform_trainer, _evaluator(config, example_gen, uniform_trainer, None).with_id(UNIFORM_EVALUATOR)]
    return tfx.dsl.Pipeline(
        pipeline_name=config.name, pipeline_root=locations.artifacts, components=nodes, **pipeline_options
    )


def _example_gen(config: PipelineConfig, locations: Locations):
    splits = [
        tfx.proto.SplitConfig.Split(name=name, hash_buckets=buckets) for name, buckets in config.split.to_dict().items()
    ]
    output = tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=splits))
    if locations.data_format == "csv":
        return tfx.components.CsvExampleGen(input_base=locations.data, output_config=output)
    return tfx.components.ImportExampleGen(input_base=locations.data, output_config=output)


def _trainer(config: PipelineConfig, transform, plan):
    custom_config = {
        "label": config.data.label,
        "training": dict(config.training),
        "model": dict(config.model),
        "batch_size": config.batch_size,
        "seed": config.seed,
        "numeric_columns": [*config.features.integer, *config.features.numeric],
        "uniform_dimension": config.uniform_dimension,
        "code_version": hash_modules(*_LIBRARY, "pipeline.training", "serving.export"),
    }
    return tfx.components.Trainer(
        run_fn="pipeline.training.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        hyperparameters=plan,
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config=custom_config,
    )


def _evaluator(config: PipelineConfig, example_gen, trainer, baseline):
    absolute = tfma.GenericValueThreshold(lower_bound={"value": config.evaluation.min_auc})
    relative = tfma.GenericChangeThreshold(
        direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -config.evaluation.max_auc_drop}
    )
    threshold = tfma.MetricThreshold(
        value_threshold=absolute, change_threshold=None if baseline is None else relative
    )
    metrics = [
        tfma.MetricConfig(class_name="AUC", config='{"num_thresholds": 10000}', threshold=threshold),
        tfma.MetricConfig(class_name="BinaryCrossentropy"),
        tfma.MetricConfig(class_name="Calibration"),
        tfma.MetricConfig(class_name="ExampleCount"),
    ]
    eval_config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name="examples", label_key=config.data.label)],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )
    return tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline,
        eval_config=eval_config,
        example_splits=["test"],
    )
