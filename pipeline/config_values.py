"""Configuration sections as frozen dataclasses that reject what they do not know, and the YAML they are read from."""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, Self

import yaml

from pipeline.errors import UserError

EXPECTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the configuration dataclasses: checks every value's type, then calls `_validate` for its range.

    Types may be str, int, float, bool, unions of these and None, tuple[str, ...], Mapping and Section. A list becomes a
    tuple, an int given where only a float may stand becomes a float; nothing else is converted.

    Attributes:
        section: the dotted place of the section in the file; '' for the top.

    Raises:
        UserError: for an unknown or missing key, a wrong type or a rejected value; it names the dotted key.
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = convert(getattr(self, field.name), kinds[field.name], self._key(field.name))
            object.__setattr__(self, field.name, value)
        self._validate()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the section from a mapping of plain YAML or JSON values."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                place = f"in section {cls.section!r}" if cls.section else "at the top"
                raise UserError(
                    f"unknown key {cls._key(key)!r}.{did_you_mean(str(key), fields)} Keys {place}: {', '.join(fields)}."
                )
        for key, field in fields.items():
            has_default = not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
            if key not in values and not has_default:
                raise UserError(f"key {cls._key(key)!r} is missing; it has no default. Add it.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The section as plain JSON types: what `from_dict` reads."""
        return {field.name: _to_plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def _validate(self) -> None:
        """Raises UserError if a value is out of its range; types are right already."""

    @classmethod
    def _key(cls, name: object) -> str:
        return f"{cls.section}.{name}" if cls.section else str(name)

    def _require(self, name: str, is_valid: bool, expected: str, cure: str = "") -> None:
        if not is_valid:
            message = f"{self._key(name)} must be {expected}; received {getattr(self, name)!r}."
            raise UserError(f"{message} {cure}".rstrip())


def convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as the type `kind`; UserError with the dotted `key` if it is of another type."""
    if isinstance(kind, types.UnionType):
        kinds = [option for option in typing.get_args(kind) if option is not types.NoneType]
        if value is None:
            return None
        if len(kinds) > 1 and type(value) not in kinds:
            raise _wrong_type(key, value, " or ".join(EXPECTED[option] for option in kinds))
        return convert(value, kinds[0] if len(kinds) == 1 else type(value), key)
    if isinstance(kind, type) and issubclass(kind, Section):
        return value if isinstance(value, kind) else kind.from_dict(convert(value, Mapping, key))
    origin = typing.get_origin(kind) or kind
    if origin is Mapping:
        if value is None:  # "search:" with nothing below it
            return {}
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return _to_plain(value)
        raise _wrong_type(key, value, "a mapping of names to values")
    if origin is tuple:
        if isinstance(value, list | tuple):
            of = typing.get_args(kind)[0]
            return tuple(convert(item, of, f"{key}[{index}]") for index, item in enumerate(value))
        example = "texts, such as [age, city]" if typing.get_args(kind)[0] is str else "values, such as [0.1, 0.2]"
        raise _wrong_type(key, value, f"a list of {example}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _wrong_type(key, value, EXPECTED[kind])
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the nearest known names, or '' if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""


def parse_yaml(text: str) -> Any:
    """The value that YAML `text` stands for; 1e-3 is a number (YAML 1.2) and a key given twice is an error.

    Raises:
        yaml.YAMLError: if the text is no YAML.
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def to_yaml_text(text: str) -> str:
    """`text` as a YAML scalar that reads as the same text, in quotes only where it needs them."""
    for candidate in (text, json.dumps(text, ensure_ascii=False)):
        try:
            if parse_yaml(f"- {candidate}") == [text] and parse_yaml(f"key: {candidate}") == {"key": text}:
                return candidate
        except yaml.YAMLError:
            continue
    return json.dumps(text)  # for the rare signs that YAML does not take as they are


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one 'a.b=value' in nested `values`; the value is read as YAML, or as text if it is none."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise UserError(f"--set {override!r} must have the form key=value, such as --set features.min_frequency=5.")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError:
        value = text  # such as data.positive_value=>50K
    set_key(values, key, value)


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets the dotted `key` in nested `values`, making the sections that are missing."""
    *sections, name = key.split(".")
    for depth, section in enumerate(sections):
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            place = ".".join(sections[: depth + 1])
            raise UserError(f"key {key!r} does not exist: {place!r} is the value {values!r}, not a section.")
    values[name] = value


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, where 1e-3 is text; everybody writes learning rates so.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    return [_to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _wrong_type(key: str, value: Any, expected: str) -> UserError:
    is_unquoted = expected == EXPECTED[str] and not isinstance(value, list | tuple | Mapping | None)
    cure = f' If the text {value!s} is meant, put it in quotes: "{value!s}".' if is_unquoted else ""
    return UserError(f"{key} must be {expected}; received {value!r} of type {type(value).__name__}.{cure}")
