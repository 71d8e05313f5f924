"""Runs a SavedModel's signatures the way TF Serving does: on made-up input to check them, or on rows to predict."""

import contextlib
import dataclasses
import difflib
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.names import name_input
from serving.samples import Batch, is_examples, make_batches
from serving.session import SavedModelError, SessionModel, Signature, SignatureError, describe_error, find_saved_model

_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class SignatureCheck:
    """What running one signature showed.

    `inputs` is {name: dtype and shape}; `batches` says what was fed; `minimum` and `maximum` are over all probabilities
    seen (NaN if none was); `problems` is empty if all is well.
    """

    signature: str
    inputs: dict[str, str]
    batches: tuple[str, ...]
    minimum: float
    maximum: float
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems


def check_saved_model(path: str | os.PathLike[str]) -> list[SignatureCheck]:
    """Runs every signature in a Session, on batches of 1 and 3 rows: all missing, some values, unknown text.

    Checks that outputs are finite probabilities [B, 1]; that `predict` and `examples` agree with `serving_default`; and
    that `tf.saved_model.load` gives the same numbers (1e-6).

    Args:
        path: a SavedModel, or a directory of numbered versions: the newest is checked.

    Raises:
        SavedModelNotFoundError: if there is none.
        SavedModelError: if it does not load or has no signature. One that fails to run has that among its `problems`.
    """
    directory = find_saved_model(path)
    with SessionModel(directory) as model:
        if not model.signatures:
            raise SavedModelError(f"{directory} has no signature to run. Export it with serving.export.")
        batches = {name: make_batches(model, signature) for name, signature in model.signatures.items()}
        problems: dict[str, list[str]] = {name: [] for name in batches}
        outputs = {name: _run_batches(model, name, batches[name], problems[name]) for name in batches}
        signatures = model.signatures
    _compare_signatures(outputs, problems)
    _compare_with_eager(directory, batches, outputs, problems)
    return [
        SignatureCheck(
            signature=name,
            inputs={key: f"{spec.dtype.name} {_format_shape(spec.shape)}" for key, spec in signature.inputs.items()},
            batches=tuple(batches[name]),
            minimum=min((float(np.min(x)) for x in outputs[name].values()), default=float("nan")),
            maximum=max((float(np.max(x)) for x in outputs[name].values()), default=float("nan")),
            problems=tuple(problems[name]),
        )
        for name, signature in signatures.items()
    ]


def predict_rows(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], signature: str = "predict"
) -> list[float]:
    """Probabilities of rows, run in a Session.

    Args:
        path: a SavedModel, or a directory of numbered versions: the newest is asked.
        rows: {column: JSON value} each; numbers given for string columns become text; null, NaN and absent columns
            are missing.
        signature: one that takes raw columns.

    Raises:
        SavedModelNotFoundError: if there is none.
        SignatureError: if there is no such signature, or it takes serialized tf.Examples, or it fails.
        ValueError: if a column is unknown (the message names the nearest) or a value does not suit it.
    """
    with SessionModel(find_saved_model(path)) as model:
        found = model.find_signature(signature)
        if is_examples(found):
            raise SignatureError(f"Signature {signature!r} takes serialized tf.Examples, not columns; use 'predict'.")
        inputs = _make_inputs(found, rows)
        if not rows:
            return []
        return [float(x) for x in model.run(signature, inputs)[:, 0]]


def _run_batches(
    model: SessionModel, name: str, batches: dict[str, Batch], problems: list[str]
) -> dict[str, np.ndarray]:
    outputs = {}
    for label, batch in batches.items():
        try:
            output = model.run(name, batch)
        except SignatureError as error:
            problems.append(f"{label}: {error}")
            break  # the others would fail alike
        num_rows = len(next(iter(batch.values())))
        if output.shape != (num_rows, 1):
            problems.append(f"{label}: outputs have shape {list(output.shape)}; expected [{num_rows}, 1].")
        elif not np.all(np.isfinite(output)):
            problems.append(f"{label}: outputs are not finite: {output[:, 0].tolist()}.")
        elif np.any((output < 0) | (output > 1)):
            problems.append(f"{label}: outputs are no probabilities: {output[:, 0].tolist()}. Apply a sigmoid.")
        else:
            outputs[label] = output
    return outputs


def _compare_signatures(outputs: dict[str, dict[str, np.ndarray]], problems: dict[str, list[str]]) -> None:
    reference = outputs.get("serving_default", {})
    for name in sorted({"predict", "examples"} & set(outputs)):
        for label in sorted(set(outputs[name]) & set(reference)):
            _compare(outputs[name][label], reference[label], f"{label}: differs from serving_default", problems[name])


def _compare_with_eager(
    directory: str,
    batches: dict[str, dict[str, Batch]],
    outputs: dict[str, dict[str, np.ndarray]],
    problems: dict[str, list[str]],
) -> None:
    with tf.device("CPU:0"):
        try:
            loaded = tf.saved_model.load(directory)
            for name, by_label in outputs.items():
                for label, output in by_label.items():
                    inputs = {key: tf.constant(value) for key, value in batches[name][label].items()}
                    eager = loaded.signatures[name](**inputs)["outputs"].numpy()
                    _compare(eager, output, f"{label}: tf.saved_model.load differs from the Session", problems[name])
        except (tf.errors.OpError, RuntimeError, OSError, ValueError, TypeError) as error:
            for found in problems.values():
                found.append(f"tf.saved_model.load cannot run it: {describe_error(error)}")


def _compare(a: np.ndarray, b: np.ndarray, what: str, problems: list[str]) -> None:
    difference = float(np.max(np.abs(a - b)))
    if not difference <= _TOLERANCE:
        problems.append(f"{what} by {difference:.3g}; at most {_TOLERANCE:g} is allowed.")


def _format_shape(shape: tf.TensorShape) -> str:
    return "[?]" if shape.rank is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"


def _make_inputs(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> Batch:
    for index, row in enumerate(rows):
        for column in row:
            if name_input(column) not in signature.inputs:
                near = difflib.get_close_matches(column, signature.inputs, cutoff=0.5) or sorted(signature.inputs)
                raise ValueError(f"Row {index}: unknown column {column!r}; the nearest known: {', '.join(near)}.")
    rows = [{name_input(column): value for column, value in row.items()} for row in rows]
    return {
        name: np.array(
            [_cast(row.get(name), spec.dtype, f"Row {index}, column {name!r}") for index, row in enumerate(rows)],
            object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype,
        )
        for name, spec in signature.inputs.items()
    }


def _cast(value: Any, dtype: tf.DType, where: str) -> bytes | float | int:
    """One JSON value as a signature's dtype."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    is_missing = value is None or value == "" or (is_number and value != value)
    if dtype == tf.string:
        if is_missing or is_number or isinstance(value, str):
            return b"" if is_missing else str(value).encode()
        expected = "text, a number or null"
    elif dtype.is_floating:
        with contextlib.suppress(ValueError):
            if is_missing or is_number or isinstance(value, str):
                return float("nan") if is_missing else float(value)
        expected = "a number or null"
    else:
        if is_number and int(value) == value:
            return int(value)
        expected = "an integer"
    raise ValueError(f"{where}: expected {expected}; received {value!r}.")
