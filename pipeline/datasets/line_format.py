"""What a large file of one row a line looks like."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Derived:
    """A column that is cut out of another: characters [begin, end) of `source`, whose values match `pattern` wholly.

    Args:
        source: the column that it is cut out of.
        pattern: regular expression of the source's values, where they are not missing.
        form: the same in words, for messages.
        begin, end: the characters.
    """

    source: str
    pattern: str
    form: str
    begin: int
    end: int

    def cut(self, text: str) -> str | None:
        """The derived value; None if `text` has not the form."""
        return text[self.begin : self.end] if re.fullmatch(self.pattern, text) else None


@dataclasses.dataclass(frozen=True)
class LineFormat:
    """A text file whose every line is a row.

    Args:
        delimiter: what separates the cells.
        is_quoted: whether a cell may be in double quotes.
        columns: names of the cells; None: the first line of each file has them.
        required: columns that a header must have.
        hidden: columns that are no features.
        derived: columns that are cut out of others.
        origin: what a header without the required columns is told.
    """

    delimiter: str
    is_quoted: bool
    columns: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    derived: dict[str, Derived] = dataclasses.field(default_factory=dict)
    origin: str = ""
