"""A server's description of a signature, and rows as the columns that it takes. Needs no TensorFlow."""

import base64
import contextlib
import dataclasses
import difflib
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.client_errors import ColumnError, SignatureNotFoundError
from serving.names import name_input

_DTYPES = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT64": np.int64,
    "DT_INT32": np.int32,
    "DT_INT16": np.int16,
    "DT_INT8": np.int8,
    "DT_UINT8": np.uint8,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
}


@dataclasses.dataclass(frozen=True)
class Input:
    """An input: its dtype's name, such as DT_FLOAT, its rank (None: unknown), and its default, None if it has none."""

    dtype: str
    rank: int | None
    default: Any = None


@dataclasses.dataclass(frozen=True)
class RemoteSignature:
    """A signature of a model on a server; `outputs` is {name: dtype}."""

    name: str
    inputs: dict[str, Input]
    outputs: dict[str, np.dtype]


def read_signatures(metadata: Mapping[str, Any]) -> dict[str, RemoteSignature]:
    """{name: signature} of the JSON that the REST API's /metadata gives."""
    definitions = metadata["metadata"]["signature_def"]["signature_def"]
    return {
        name: RemoteSignature(
            name=name,
            inputs={key: _read_input(key, info, definition) for key, info in sorted(definition["inputs"].items())},
            outputs={
                key: np.dtype(_DTYPES.get(info["dtype"], np.object_))
                for key, info in sorted(definition["outputs"].items())
            },
        )
        for name, definition in sorted(definitions.items())
        if not name.startswith("__")  # the loader's own, such as __saved_model_init_op
    }


def make_columns(signature: RemoteSignature, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as arrays [B] (or [B, 1]) of every input: absent, null and NaN values become its default, else "" or NaN.

    Args:
        signature: of raw columns.
        rows: {column: JSON value} each; numbers given for string inputs become text.

    Raises:
        SignatureNotFoundError: if the signature takes serialized tf.Examples or inputs of more axes.
        ColumnError: if a column is unknown (the message names the nearest) or a value does not suit it.
    """
    _check_takes_columns(signature)
    for index, row in enumerate(rows):
        for column in row:
            if name_input(column) not in signature.inputs:
                near = difflib.get_close_matches(column, signature.inputs, cutoff=0.5) or sorted(signature.inputs)
                raise ColumnError(f"Row {index}: unknown column {column!r}; the nearest known: {', '.join(near)}.")
    named = [{name_input(column): value for column, value in row.items()} for row in rows]
    columns = {}
    for name, spec in signature.inputs.items():
        values = [_cast(row.get(name), spec, f"Row {index}, column {name!r}") for index, row in enumerate(named)]
        with np.errstate(over="ignore"):  # a number too large for float32 is infinite there
            array: np.ndarray = np.array(values, _DTYPES[spec.dtype])
        columns[name] = array[:, np.newaxis] if spec.rank == 2 else array
    return columns


def _read_input(name: str, info: Mapping[str, Any], definition: Mapping[str, Any]) -> Input:
    shape = info.get("tensor_shape", {})
    rank = None if shape.get("unknown_rank") else len(shape.get("dim", []))
    return Input(info["dtype"], rank, _read_default(definition.get("defaults", {}).get(name)))


def _read_default(proto: Mapping[str, Any] | None) -> Any:
    """The value of a TensorProto in JSON; None if it is none, or of more than one value."""
    if not proto or proto["dtype"] not in _DTYPES:
        return None
    values: list = next((proto[key] for key in proto if key.endswith("_val") and proto[key]), [])
    if proto.get("tensor_content"):
        values = np.frombuffer(base64.b64decode(proto["tensor_content"]), _DTYPES[proto["dtype"]]).tolist()
    if len(values) != 1:
        return None
    if proto["dtype"] == "DT_STRING":
        return base64.b64decode(values[0])
    return _DTYPES[proto["dtype"]](values[0]).item()  # JSON of protos has int64, NaN and infinity as text


def _check_takes_columns(signature: RemoteSignature) -> None:
    if [(name, x.dtype) for name, x in signature.inputs.items() if name in ("examples", "inputs")] == [
        (name, "DT_STRING") for name in signature.inputs
    ]:
        raise SignatureNotFoundError(
            f"Signature {signature.name!r} takes serialized tf.Examples, not columns; use 'predict'."
        )
    for name, x in signature.inputs.items():
        if x.dtype not in _DTYPES or x.rank not in (None, 1, 2):
            raise SignatureNotFoundError(
                f"Signature {signature.name!r} takes {name!r} as {x.dtype} of {x.rank} axes: not one value a row."
            )


def _cast(value: Any, spec: Input, where: str) -> bytes | float | int:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value is None or value == "" or (is_number and value != value):
        return _missing(spec, where)
    if spec.dtype == "DT_STRING":
        with contextlib.suppress(UnicodeEncodeError):
            if is_number or isinstance(value, str):
                return str(value).encode()
        expected = "text of whole characters, a number or null"
    elif spec.dtype in ("DT_FLOAT", "DT_DOUBLE"):
        with contextlib.suppress(ValueError, OverflowError):
            if is_number or isinstance(value, str):
                return float(value)
        expected = "a number or null"
    elif spec.dtype == "DT_BOOL":
        if isinstance(value, bool):
            return value
        expected = "true or false"
    else:
        limits = np.iinfo(_DTYPES[spec.dtype])
        if is_number and limits.min <= value <= limits.max and int(value) == value:
            return int(value)
        expected = f"an integer from {limits.min} to {limits.max}"
    raise ColumnError(f"{where}: expected {expected}; received {_shorten(value)}.")


def _missing(spec: Input, where: str) -> bytes | float | int:
    if spec.default is not None:
        return spec.default
    if spec.dtype == "DT_STRING":
        return b""
    if spec.dtype in ("DT_FLOAT", "DT_DOUBLE"):
        return float("nan")
    raise ColumnError(f"{where}: it has no value, and an input of {spec.dtype} without a default needs one.")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
