"""run_fn: what the stock TFX Trainer runs; trains the plan that DimSearch found, and exports it."""

import json
import os

import tensorflow as tf
import tensorflow_transform as tft

from components.transformed_data import fields_of, read_split
from keras_dimgrow import EmbeddingPlan, ModelConfig, TrainingConfig, retrain
from serving.export import export_saved_model


def run_fn(fn_args) -> None:
    """Trains a model and exports it to `fn_args.serving_model_dir`.

    `fn_args.hyperparameters` is the EmbeddingPlan that DimSearch found; without it every field gets
    `custom_config["uniform_dimension"]` dimensions. `fn_args.model_run_dir` gets the Keras model
    (`model.keras`) and what was measured on the eval split (`metrics.json`).

    Args:
        fn_args: `custom_config` has the keys label, training, model, batch_size, seed, numeric_columns and
            uniform_dimension.
    """
    tf.config.experimental.enable_op_determinism()
    custom = fn_args.custom_config
    tft_output = tft.TFTransformOutput(fn_args.transform_output)
    label, batch_size, seed = custom["label"], custom["batch_size"], custom["seed"]
    fields = fields_of(tft_output, label)
    if fn_args.hyperparameters:
        plan = EmbeddingPlan.from_dict(fn_args.hyperparameters)
    else:
        plan = EmbeddingPlan.uniform(fields, custom["uniform_dimension"])

    train_files, eval_files = (_expand(patterns) for patterns in (fn_args.train_files, fn_args.eval_files))
    result = retrain(
        plan,
        read_split(train_files, fields, label, batch_size, shuffle_seed=seed),
        read_split(eval_files, fields, label, max(batch_size, 4096)),
        config=TrainingConfig.from_dict(custom["training"]),
        model_config=ModelConfig.from_dict(custom["model"]),
        seed=seed,
    )
    raw_feature_spec = tft_output.raw_feature_spec()
    raw_feature_spec.pop(label, None)
    plan_json = json.dumps(plan.to_dict(), indent=2, sort_keys=True)
    export_saved_model(
        result.model,
        tft_output.transform_features_layer(),
        raw_feature_spec,
        [field.name for field in plan.kept_fields],
        fn_args.serving_model_dir,
        numeric_columns=custom["numeric_columns"],
        extra_assets={"plan.json": plan_json},
    )
    tf.io.gfile.makedirs(fn_args.model_run_dir)
    result.model.save(os.path.join(fn_args.model_run_dir, "model.keras"))
    with tf.io.gfile.GFile(os.path.join(fn_args.model_run_dir, "metrics.json"), "w") as file:
        metrics = {"parameters": plan.parameters, "num_epochs": result.num_epochs, **vars(result.validation)}
        file.write(json.dumps(metrics, sort_keys=True))


def _expand(patterns: list[str]) -> list[str]:
    return [path for pattern in patterns for path in tf.io.gfile.glob(pattern)]
