"""Raw cells become checked values: one object a column, which remembers what it has seen."""

import dataclasses
import json
import math
from typing import Literal

from pipeline.config import PipelineConfig
from pipeline.config_values import did_you_mean
from pipeline.errors import UserError

Value = str | int | float | None
Kind = Literal["categorical", "integer", "numeric", "label"]

MAX_SHOWN = 5
MAX_KEPT = 1000  # distinct labels; more come only from a label column that is none
NUM_ROWS_AFTER_BAD_LABEL = 100_000
MAX_FLOAT32 = 3.4028234e38


@dataclasses.dataclass(eq=False)
class FeatureColumn:
    """A feature's values: text for categorical, int for integer, float for numeric, None for missing."""

    name: str
    kind: Kind
    num_missing: int = 0
    first: Value = None
    is_constant: bool = True

    def read(self, cell: str, path: str, line: int) -> Value:
        """The value of one cell; UserError if it is not of the column's kind."""
        text = cell.strip()
        value: Value = text
        if text and self.kind != "categorical":
            value = self._read_number(text, path, line)
        if value is None or value == "":
            self.num_missing += 1
            return None
        if self.first is None:
            self.first = value
        elif self.is_constant and value != self.first:
            self.is_constant = False
        return value

    def add(self, num_missing: int, first: Value, is_constant: bool) -> None:
        """Takes in what was seen of rows that were read elsewhere, after those that were added before."""
        self.num_missing += num_missing
        if self.first is None:
            self.first, self.is_constant = first, is_constant
        elif first is not None:
            self.is_constant = self.is_constant and is_constant and first == self.first

    def check(self, path: str) -> None:
        """Raises UserError if the column, read to its end, says nothing."""
        place, cure = f"{path}, column {self.name!r}", f"Remove it from features.{self.kind}."
        if self.first is None:
            raise UserError(f"{place}: all values are missing. {cure}")
        if self.is_constant and not self.num_missing:
            raise UserError(f"{place}: {self.first!r} in all rows; a field needs at least two values. {cure}")

    def _read_number(self, text: str, path: str, line: int) -> int | float | None:
        place = f"{path}, line {line}, column {self.name!r}"
        cure = "Correct the value, empty the cell if it is missing, or move the column to features.categorical"
        try:
            if "_" in text:  # Python's own 1_000 is no number in a file
                raise ValueError
            if self.kind == "integer" and text.lstrip("+-").isdigit():
                number: int | float = int(text)
            else:
                number = float(text)
        except ValueError:
            expected = "whole number" if self.kind == "integer" else "number"
            raise UserError(f"{place}: {text!r} is not a {expected}. {cure}.") from None
        if math.isnan(number):  # how pandas and others write a missing number
            return None
        if abs(number) > MAX_FLOAT32 or (self.kind == "integer" and not -(2**63) <= number < 2**63):
            raise UserError(f"{place}: {text!r} is too large. {cure}.")
        if self.kind == "integer" and number != int(number):
            raise UserError(f"{place}: {text!r} is not a whole number. {cure} or features.numeric.")
        return int(number) if self.kind == "integer" else float(number)


class LabelColumn:
    """The label's values: 0 or 1."""

    kind: Kind = "label"

    def __init__(self, name: str, positive_value: str | None):
        self.name = name
        self.positive_value = positive_value
        self._values: dict[str, int | None] = {}  # raw value -> 0, 1, or None if it is neither
        self._num_rows_after_bad = 0

    def read(self, cell: str, path: str, line: int) -> Value:
        """0 or 1; None for a value that is neither, which `check` reports together with the others.

        Raises:
            UserError: for a missing value, or when enough values have been seen to report one that is neither 0 nor 1.
        """
        text = cell.strip()
        if text not in self._values:
            self._require_label(text, path, line)
            binary = self.to_binary(text)
            if binary == 0 and len(self._values) >= MAX_KEPT:
                return binary
            self._values[text] = binary
        value = self._values[text]
        if value is None or self._num_rows_after_bad:
            self._num_rows_after_bad += 1
            if len(self._values) > MAX_SHOWN or self._num_rows_after_bad > NUM_ROWS_AFTER_BAD_LABEL:
                self.check(path)
        return value

    def check(self, path: str) -> None:
        """Raises UserError if the labels read so far are not all 0 or 1, or all the same."""
        place, seen = f"{path}, column {self.name!r}", list(self._values)
        shown = ", ".join(repr(value) for value in seen[:MAX_SHOWN]) + (", ..." if len(seen) > MAX_SHOWN else "")
        if None in self._values.values():
            example = next(value for value, binary in self._values.items() if binary is None)
            quoted = json.dumps(example, ensure_ascii=False)  # in quotes, or YAML may take it for a number or a boolean
            raise UserError(
                f"{place}: the label is not binary (0 and 1); its values are {shown}. Name the value that counts as 1, "
                f"for example --set data.positive_value='{quoted}' (all others count as 0), or choose another label."
            )
        if self.positive_value is not None and 1 not in self._values.values():
            hint = did_you_mean(self.positive_value, seen)
            raise UserError(
                f"{place}: data.positive_value is {self.positive_value!r}, which no row has; the label's values are "
                f"{shown}.{hint} Set data.positive_value to one of them."
            )
        if len(set(self._values.values())) == 1:
            cure = "Choose another label or add rows of the other class."
            raise UserError(f"{place}: rows of both classes are needed, but all have the label {shown}. {cure}")

    def read_alone(self, cell: str, path: str, line: int) -> int:
        """0 or 1, and UserError at once for any other value: for rows that may be skipped; remembers nothing."""
        text = cell.strip()
        self._require_label(text, path, line)
        value = self.to_binary(text)
        if value is None:
            raise UserError(
                f"{path}, line {line}, column {self.name!r}: {text!r} is neither 0 nor 1. Correct the line."
            )
        return value

    def _require_label(self, text: str, path: str, line: int) -> None:
        if not text:
            place = f"{path}, line {line}, column {self.name!r}"
            raise UserError(f"{place}: the label is missing. Remove the row or fill in its label.")

    def to_binary(self, text: str) -> int | None:
        """0 or 1; None for a value that is neither."""
        if self.positive_value is not None:
            return int(text == self.positive_value.strip())
        return {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(text)


def make_columns(config: PipelineConfig) -> list[FeatureColumn | LabelColumn]:
    """The configured columns in the order they are written: features, then the label."""
    features = config.features
    kinds: list[tuple[Kind, tuple[str, ...]]] = [
        ("categorical", features.categorical),
        ("integer", features.integer),
        ("numeric", features.numeric),
    ]
    columns = [FeatureColumn(name, kind) for kind, names in kinds for name in names]
    return [*columns, LabelColumn(config.data.label, config.data.positive_value)]
