"""Strict reading of TOML tables into frozen classes, with errors that name the key."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from prx_scale.errors import InputError, nearest

T = TypeVar("T")


def bounded(default: Any, *, low: float | None = None, high: float | None = None) -> Any:
    """A field whose value must lie in [low, high].

    Args:
        default: value where the key is absent.
        low: smallest value allowed.
        high: largest value allowed.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def chosen(table: Any) -> dict[str, Any]:
    """The keys of a table that are not at their default, and say more than what something is called or where it lies.

    Args:
        table: a frozen dataclass.
    """
    return {
        item.name: value
        for item in dataclasses.fields(table)
        if not item.metadata.get("place") and (value := getattr(table, item.name)) != item.default
    }


def parse(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Read one table.

    Args:
        cls: a frozen dataclass, a table of the study file.
        table: the parsed TOML table.
        where: file and table, for errors, as in ``study.toml: [model]``.

    Returns:
        The table with its defaults filled in.

    Raises:
        InputError: an unknown or missing key, a wrong type, or a value out of bounds.
    """
    types_of = field_types(cls)
    check_keys(table, types_of, where)
    values = {key: check_value(value, types_of[key], f"{where} {key}") for key, value in table.items()}
    for item in dataclasses.fields(cast(Any, cls)):
        if item.name in values:
            _check_bounds(values[item.name], item.metadata, f"{where} {item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise InputError(f"{where} {item.name}: missing; it has no default")
    return cls(**values)


@functools.cache  # a study of a thousand runs asks nine thousand times
def field_types(cls: type[Any]) -> Mapping[str, Any]:
    """The keys of a table and the type of each."""
    return {name: kind for name, kind in typing.get_type_hints(cls).items() if _is_field(cls, name)}


def _is_field(cls: type[Any], name: str) -> bool:
    return name in cls.__dataclass_fields__


def check_keys(table: Mapping[str, Any], valid: Mapping[str, Any], where: str) -> None:
    """Refuse keys that a table does not have.

    Args:
        table: what was read.
        valid: the keys there are.
        where: file and table, for the error.

    Raises:
        InputError: names the key and the nearest valid one.
    """
    for key in table:
        if key not in valid:
            raise InputError(f"{where} {key}: unknown key; {nearest(key, valid)}")


def check_value(value: Any, kind: Any, where: str) -> Any:
    """Refuse a value of another type than the key has.

    Args:
        value: what was read.
        kind: the type: bool, int, float, str, a Literal, or a tuple of one of them.
        where: file, table and key, for the error.

    Returns:
        The value, an int turned into a float where a float is due, a list into a tuple.

    Raises:
        InputError: names the key, the type that is due and what was found.
    """
    origin = get_origin(kind)
    if origin is Literal:
        return _check_choice(value, get_args(kind), where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: expected a list, found {_describe(value)}")
        items = cast("list[Any]", value)
        return tuple(check_value(item, get_args(kind)[0], where) for item in items)
    if origin in (typing.Union, types.UnionType):
        kind = next(arg for arg in get_args(kind) if arg is not types.NoneType)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{where}: expected {_NAMES.get(kind, str(kind))}, found {_describe(value)}")
    return value


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "a table",
}


def _check_choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    hint = nearest(str(value), [str(choice) for choice in choices])
    raise InputError(f"{where}: {_describe(value)} is not a choice; {hint}")


def check_bounds(table: Any, named: Callable[[str], str]) -> None:
    """Refuse values out of bounds in a table that was not read from a file.

    Args:
        table: a frozen dataclass.
        named: what a field is called, for errors.

    Raises:
        InputError: names the first.
    """
    for item in dataclasses.fields(table):
        _check_bounds(getattr(table, item.name), item.metadata, named(item.name))


def _check_bounds(value: Any, metadata: Mapping[str, Any], where: str) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    if low is not None and not value >= low:
        raise InputError(f"{where}: {value} is too small; at least {low}")
    if high is not None and not value <= high:
        raise InputError(f"{where}: {value} is too large; at most {high}")


def _describe(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, list):
        return f"a list {value}"
    if isinstance(value, dict):
        return "a table"
    return repr(value)
