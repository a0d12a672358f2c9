"""A value of a database, a table or a sheet as JSON can carry it."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from nlp_skills.i18n import _

_WRITTEN = (uuid.UUID, dt.timedelta, IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)


def plain(value: Any) -> Any:
    """Text, number, boolean, list, mapping or None; dates become ISO 8601 and exact decimals stay exact as text.

    Raises:
        ValueError: bytes that are not UTF-8, NaN or infinity, or a type JSON has no place for.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(plain(item)) for item in value)
    if isinstance(value, _WRITTEN):
        return str(value)
    raise ValueError(_("a value of type {type} is not text or a number", type=type(value).__name__))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(_("{value} is not a number", value=str(value)))
    return value


def _decimal(value: decimal.Decimal) -> int | str:
    if not value.is_finite():
        raise ValueError(_("{value} is not a number", value=str(value)))
    return int(value) if value == value.to_integral_value() else str(value)


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(_("binary data is not text")) from error
