"""run_fn: what the stock TFX Trainer runs; trains the plan that DimSearch found, and exports it as it is served."""

import json
import logging
import os

import tensorflow as tf
import tensorflow_transform as tft

from components.transformed_data import fields_of, read_split
from keras_dimgrow import EmbeddingPlan, ModelConfig, TrainingConfig, compare_storage, retrain, with_storage
from keras_dimgrow.devices import scope_of, start_devices
from keras_dimgrow.distributed import is_chief, on_one_device
from pipeline.earlier_model import directory_of, load_grown_model, write_continuation
from pipeline.model_card import write_model_card
from pipeline.reference_rows import read_reference_rows
from serving.export import export_saved_model
from serving.reference import compute_reference
from serving.transform_graph import TransformGraph

_LOG = logging.getLogger(__name__)


def run_fn(fn_args) -> None:
    """Trains a model and exports it to `fn_args.serving_model_dir`.

    `fn_args.hyperparameters` is the EmbeddingPlan that DimSearch found; without it every field gets
    `custom_config["uniform_dimension"]` dimensions. With a `fn_args.base_model` the training starts from that model's
    weights, grown to the vocabularies and dimensions of now. `fn_args.model_run_dir` gets what was measured on the eval split
    (`metrics.json`). What is exported is the model with its tables in `custom_config["storage"]`, with the plan, a model card,
    and that model's outputs in Keras on raw rows, for `python -m serving check`. Beside the export lies what a later run goes
    on from (`pipeline.earlier_model`).

    Args:
        fn_args: `custom_config` has the keys label, training, model, batch_size, seed, numeric_columns,
            uniform_dimension, storage, num_reference_rows, vocabulary_files ({column: name in the Transform graph}) and
            raw_data (the arguments directory, data_format and pattern of `read_reference_rows`).
    """
    strategy = start_devices()
    custom = fn_args.custom_config
    tft_output = tft.TFTransformOutput(fn_args.transform_output)
    label, seed = custom["label"], custom["seed"]
    fields = fields_of(tft_output, label)
    if fn_args.hyperparameters:
        plan = EmbeddingPlan.from_dict(fn_args.hyperparameters)
    else:
        plan = EmbeddingPlan.uniform(fields, custom["uniform_dimension"])

    train_files, eval_files = (_expand(patterns) for patterns in (fn_args.train_files, fn_args.eval_files))
    train_data = read_split(train_files, fields, label, custom["batch_size"], shuffle_seed=seed)
    batch_size = train_data.element_spec[1].shape[0]  # known: shuffled batches have one size
    eval_data = read_split(eval_files, fields, label, max(batch_size, 4096))
    vocabularies = {
        column: tft_output.vocabulary_file_by_name(name) for column, name in custom["vocabulary_files"].items()
    }
    model_config = ModelConfig.from_dict(custom["model"])
    with scope_of(strategy):
        base_model, num_new_values = None, dict[str, int]()
        if fn_args.base_model:
            directory = directory_of(fn_args.base_model)
            base_model, num_new_values = load_grown_model(directory, model_config, vocabularies)
            _LOG.info("training starts from the weights in %s; new values: %s", directory, num_new_values)
        result = retrain(
            plan,
            train_data,
            eval_data,
            config=TrainingConfig.from_dict(custom["training"]),
            model_config=model_config,
            seed=seed,
            transfer_from=base_model,
        )
        writes = is_chief()
    if not writes:
        _LOG.info("the first worker exports the model")
        return
    model = on_one_device(result.model)
    stored = with_storage(model, custom["storage"])
    comparison = compare_storage(model, stored, eval_data)
    raw_feature_spec = tft_output.raw_feature_spec()
    raw_feature_spec.pop(label, None)
    feature_names = [field.name for field in plan.kept_fields]
    rows = read_reference_rows(**custom["raw_data"], spec=raw_feature_spec, num_rows=custom["num_reference_rows"])
    reference = None
    if rows:
        # By the whole Transform graph, and eagerly: what the export, which does neither, is checked by.
        whole = tft_output.transform_features_layer()
        reference = compute_reference(stored, whole, raw_feature_spec, feature_names, rows)
    elif custom["num_reference_rows"]:
        _LOG.warning("no raw rows in %s: the export gets no reference outputs", custom["raw_data"]["directory"])
    card = write_model_card(
        label,
        plan,
        comparison,
        storage=custom["storage"],
        num_train_rows=int(train_data.cardinality()) * batch_size,
        num_epochs=result.num_epochs,
        num_reference_rows=len(rows),
        embedding=result.model.embedding,
        settings={name: json.dumps(custom[name], sort_keys=True) for name in ("model", "training", "seed")}
        | {"batch_size": batch_size, "warm_start": "weights" if fn_args.base_model else "none"},
    )
    export_saved_model(
        stored,
        TransformGraph(tft_output.transform_savedmodel_dir, feature_names),
        raw_feature_spec,
        feature_names,
        fn_args.serving_model_dir,
        numeric_columns=custom["numeric_columns"],
        extra_assets={"plan.json": json.dumps(plan.to_dict(), indent=2, sort_keys=True), "model_card.md": card},
        reference=reference,
    )
    write_continuation(directory_of(fn_args.serving_model_dir), model, model_config, vocabularies)
    tf.io.gfile.makedirs(fn_args.model_run_dir)
    with tf.io.gfile.GFile(os.path.join(fn_args.model_run_dir, "metrics.json"), "w") as file:
        metrics = {
            "parameters": plan.parameters,
            "num_epochs": result.num_epochs,
            **({} if plan.chunks is None else {"pool": result.model.embedding.summary()}),
            **vars(comparison.reference),
            "base_model": fn_args.base_model,
            "num_new_values": num_new_values,
            "storage": custom["storage"],
            "storage_auc_difference": comparison.auc_difference,
            "storage_log_loss_difference": comparison.log_loss_difference,
        }
        file.write(json.dumps(metrics, sort_keys=True))


def _expand(patterns: list[str]) -> list[str]:
    return [path for pattern in patterns for path in tf.io.gfile.glob(pattern)]
