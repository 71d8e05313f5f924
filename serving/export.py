"""Keras model + Transform graph -> one SavedModel that takes raw columns, for TF Serving and other Session loaders."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from serving.export_columns import (
    FeatureSpec,
    align_columns,
    check_feature_spec,
    missing_value,
    raw_specs,
    signature_dtype,
    to_raw,
)
from serving.export_graph import flatten_graph, small_weights
from serving.export_signatures import complete_signatures
from serving.files import staged_saved_model
from serving.names import name_inputs
from serving.reference import Reference

CLASSES = ("0", "1")
_COLUMN_SIGNATURES = ("serving_default", "predict")
_METHODS = {"classify": tf.saved_model.CLASSIFY_METHOD_NAME, "regress": tf.saved_model.REGRESS_METHOD_NAME}


def export_saved_model(
    model: keras.Model,
    transform: Callable[[Mapping], Mapping],
    raw_feature_spec: FeatureSpec,
    feature_names: Sequence[str],
    directory: str | os.PathLike[str],
    *,
    numeric_columns: Iterable[str] = (),
    extra_assets: Mapping[str, str] | None = None,
    reference: Reference | None = None,
) -> None:
    """Writes a SavedModel of five signatures.

    | signature                    | inputs                                | outputs                                      |
    |------------------------------|---------------------------------------|----------------------------------------------|
    | `serving_default`, `predict` | every raw column by its name          | `outputs`: probabilities, float32 [B, 1]     |
    | `classify`                   | `inputs`: serialized tf.Examples, [B] | `scores` float32, `classes` string, [B, 2]   |
    | `regress`                    | `inputs`: serialized tf.Examples, [B] | `outputs`: probabilities, float32 [B, 1]     |
    | `transform_features`         | `examples`: tf.Examples, [B]          | ids that the model is fed, by feature: [B]   |

    Raw columns go by `names.name_input`, [B] each, and all are optional. An absent column is missing in every row, and so
    is an empty one; a column of one value has it in every row:

    | dtype in raw_feature_spec       | signature | missing | note                                              |
    |---------------------------------|-----------|---------|---------------------------------------------------|
    | string                          | string    | ""      |                                                   |
    | float32                         | float32   | NaN     |                                                   |
    | int64                           | string    | ""      | decimal digits; other text is an unknown value    |
    | int64, listed in numeric_columns| float32   | NaN     | rounded; infinite is missing; exact up to 2^24    |

    tf.Examples hold the raw columns as they are. Columns that no feature in `feature_names` depends on are accepted,
    and ignored.

    The directory appears complete or not at all (see `files.staged_saved_model`). A SavedModel or an empty directory
    that is there already is replaced.

    Args:
        model: a built Keras 3 model: {feature name: int64 [B]} -> probabilities [B, 1].
        transform: `TransformGraph`, which leaves unused vocabularies out, or `tft_output.transform_features_layer()`.
            Its attribute `columns`, where it has one, names the raw columns that it reads.
        raw_feature_spec: the raw columns without the label, of dtype string, int64 or float32, one value a row at most.
            A missing value of a FixedLenFeature becomes its default_value, else "", NaN or the least int64.
        feature_names: outputs of `transform`, [B] or [B, 1], that `model` consumes.
        directory: where to write; may be remote (tf.io.gfile).
        numeric_columns: columns that are quantities, not categories.
        extra_assets: {file name: text}, for `<directory>/assets.extra/`.
        reference: rows and the Keras model's outputs, for `python -m serving check`; stored in `assets.extra`, too.

    Raises:
        ValueError: if a column, feature name, file name or the model's output is not as described.
        FileExistsError: if `directory` holds something that is no SavedModel.
    """
    directory = os.fspath(directory).rstrip("/")
    numeric_columns, extra_assets = frozenset(numeric_columns), extra_assets or {}
    check_feature_spec(raw_feature_spec, numeric_columns)
    _check_asset_names(extra_assets)
    _check_replaceable(directory)

    input_names, feature_outputs = name_inputs(raw_feature_spec), name_inputs(feature_names)
    dtypes = {name: signature_dtype(spec, name in numeric_columns) for name, spec in raw_feature_spec.items()}
    read_columns = getattr(transform, "columns", raw_feature_spec)
    if unknown := sorted(set(read_columns) - set(raw_feature_spec)):
        raise ValueError(
            f"The features depend on columns {unknown}, which raw_feature_spec lacks; it has {sorted(raw_feature_spec)}."
            " A feature must not depend on the label, which nobody knows when the model is asked."
        )
    read = {name: raw_feature_spec[name] for name in read_columns}

    constants = small_weights(model)

    # Traced once, and called by every signature: the file holds, and a server loads, one copy.
    @functools.partial(tf.function, input_signature=[raw_specs(read)], autograph=False)
    def make_features(raw: Mapping[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor]:
        transformed = transform(raw)
        if unknown := sorted(set(feature_names) - set(transformed)):
            raise ValueError(f"The transform gives no feature {unknown}; it gives {sorted(transformed)}.")
        return {name: tf.reshape(transformed[name], [-1]) for name in feature_names}

    @functools.partial(tf.function, input_signature=[raw_specs(read)], autograph=False)
    def score(raw: Mapping[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
        features = make_features(raw)
        with keras.StatelessScope(constants):
            outputs = tf.cast(model(features, training=False), tf.float32)
        if outputs.shape.rank != 2 or outputs.shape[1] != 1:
            raise ValueError(f"The model must return probabilities [B, 1]; it returns shape {outputs.shape}.")
        return outputs

    def predict(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        aligned = align_columns(columns, input_names, read)
        return {"outputs": score({name: to_raw(x, read[name]) for name, x in aligned.items()})}

    def classify(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = score(tf.io.parse_example(examples, read))
        classes = tf.tile(tf.constant([CLASSES]), [tf.shape(outputs)[0], 1])
        return {"scores": tf.concat([1 - outputs, outputs], axis=1), "classes": classes}

    def regress(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": score(tf.io.parse_example(examples, read))}

    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features = make_features(tf.io.parse_example(examples, read))
        return {feature_outputs[name]: x for name, x in features.items()}

    archive = keras.export.ExportArchive()
    # Not the model: what an endpoint uses is found without it, and the file would hold its variables twice.
    archive.track(transform)
    columns = {name: tf.TensorSpec([None], dtypes[name], name=input_names[name]) for name in raw_feature_spec}
    shared = tf.function(predict, input_signature=[columns], autograph=False)
    shared.get_concrete_function()
    for name in _COLUMN_SIGNATURES:
        archive.add_endpoint(name, shared)
    for function, examples in ((classify, "inputs"), (regress, "inputs"), (transform_features, "examples")):
        archive.add_endpoint(function.__name__, function, [tf.TensorSpec([None], tf.string, name=examples)])

    defaults = {input_names[name]: missing_value(dtype) for name, dtype in dtypes.items()}
    with staged_saved_model(directory) as temporary:
        archive.write_out(temporary, verbose=False)
        complete_signatures(temporary, dict.fromkeys(_COLUMN_SIGNATURES, defaults), _METHODS)
        flatten_graph(temporary, *_COLUMN_SIGNATURES[:1], _COLUMN_SIGNATURES[1:])
        _write_assets(os.path.join(temporary, "assets.extra"), extra_assets, reference)


def _check_asset_names(extra_assets: Mapping[str, str]) -> None:
    for name in extra_assets:
        if not name or name in (".", "..") or name != os.path.basename(name):
            raise ValueError(f"extra_assets needs plain file names, without a directory; received {name!r}.")


def _check_replaceable(directory: str) -> None:
    if not tf.io.gfile.exists(directory):
        return
    if not tf.io.gfile.isdir(directory):
        raise FileExistsError(f"{directory} is a file. Export to a directory.")
    if tf.io.gfile.listdir(directory) and not tf.io.gfile.exists(os.path.join(directory, "saved_model.pb")):
        raise FileExistsError(
            f"{directory} holds files, but no SavedModel that could be replaced. Export to a new one."
        )


def _write_assets(directory: str, texts: Mapping[str, str], reference: Reference | None) -> None:
    if texts or reference is not None:
        tf.io.gfile.makedirs(directory)
    for name, text in texts.items():
        with tf.io.gfile.GFile(os.path.join(directory, name), "w") as file:
            file.write(text)
    if reference is not None:
        reference.save(directory)
