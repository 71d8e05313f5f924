"""Runs a SavedModel's signatures the way TF Serving does: to check them, or on rows to predict."""

import contextlib
import difflib
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.check_cases import make_cases
from serving.check_run import SignatureCheck, SignatureRun
from serving.check_tools import TOOLS, Job, start_tools
from serving.names import name_input
from serving.reference import load_reference
from serving.samples import Batch, is_examples
from serving.session import SavedModelError, SessionModel, Signature, SignatureError, describe_error, find_saved_model


def check_saved_model(path: str | os.PathLike[str], tools: Sequence[str] = TOOLS) -> list[SignatureCheck]:
    """Runs every signature in a Session, by `tf.saved_model.load`, by `saved_model_cli run` and by tfx_bsl's RunInference.

    Fed are batches of 1 and 3 rows (all missing, some values, unknown text), batches without some columns where they may
    be absent, and the reference rows that `export_saved_model` stored. Outputs must be finite probabilities, the
    reference's where there is one (1e-5), and the same (1e-6) for all signatures and programs.

    Args:
        path: a SavedModel, or a directory of numbered versions: the newest is checked.
        tools: which of TOOLS to run, each in a process of its own; those that are not installed are left out.

    Raises:
        SavedModelNotFoundError: if there is none.
        SavedModelError: if it does not load or has no signature. One that fails to run has that among its `problems`.
    """
    directory = find_saved_model(path)
    reference = load_reference(os.path.join(directory, "assets.extra"))
    with SessionModel(directory) as model:
        if not model.signatures:
            raise SavedModelError(f"{directory} has no signature to run. Export it with serving.export.")
        runs = {name: SignatureRun(x, make_cases(model, x, reference)) for name, x in model.signatures.items()}
        jobs = [
            Job(name, case.label, case.inputs, is_examples(run.signature))
            for name, run in runs.items()
            for case in run.cases
            if case.is_for_tools
        ]
        with start_tools(directory, jobs, tools) as running:
            for run in runs.values():
                run.run_in_session(model)
            for name, run in runs.items():
                if name != "serving_default" and "serving_default" in runs:
                    run.compare_signatures(runs["serving_default"])
            _run_eagerly(directory, runs)
            for tool, answers in running.items():
                for answer in answers.result():
                    runs[answer.job.signature].compare(tool, answer.job.label, answer.outputs, answer.error)
    return [run.summarise() for run in runs.values()]


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
        outputs = model.run(signature, inputs)
        if "outputs" not in outputs:
            raise SignatureError(f"Signature {signature!r} has no output 'outputs'; it has {sorted(outputs)}.")
        return [float(x) for x in outputs["outputs"][:, 0]]


def _run_eagerly(directory: str, runs: Mapping[str, SignatureRun]) -> None:
    with tf.device("CPU:0"):
        try:
            loaded = tf.saved_model.load(directory)
            for name, run in runs.items():
                for case in run.cases:
                    # A restored function wants all its inputs.
                    if case.label in run.outputs and set(case.inputs) == set(run.signature.inputs):
                        inputs = {key: tf.constant(value) for key, value in case.inputs.items()}
                        outputs = {key: x.numpy() for key, x in loaded.signatures[name](**inputs).items()}
                        run.compare("tf.saved_model.load", case.label, outputs)
        except (tf.errors.OpError, RuntimeError, OSError, ValueError, TypeError) as error:
            for run in runs.values():
                run.problems.append(f"tf.saved_model.load cannot run it: {describe_error(error)}")


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
