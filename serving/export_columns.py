"""Raw columns as an export's signatures take them: every one may be absent, empty or hold missing values."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

FeatureSpec = Mapping[str, tf.io.VarLenFeature | tf.io.FixedLenFeature]

# No vocabulary holds it: the least int64 stands for every text that is no integer.
UNKNOWN_INTEGER = tf.int64.min
_LARGEST_INTEGRAL_FLOAT = float(np.nextafter(np.float32(2**63), np.float32(0)))


def check_feature_spec(spec: FeatureSpec, numeric_columns: frozenset[str]) -> None:
    """Raises ValueError for columns that a signature cannot take."""
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


def signature_dtype(spec: tf.io.VarLenFeature | tf.io.FixedLenFeature, is_quantity: bool) -> tf.DType:
    """dtype of the signature input of a column."""
    if spec.dtype == tf.int64:
        return tf.float32 if is_quantity else tf.string
    return spec.dtype


def raw_specs(spec: FeatureSpec) -> dict[str, tf.TensorSpec | tf.SparseTensorSpec]:
    """What tf.io.parse_example makes of the columns: sparse [B, values] or dense [B, ...]."""
    return {
        name: tf.SparseTensorSpec([None, None], feature.dtype)
        if isinstance(feature, tf.io.VarLenFeature)
        else tf.TensorSpec([None, *feature.shape], feature.dtype)
        for name, feature in spec.items()
    }


def missing_value(dtype: tf.DType) -> tf.Tensor:
    """The missing value of a signature input, [1]: what stands in for an absent column.

    One value, not none: TF Serving's batching wants equally many rows in all inputs, and most requests that it batches
    have one.
    """
    return tf.constant([b"" if dtype == tf.string else float("nan")], dtype)


def align_columns(
    columns: Mapping[str, tf.Tensor], names: Mapping[str, str], kept: Iterable[str]
) -> dict[str, tf.Tensor]:
    """Columns of [B], [1] or [0] values -> [B] each, where B is the length of the longest.

    One value holds for all rows; no value is a missing one in each. Other lengths are an InvalidArgumentError.

    Args:
        columns: {column: string or float32 [B], [1] or [0]}.
        names: {column: name of its input}, for the error.
        kept: the columns to return; the others count for B only.
    """
    sizes = tf.stack([tf.size(x) for x in columns.values()])
    num_rows = tf.reduce_max(sizes)
    is_wrong = (sizes > 1) & (sizes < num_rows)
    inputs = tf.constant([names[column] for column in columns])
    is_aligned = tf.debugging.Assert(
        tf.logical_not(tf.reduce_any(is_wrong)),
        [
            "The columns of a request need equally many rows, one value for all rows, or none. Rows of the longest:",
            num_rows,
            "others:",
            tf.boolean_mask(inputs, is_wrong),
            tf.boolean_mask(sizes, is_wrong),
        ],
        summarize=8,
    )
    with tf.control_dependencies([is_aligned]):
        rows = tf.range(num_rows)

    def align(x: tf.Tensor) -> tf.Tensor:
        padded = tf.concat([x, missing_value(x.dtype)], axis=0)
        return tf.gather(padded, tf.minimum(rows, tf.maximum(tf.size(x) - 1, 0)))

    return {column: align(columns[column]) for column in kept}


def to_raw(x: tf.Tensor, spec: tf.io.VarLenFeature | tf.io.FixedLenFeature) -> tf.Tensor | tf.SparseTensor:
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
