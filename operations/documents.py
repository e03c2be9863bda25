"""Turns values of ours into what JSON can carry: bytes as hex, times as ISO 8601 in UTC."""

import dataclasses
from collections.abc import Mapping, Set
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str | None
Document: TypeAlias = "Scalar | list[Document] | dict[str, Document]"


def iso_time(moment: datetime) -> str:
    """The moment as ISO 8601 in UTC with a Z, such as 2026-10-03T14:05:09Z; a time without a zone is taken as UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")


def as_document(value: object) -> Document:
    """The value in JSON's own types.

    Dataclasses become objects, enums their values, sets sorted lists; what has no JSON form becomes its str().
    """
    document: Document
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        document = {field.name: as_document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        document = {str(_scalar(key)): as_document(item) for key, item in value.items()}
    elif isinstance(value, Set):
        document = sorted((as_document(item) for item in value), key=str)
    elif isinstance(value, list | tuple):
        document = [as_document(item) for item in value]
    else:
        document = _scalar(value)
    return document


def _scalar(value: object) -> Scalar:
    scalar: Scalar
    match value:
        case Enum():
            scalar = _scalar(value.value)
        case None | bool() | int() | float() | str():
            scalar = value
        case bytes() | bytearray() | memoryview():
            scalar = bytes(value).hex()
        case datetime():
            scalar = iso_time(value)
        case date():
            scalar = value.isoformat()
        case timedelta():
            scalar = value.total_seconds()
        case _:
            scalar = str(value)
    return scalar
