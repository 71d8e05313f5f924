"""One signature under check: its cases, what each program made of them, and what was found wrong."""

import dataclasses

import numpy as np
import tensorflow as tf

from serving.check_cases import Case
from serving.check_outputs import Outputs, find_faults, measure_difference, read_probabilities
from serving.session import SessionModel, Signature, SignatureError, describe_error

SESSION = "Session"
TOLERANCE, REFERENCE_TOLERANCE = 1e-6, 1e-5


@dataclasses.dataclass(frozen=True)
class SignatureCheck:
    """What running one signature showed.

    `inputs` is {name: dtype and shape}; `batches` says what was fed; `minimum` and `maximum` are over all probabilities
    seen (NaN if none was); `differences` is {program: largest absolute difference from the reference outputs} of those
    that ran it, None where there is no reference; `problems` is empty if all is well.
    """

    signature: str
    inputs: dict[str, str]
    batches: tuple[str, ...]
    minimum: float
    maximum: float
    differences: dict[str, float | None]
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems


class SignatureRun:
    """Collects what programs made of a signature's cases.

    Attributes:
        outputs: {label of a case: the Session's outputs}, of those in which nothing was found wrong.
        problems: what was found wrong, one sentence each.
    """

    def __init__(self, signature: Signature, cases: list[Case]):
        self.signature = signature
        self.cases = cases
        self.outputs: dict[str, Outputs] = {}
        self.problems: list[str] = []
        self._differences: dict[str, float | None] = {}

    def run_in_session(self, model: SessionModel) -> None:
        """Runs all cases the way TF Serving does, absent inputs fed from their defaults."""
        for case in self.cases:
            try:
                outputs = model.run(self.signature.name, case.inputs)
                faults = find_faults(outputs, case.num_rows)
                if not faults and case.equivalent is not None:
                    self._compare_equivalent(case, outputs, model.run(self.signature.name, case.equivalent))
            except SignatureError as error:
                self.problems.append(f"{case.label}: {error}")
                break  # the others would fail alike
            self.problems += [f"{case.label}: {fault}" for fault in faults]
            if not faults:
                self.outputs[case.label] = outputs
                self.compare(SESSION, case.label, outputs)

    def compare(self, program: str, label: str, outputs: Outputs, error: str = "") -> None:
        """Compares a program's outputs of a case with the reference, else with the Session's; or notes its error."""
        if error:
            self.problems.append(f"{label}: {program} fails: {describe_error(error)}")
            return
        (case,) = (case for case in self.cases if case.label == label)
        self._differences.setdefault(program, None)
        if case.expected:
            difference = measure_difference(outputs, case.expected)
            self._differences[program] = max(difference, self._differences[program] or 0.0)
            self._require(difference, REFERENCE_TOLERANCE, f"{label}: {program} differs from the Keras model")
        if program != SESSION and label in self.outputs:
            difference = measure_difference(outputs, self.outputs[label])
            self._require(difference, TOLERANCE, f"{label}: {program} differs from the Session")

    def compare_signatures(self, other: "SignatureRun") -> None:
        """Compares probabilities of the same rows with those of another signature."""
        for label in sorted(set(self.outputs) & set(other.outputs)):
            mine, theirs = read_probabilities(self.outputs[label]), read_probabilities(other.outputs[label])
            if mine is not None and theirs is not None:
                difference = measure_difference({"outputs": mine}, {"outputs": theirs})
                self._require(difference, TOLERANCE, f"{label}: differs from {other.signature.name}")

    def summarise(self) -> SignatureCheck:
        """What was found."""
        found = [x for outputs in self.outputs.values() if (x := read_probabilities(outputs)) is not None]
        specs = self.signature.inputs
        return SignatureCheck(
            signature=self.signature.name,
            inputs={key: f"{spec.dtype.name} {_format_shape(spec.shape)}" for key, spec in specs.items()},
            batches=tuple(case.label for case in self.cases),
            minimum=min((float(np.min(x)) for x in found), default=float("nan")),
            maximum=max((float(np.max(x)) for x in found), default=float("nan")),
            differences=dict(self._differences),
            problems=tuple(self.problems),
        )

    def _compare_equivalent(self, case: Case, outputs: Outputs, explicit: Outputs) -> None:
        difference = measure_difference(outputs, explicit)
        self._require(
            difference, TOLERANCE, f"{case.label}: differs from the same rows with missing values in all columns"
        )

    def _require(self, difference: float, tolerance: float, what: str) -> None:
        if not difference <= tolerance:
            self.problems.append(f"{what} by {difference:.3g}; at most {tolerance:g} is allowed.")


def _format_shape(shape: tf.TensorShape) -> str:
    return "[?]" if shape.rank is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"
