"""What a check feeds to a signature, and what must come out."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from serving.reference import Reference
from serving.samples import Batch, is_examples, make_batches, make_optional_batches
from serving.session import SessionModel, Signature


@dataclasses.dataclass(frozen=True)
class Case:
    """One batch for one signature.

    Args:
        label: what is in it; of two signatures, batches of one label are the same rows.
        inputs: {input: [B, ...]}.
        num_rows: B.
        expected: {output: [B, ...]} of the Keras model, empty if unknown.
        equivalent: inputs that must give the same outputs, None for none.
        is_for_tools: whether the slower programs run it, too.
    """

    label: str
    inputs: Batch
    num_rows: int
    expected: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    equivalent: Batch | None = None
    is_for_tools: bool = False


def make_cases(model: SessionModel, signature: Signature, reference: Reference | None) -> list[Case]:
    """Made-up batches, batches without some inputs, and the reference's rows."""
    batches = make_batches(model, signature)
    cases = [Case(label, inputs, _count_rows(inputs)) for label, inputs in batches.items()]
    for label, (inputs, equivalent) in make_optional_batches(signature).items():
        # The empty batch of no column cannot be told on a command line.
        cases.append(Case(label, inputs, _count_rows(equivalent), {}, equivalent, is_for_tools=bool(inputs)))
    if reference is None:
        position = max(range(len(batches)), key=lambda index: (cases[index].num_rows, index))
        cases[position] = dataclasses.replace(cases[position], is_for_tools=True)
        return cases
    if is_examples(signature):
        rows: Batch = dict.fromkeys(signature.inputs, reference.examples)
    else:
        rows = reference.to_columns(signature.inputs)
    label, expected = (
        f"{len(reference.examples)} reference rows",
        reference.expect(signature.name, signature.output_tensors),
    )
    return [*cases, Case(label, rows, len(reference.examples), expected, is_for_tools=True)]


def _count_rows(inputs: Batch) -> int:
    return max(len(x) for x in inputs.values()) if inputs else 0
