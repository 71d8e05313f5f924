"""Keras model + Transform graph -> one SavedModel that takes raw columns, for TF Serving and other Session loaders."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from serving.files import staged_saved_model
from serving.names import name_inputs

FeatureSpec = Mapping[str, tf.io.VarLenFeature | tf.io.FixedLenFeature]

# No vocabulary holds it: the least int64 stands for every text that is no integer.
UNKNOWN_INTEGER = tf.int64.min
_LARGEST_INTEGRAL_FLOAT = float(np.nextafter(np.float32(2**63), np.float32(0)))


def export_saved_model(
    model: keras.Model,
    transform_layer: Callable[[Mapping], Mapping],
    raw_feature_spec: FeatureSpec,
    feature_names: Sequence[str],
    directory: str | os.PathLike[str],
    *,
    numeric_columns: Iterable[str] = (),
    extra_assets: Mapping[str, str] | None = None,
) -> None:
    """Writes a SavedModel of three signatures, each giving {"outputs": float32 [B, 1]}.

    `serving_default` and `predict` take every raw column by its name (`names.name_input`), [B] each:

    | dtype in raw_feature_spec       | signature | missing | note                                              |
    |---------------------------------|-----------|---------|---------------------------------------------------|
    | string                          | string    | ""      |                                                   |
    | float32                         | float32   | NaN     |                                                   |
    | int64                           | string    | ""      | decimal digits; other text is an unknown value    |
    | int64, listed in numeric_columns| float32   | NaN     | rounded; infinite is missing; exact up to 2^24    |

    `examples` takes serialized tf.Examples of the raw columns, string [B], and feeds them as they are.

    The directory appears complete or not at all (see `files.staged_saved_model`). A SavedModel or an empty directory
    that is there already is replaced.

    Args:
        model: a built Keras 3 model: {feature name: int64 [B]} -> probabilities [B, 1].
        transform_layer: `tft_output.transform_features_layer()`.
        raw_feature_spec: the raw columns without the label, of dtype string, int64 or float32, one value a row at most.
            A missing value of a FixedLenFeature becomes its default_value, else "", NaN or the least int64.
        feature_names: outputs of `transform_layer`, [B] or [B, 1], that `model` consumes.
        directory: where to write; may be remote (tf.io.gfile).
        numeric_columns: columns that are quantities, not categories.
        extra_assets: {file name: text}, for `<directory>/assets.extra/`.

    Raises:
        ValueError: if a column, feature name, file name or the model's output is not as described.
        FileExistsError: if `directory` holds something that is no SavedModel.
    """
    directory = os.fspath(directory).rstrip("/")
    numeric_columns, extra_assets = frozenset(numeric_columns), extra_assets or {}
    _check_arguments(raw_feature_spec, numeric_columns, extra_assets)
    _check_replaceable(directory)

    def score(raw: Mapping[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor]:
        features = _select_features(transform_layer(raw), feature_names)
        outputs = tf.cast(model(features, training=False), tf.float32)
        if outputs.shape.rank != 2 or outputs.shape[1] != 1:
            raise ValueError(f"The model must return probabilities [B, 1]; it returns shape {outputs.shape}.")
        return {"outputs": outputs}

    input_names = name_inputs(raw_feature_spec)
    signature = {
        name: tf.TensorSpec([None], _signature_dtype(spec, name in numeric_columns), name=input_names[name])
        for name, spec in raw_feature_spec.items()
    }

    def score_columns(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return score({name: _to_raw(columns[name], spec) for name, spec in raw_feature_spec.items()})

    def score_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return score(tf.io.parse_example(examples, raw_feature_spec))

    # One traced function behind two names keeps one copy of the graph in the file.
    shared = tf.function(score_columns, input_signature=[signature], autograph=False)
    shared.get_concrete_function()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(transform_layer)
    archive.add_endpoint("serving_default", shared)
    archive.add_endpoint("predict", shared)
    archive.add_endpoint(
        "examples", score_examples, input_signature=[tf.TensorSpec([None], tf.string, name="examples")]
    )
    _write(archive, directory, extra_assets)


def _check_arguments(spec: FeatureSpec, numeric_columns: frozenset[str], extra_assets: Mapping[str, str]) -> None:
    if not spec:
        raise ValueError("raw_feature_spec names no column; a signature needs at least one.")
    for name, feature in spec.items():
        if not isinstance(feature, tf.io.VarLenFeature | tf.io.FixedLenFeature):
            raise ValueError(f"Column {name!r}: needs VarLenFeature or FixedLenFeature; received {feature}.")
        if feature.dtype not in (tf.string, tf.int64, tf.float32):
            raise ValueError(f"Column {name!r}: dtype must be string, int64 or float32; received {feature.dtype.name}.")
        if isinstance(feature, tf.io.FixedLenFeature) and list(feature.shape) not in ([], [1]):
            raise ValueError(
                f"Column {name!r}: needs one value a row, shape [] or [1]; received {list(feature.shape)}."
            )
    if unknown := sorted(numeric_columns - set(spec)):
        raise ValueError(f"numeric_columns names {unknown}, which raw_feature_spec lacks; it has {sorted(spec)}.")
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


def _signature_dtype(spec: tf.io.VarLenFeature | tf.io.FixedLenFeature, is_quantity: bool) -> tf.DType:
    if spec.dtype == tf.int64:
        return tf.float32 if is_quantity else tf.string
    return spec.dtype


def _to_raw(x: tf.Tensor, spec: tf.io.VarLenFeature | tf.io.FixedLenFeature) -> tf.Tensor | tf.SparseTensor:
    """A signature's column [B] as the Transform graph takes it: sparse [B, 1], only values that are there, or dense."""
    if spec.dtype == tf.int64:
        values, is_present = _parse_integers(x) if x.dtype == tf.string else _round_integers(x)
        absent: str | int | float = UNKNOWN_INTEGER
    elif spec.dtype == tf.string:
        values, is_present, absent = x, tf.not_equal(x, ""), ""
    else:
        values, is_present, absent = x, tf.logical_not(tf.math.is_nan(x)), float("nan")
    if isinstance(spec, tf.io.FixedLenFeature):
        default = absent if spec.default_value is None else np.ravel(spec.default_value)[0]
        return tf.reshape(tf.where(is_present, values, tf.constant(default, spec.dtype)), [-1, *spec.shape])
    indices = tf.pad(tf.where(is_present), [[0, 0], [0, 1]])
    num_rows = tf.size(is_present, out_type=tf.int64)
    return tf.SparseTensor(indices, tf.boolean_mask(values, is_present), tf.stack([num_rows, 1]))


