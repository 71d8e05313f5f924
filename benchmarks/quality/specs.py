"""What a user asks to be compared: methods with settings, and budgets."""

import dataclasses
import difflib
import json
import re
from typing import Any

from keras_dimgrow import METHODS
from keras_dimgrow.config import Config

# Rules that anyone can type: part of every comparison.
RULES = ("uniform", "mixed_dimension", "log_vocabulary")


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """A method of `search` with its settings; `label` is how it was asked for, and what tables call it."""

    label: str
    name: str
    config: Config

    @property
    def takes_budget(self) -> bool:
        """Whether it can be told how many parameters to find a plan for."""
        return METHODS[self.name].takes_budget

    @property
    def is_rule(self) -> bool:
        """Whether it trains nothing."""
        return self.name in RULES


def parse_methods(text: str) -> list[MethodSpec]:
    """Reads `--methods`: names with a comma between them, each with settings if need be.

    Raises:
        ValueError: for a method or a setting that there is none of.

    Example:
        >>> [spec.label for spec in parse_methods("uniform,dimgrow_paper:max_steps=200;gate.penalty=1e-3")]
        ['uniform', 'dimgrow_paper:max_steps=200;gate.penalty=1e-3']
    """
    # Not at the commas inside of a list, as in candidates=[2,8,16].
    return [_parse_method(part.strip()) for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def _parse_method(label: str) -> MethodSpec:
    name, _, settings = label.partition(":")
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"--methods: unknown method {name!r}.{hint} Methods: {', '.join(sorted(METHODS))}.")
    values: dict[str, Any] = {}
    for setting in filter(None, settings.split(";")):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--methods {label}: settings are written name:key=value;key=value; received {setting!r}.")
        *groups, last = key.strip().split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = _parse_value(value.strip())
    try:
        return MethodSpec(label, name, METHODS[name].config.from_dict(values))
    except ValueError as error:
        raise ValueError(f"--methods {label}: {error}") from error


def _parse_value(text: str) -> Any:
    """JSON where it is JSON (numbers, true, null, lists), else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def parse_budgets(text: str) -> list[float]:
    """Reads `--budgets`: shares of uniform 16's parameters, the smallest first, each once.

    Raises:
        ValueError: if one is no share in (0, 1].
    """
    budgets = []
    for part in text.split(","):
        try:
            budget = float(part)
        except ValueError:
            budget = 0.0
        if not 0.0 < budget <= 1.0:
            raise ValueError(
                f"--budgets: shares of uniform 16's parameters, in (0, 1], such as 0.05,0.1; received {part!r}."
            )
        budgets.append(budget)
    return sorted(set(budgets))
