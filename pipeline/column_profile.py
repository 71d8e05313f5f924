"""What a column's values look like, and which kind of feature follows from it."""

import math
import re
from collections import Counter

from pipeline.config import is_column_name

MAX_DISTINCT = 50_000  # more distinct values are not kept; the column then counts as having very many
MAX_INTEGER_CATEGORIES = 32
MIN_BUCKETS = 8
MIN_REPEATS = 20
ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "code", "zip", "zipcode", "postcode", "area", "tract", "type", "class"}


class ColumnProfile:
    """Counts of one column's values, filled by `add`."""

    def __init__(self, name: str):
        self.name = name
        self._counts: Counter[str] = Counter()
        self._num_missing = 0
        self._num_uncounted = 0  # values beyond the first MAX_DISTINCT distinct ones
        self._is_integer = True
        self._is_number = True

    def add(self, text: str) -> None:
        """Takes in one value; '' is a missing one."""
        if not text:
            self._num_missing += 1
        elif text in self._counts:
            self._counts[text] += 1
        elif len(self._counts) < MAX_DISTINCT:
            self._counts[text] = 1
            self._note_kind(text)
        else:
            self._num_uncounted += 1
            self._note_kind(text)

    def choose_kind(self, min_frequency: int) -> tuple[str, str]:
        """'categorical', 'integer', 'numeric' or 'left out', and the reason.

        Args:
            min_frequency: a category needs as many rows.
        """
        if not is_column_name(self.name):
            return "left out", "its name is empty, or holds a comma, a quote or a line break: rename it to use it"
        num_distinct = len(self._counts)
        if not num_distinct:
            return "left out", "all values are missing"
        if num_distinct == 1 and not self._num_missing:
            return "left out", f"{next(iter(self._counts))!r} in all rows"
        if self._num_uncounted:
            counted = f"more than {MAX_DISTINCT:,} values"
        else:
            counted = f"{num_distinct:,} value{'' if num_distinct == 1 else 's'}"
        most_common = self._counts.most_common(1)[0][1]
        is_unique = most_common == 1 and num_distinct > 1
        if self._is_number and not (self._is_integer and self._looks_like_id()):
            if not self._is_integer:
                return "numeric", counted
            if num_distinct > MAX_INTEGER_CATEGORIES or self._num_uncounted:
                return self._choose_for_integers(counted, is_unique)
        if is_unique:
            return "left out", "a different value in each row: an identifier"
        if most_common < min_frequency:
            return "left out", f"no value occurs in {min_frequency} rows: nearly an identifier"
        return "categorical", counted

    def _choose_for_integers(self, counted: str, is_unique: bool) -> tuple[str, str]:
        numbers = [int(float(text)) for text in self._counts]
        low, high = min(numbers), max(numbers)
        if is_unique and not self._num_uncounted and high - low + 1 == len(numbers):
            return "left out", "consecutive numbers: an identifier"
        buckets = {math.floor(math.log(number) ** 2) for number in numbers if number > 2}
        if low >= -1 and len(buckets) >= MIN_BUCKETS:
            return "integer", counted
        if low >= 0 and self._counts.total() >= MIN_REPEATS * len(numbers) and not self._num_uncounted:
            return "categorical", f"{counted}, each in many rows"
        return "numeric", counted

    def _note_kind(self, text: str) -> None:
        if not self._is_number:
            return
        try:
            number = float(text)
            is_plain = "_" not in text and abs(number) < 3e38  # neither 1_000 nor infinity nor NaN
        except ValueError:
            is_plain = False
        self._is_number = is_plain
        self._is_integer = self._is_integer and is_plain and number == int(number) and abs(number) < 2**53

    def _looks_like_id(self) -> bool:
        words = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name).lower()
        has_leading_zero = any(re.match(r"0\d", text) for text in self._counts)
        return has_leading_zero or bool(ID_WORDS & set(re.split(r"[^a-z]+", words)))