def _parse_integers(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int64 [B] of decimal text ("39.0", as pandas writes it, too), UNKNOWN_INTEGER for other; and which rows have any.

    tf.strings.to_number fails the whole batch on one bad or too large value: it only gets parts that are sure to fit.
    """
    text = tf.strings.strip(text)
    is_integer = tf.strings.regex_full_match(text, r"[+-]?0*\d{1,19}(\.0*)?")
    digits = tf.where(is_integer, tf.strings.regex_replace(text, r"^[+-]|\.0*$", ""), "0")
    padded = tf.strings.join(["0" * 19, digits])
    high = tf.strings.to_number(tf.strings.regex_replace(padded, r"^.*(\d{10})\d{9}$", r"\1"), tf.int64)
    low = tf.strings.to_number(tf.strings.regex_replace(padded, r"^.*(\d{9})$", r"\1"), tf.int64)
    high_limit, low_limit = divmod(tf.int64.max, 10**9)
    fits = (high < high_limit) | (tf.equal(high, high_limit) & (low <= low_limit))
    magnitude = tf.where(fits, high, 0) * 10**9 + low
    values = tf.where(tf.strings.regex_full_match(text, "-.*"), -magnitude, magnitude)
    return tf.where(is_integer & fits, values, UNKNOWN_INTEGER), tf.not_equal(text, "")


def _round_integers(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int64 [B] nearest to float32 [B], at most int64's limits; and which rows are finite."""
    is_present = tf.math.is_finite(x)
    rounded = tf.round(tf.where(is_present, x, 0.0))
    return tf.cast(tf.clip_by_value(rounded, -_LARGEST_INTEGRAL_FLOAT, _LARGEST_INTEGRAL_FLOAT), tf.int64), is_present


def _select_features(transformed: Mapping[str, tf.Tensor], names: Sequence[str]) -> dict[str, tf.Tensor]:
    if unknown := sorted(set(names) - set(transformed)):
        raise ValueError(f"The transform gives no feature {unknown}; it gives {sorted(transformed)}.")
    return {name: tf.reshape(transformed[name], [-1]) for name in names}


def _write(archive: keras.export.ExportArchive, directory: str, extra_assets: Mapping[str, str]) -> None:
    with staged_saved_model(directory) as temporary:
        archive.write_out(temporary, verbose=False)
        if extra_assets:
            tf.io.gfile.makedirs(os.path.join(temporary, "assets.extra"))
        for name, text in extra_assets.items():
            with tf.io.gfile.GFile(os.path.join(temporary, "assets.extra", name), "w") as file:
                file.write(text)
