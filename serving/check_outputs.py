"""What the outputs of a signature must look like, and where two of them differ."""

from collections.abc import Mapping

import numpy as np

Outputs = Mapping[str, np.ndarray]


def find_faults(outputs: Outputs, num_rows: int) -> list[str]:
    """What is wrong with the outputs of a batch of so many rows; empty if nothing is.

    Floats called "outputs" and "scores" must be probabilities, of [B, 1] and [B, 2].
    """
    return [fault for name, x in outputs.items() for fault in _find_faults(name, x, outputs, num_rows)]


def read_probabilities(outputs: Outputs) -> np.ndarray | None:
    """The probabilities [B, 1] in a signature's outputs, None if it gives none."""
    if _is_probability("scores", outputs):
        return outputs["scores"][:, 1:]
    return outputs["outputs"] if _is_probability("outputs", outputs) else None


def _find_faults(name: str, x: np.ndarray, outputs: Outputs, num_rows: int) -> list[str]:
    if _is_probability(name, outputs):
        width = 2 if name == "scores" else 1
        if x.shape != (num_rows, width):
            return [f"{name} have shape {list(x.shape)}; expected [{num_rows}, {width}]."]
        if not np.all(np.isfinite(x)):
            return [f"{name} are not finite: {x.tolist()}."]
        if np.any((x < 0) | (x > 1)):
            return [f"{name} are no probabilities: {x.tolist()}. Apply a sigmoid."]
    elif name == "classes" and _is_probability("scores", outputs):
        if x.shape != outputs["scores"].shape or x.dtype.kind not in "OS":
            return [f"classes are {x.dtype.name} {list(x.shape)}; expected a string for each of the scores."]
    elif x.shape[:1] != (num_rows,):
        return [f"output {name!r} has shape {list(x.shape)}; expected {num_rows} rows."]
    elif x.dtype.kind == "f" and not np.all(np.isfinite(x)):
        return [f"output {name!r} is not finite."]
    return []


def _is_probability(name: str, outputs: Outputs) -> bool:
    # transform_features may give ids, integers, of features that are called so.
    return name in ("outputs", "scores") and name in outputs and outputs[name].dtype.kind == "f"


def measure_difference(outputs: Outputs, expected: Outputs) -> float:
    """The largest absolute difference of any expected value; infinite where shapes or texts differ."""
    differences = [0.0]
    for name, value in expected.items():
        found = np.asarray(outputs.get(name, np.empty(0)))
        if found.shape != value.shape:
            return float("inf")
        if value.dtype.kind in "OSU":
            differences.append(0.0 if np.array_equal(found.astype(object), value.astype(object)) else float("inf"))
        elif value.size:
            difference = float(np.max(np.abs(found.astype(np.float64) - value)))
            differences.append(difference if difference == difference else float("inf"))
    return max(differences)
