"""Names of a signature's inputs: TensorFlow's graphs allow fewer names than data has columns."""

import re
from collections.abc import Iterable


def name_input(column: str) -> str:
    """The signature input of a column: its name, with "_" for what graphs do not allow ("a b" becomes "a_b")."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", column)
    return f"column{name}" if name[:1] in ("", "_", "-") else name


def name_inputs(columns: Iterable[str]) -> dict[str, str]:
    """{column: signature input} of all raw columns.

    Raises:
        ValueError: if TensorFlow cannot tell two of them apart (it ignores case and the kind of punctuation).
    """
    names: dict[str, str] = {}
    seen: dict[str, str] = {}
    for column in columns:
        names[column] = name_input(column)
        other = seen.setdefault(re.sub(r"[^a-z0-9]", "_", names[column].lower()), column)
        if other != column:
            raise ValueError(f"Columns {other!r} and {column!r} are one name to a TensorFlow signature. Rename one.")
    return names
