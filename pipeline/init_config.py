"""Looks at a CSV file and proposes a configuration that runs: `python -m pipeline init`."""

import os
import re
from collections import Counter
from collections.abc import Iterable

from pipeline.column_profile import ColumnProfile
from pipeline.config import is_column_name
from pipeline.config_values import did_you_mean, to_yaml_text
from pipeline.datasets import csv_file
from pipeline.errors import UserError

MAX_ROWS = 200_000
MAX_SHOWN = 5
YES_AND_NO = (("1", "0"), ("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"))


def propose_config(csv_path: str, label: str, max_rows: int = MAX_ROWS) -> str:
    """The YAML text of a configuration for the CSV file.

    Args:
        csv_path: file with a header, plain or .gz.
        label: the column to predict; it has two values.
        max_rows: rows that are looked at; more only while all have the same label.

    Raises:
        UserError: if the file cannot be read, the label has not two values, or no column can be used.
    """
    (path,) = csv_file.find_files(csv_path)
    table = csv_file.open_table([path])
    if label not in table.columns:
        hint = did_you_mean(label, table.columns)
        known = f"Columns in the file: {', '.join(table.columns)}"
        raise UserError(f"{path}: label column {label!r} is missing.{hint} {known}. Give one of them: --label COLUMN.")
    if not is_column_name(label):
        raise UserError(
            f"{path}: the label's name {label!r} holds a comma, a quote or a line break. Rename the column."
        )
    label_index = table.columns.index(label)
    profiles = {i: ColumnProfile(name) for i, name in enumerate(table.columns) if i != label_index}
    labels: Counter[str] = Counter()
    num_rows = 0
    for _, line, cells in table.rows:
        if num_rows >= max_rows and len(labels) > 1:
            break
        value = cells[label_index].strip()
        if not value:
            raise UserError(
                f"{path}, line {line}, column {label!r}: the label is missing. Remove the row or fill it in."
            )
        labels[value] += 1
        num_rows += 1
        if num_rows <= max_rows:
            for index, profile in profiles.items():
                profile.add(cells[index].strip())
    positive, note = _choose_positive(labels, f"{path}, column {label!r}")
    min_frequency = _choose_min_frequency(num_rows)
    kinds = {profile.name: profile.choose_kind(min_frequency) for profile in profiles.values()}
    if all(kind == "left out" for kind, _ in kinds.values()):
        reasons = "; ".join(f"{name}: {reason}" for name, (_, reason) in kinds.items())
        raise UserError(f"{path}: no column can be a feature ({reasons or 'there is only the label'}). Add columns.")
    return "\n".join(
        [
            f"# Proposed by `python -m pipeline init` from {num_rows:,} rows of the file. Edit it as you like.",
            "#   categorical: categories as they stand; integer: counts, in floor(log^2) buckets; numeric: quantiles",
            f"name: {_choose_name(path)}",
            "data:",
            "  reader: csv",
            f"  path: {to_yaml_text(path)}",
            f"  label: {to_yaml_text(label)}",
            f"  positive_value: {positive} # {note}",
            "features:",
            *_list_columns(kinds, ("categorical", "integer", "numeric")),
            f"  min_frequency: {min_frequency} # categories seen in fewer rows share the out-of-vocabulary id",
            *(f"# left out: {to_yaml_text(name)}: {why}" for name, (kind, why) in kinds.items() if kind == "left out"),
            "search:",
            "  method: dimgrow",
            "  parameter_budget: null # or a share of uniform 16 (0.2), a number of parameters (2000000), a size (64MB)",
            "training: {}",
            "",
        ]
    )


def write_config(csv_path: str, label: str, output: str, force: bool = False) -> None:
    """Writes the proposed configuration to the file `output`.

    Args:
        csv_path, label: see `propose_config`.
        output: YAML file to write.
        force: overwrite an existing file.

    Raises:
        UserError: as `propose_config`; or if `output` exists (without force) or cannot be written.
    """
    if os.path.exists(output) and not force:
        raise UserError(f"{output}: exists already. Choose another --output, or overwrite it with --force.")
    text = propose_config(csv_path, label)
    partial = f"{output}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, output)
    except OSError as error:
        if os.path.exists(partial):
            os.remove(partial)
        raise UserError(f"{output}: cannot be written ({error.strerror}). Choose another --output.") from error


def _choose_positive(labels: Counter[str], place: str) -> tuple[str, str]:
    """The YAML value of data.positive_value, and why."""
    shown = ", ".join(repr(value) for value, _ in labels.most_common(MAX_SHOWN))
    if len(labels) < 2:
        found = f"all rows have {shown}" if labels else "there are no rows"
        raise UserError(f"{place}: a label with two values is needed; {found}. Choose another --label or add rows.")
    if len(labels) > 2:
        more = ", ..." if len(labels) > MAX_SHOWN else ""
        raise UserError(
            f"{place}: a label with two values is needed; received {len(labels)} values: {shown}{more}. Choose another "
            "--label, or add a column with 0 and 1 to the file."
        )
    values = {value.lower(): value for value in labels}
    if set(labels) in ({"0", "1"}, {"0.0", "1.0"}):
        return "null", "the label is 0 or 1 already"
    for yes, no in YES_AND_NO:
        if set(values) == {yes, no}:
            return to_yaml_text(values[yes]), f"counts as 1; {values[no]} as 0"
    low, high = sorted(labels, key=lambda value: (-labels[value], value))
    reason = f"the rarer value ({labels[high]:,} of {labels.total():,} rows)"
    if all(re.fullmatch(r"[-+]?\d+(\.\d+)?", value) for value in labels):
        low, high = sorted(labels, key=float)
        reason = "the larger value"
    return to_yaml_text(high), f"counts as 1: {reason}; {to_yaml_text(low)} as 0"


def _choose_min_frequency(num_rows: int) -> int:
    """Values seen in fewer rows teach little and make the tables long; in a small file every row counts."""
    return 1 if num_rows < 1_000 else 2 if num_rows < 100_000 else 5


def _choose_name(path: str) -> str:
    stem = re.sub(r"(\.(csv|tsv|txt|gz))+$", "", os.path.basename(path).lower())
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")
    return (name if name[:1].isalpha() else f"data-{name}")[:40].strip("-")


def _list_columns(kinds: dict[str, tuple[str, str]], shown: Iterable[str]) -> list[str]:
    lines = []
    for kind in shown:
        columns = [(name, note) for name, (column_kind, note) in kinds.items() if column_kind == kind]
        if columns:
            lines.append(f"  {kind}:")
            lines += [f"    - {to_yaml_text(name)} # {note}" for name, note in columns]
    return lines
