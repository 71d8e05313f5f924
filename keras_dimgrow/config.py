"""Frozen configuration records that reject what they do not know."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any, Self


class Config:
    """Base of the frozen, keyword-only configuration dataclasses: JSON in and out, unknown keys rejected.

    Subclasses are `dataclasses.dataclass(frozen=True, kw_only=True)` and validate themselves in `__post_init__`. A
    field whose type is itself a `Config` is read from a nested mapping, which replaces settings of the field's default.
    """

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload]

    def to_json(self) -> str:
        """The configuration as one JSON object with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration from a mapping.

        Raises:
            ValueError: for a key that is no setting of this configuration (the nearest one is named), or a value that
                its validation rejects.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{cls.__name__}: unknown key {key!r}.{hint} Known keys: {', '.join(sorted(known))}.")
        converted: dict[str, Any] = {}
        for key, value in values.items():
            kind = known[key].type
            if isinstance(kind, type) and issubclass(kind, Config) and not isinstance(value, kind):
                if not isinstance(value, Mapping):
                    raise ValueError(f"{cls.__name__}: {key} must be a mapping of settings; received {key}={value!r}.")
                value = kind.from_dict({**vars(known[key].default_factory()), **value})  # type: ignore[operator]
            converted[key] = tuple(value) if isinstance(value, list) else value
        return cls(**converted)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Builds the configuration from the text that `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    def _require(self, key: str, is_valid: bool, expected: str) -> None:
        if not is_valid:
            raise ValueError(f"{type(self).__name__}: {key} must be {expected}; received {key}={getattr(self, key)!r}.")

    def _require_int(self, key: str, minimum: int, optional: bool = False) -> None:
        value = getattr(self, key)
        is_int = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        none = " or None" if optional else ""
        self._require(key, is_int or (optional and value is None), f"an integer >= {minimum}{none}")

    def _require_number(self, key: str, minimum: float, maximum: float = float("inf"), above: bool = False) -> None:
        value = getattr(self, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_inside = is_number and minimum <= value <= maximum and not (above and value == minimum)
        low = f"a number > {minimum}" if above else f"a number >= {minimum}"
        self._require(key, is_inside, low if maximum == float("inf") else f"{low} and <= {maximum}")
