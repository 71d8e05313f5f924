"""What the outputs of a signature must look like, and where two of them differ."""

from collections.abc import Mapping

import numpy as np

from serving.session import Signature

Outputs = Mapping[str, np.ndarray]


def find_faults(signature: Signature, outputs: Outputs, num_rows: int) -> list[str]:
    """What is wrong with the outputs of a batch of so many rows; empty if nothing is."""
    if not {"outputs", "scores"} & set(outputs):
        faults = [
            f"output {name!r} has shape {list(x.shape)}; expected {num_rows} rows."
            for name, x in outputs.items()
            if x.shape[:1] != (num_rows,)
        ]
        return faults or [
            f"output {name!r} is not finite."
            for name, x in outputs.items()
            if x.dtype.kind == "f" and not np.all(np.isfinite(x))
        ]
    name, width = ("scores", 2) if "scores" in outputs else ("outputs", 1)
    x = outputs[name]
    if x.shape != (num_rows, width):
        return [f"{name} have shape {list(x.shape)}; expected [{num_rows}, {width}]."]
    if not np.all(np.isfinite(x)):
        return [f"{name} are not finite: {x.tolist()}."]
    if np.any((x < 0) | (x > 1)):
        return [f"{name} are no probabilities: {x.tolist()}. Apply a sigmoid."]
    if "classes" in outputs and (outputs["classes"].shape != x.shape or outputs["classes"].dtype.kind not in "OS"):
        classes = outputs["classes"]
        return [
            f"classes are {classes.dtype.name} {list(classes.shape)}; expected a string for each score, {[*x.shape]}."
        ]
    return []


def read_probabilities(outputs: Outputs) -> np.ndarray | None:
    """The probabilities [B, 1] in a signature's outputs, None if it gives none."""
    return outputs["scores"][:, 1:] if "scores" in outputs else outputs.get("outputs")


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
