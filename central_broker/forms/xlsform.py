"""XLSForms (.xlsx, .xlsm, .xls, .csv, .md) to XForm XML by pyxform, without ODK Validate, which needs Java.

For commands: reads a file. pyxform is imported when it is needed, so that the consumer does without.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from warnings import catch_warnings, simplefilter

from central_broker.forms.definition import FormRefused

XLSFORM_BYTES_MAX: Final = 20 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 200 * 1024 * 1024
"""A workbook is a ZIP archive; one that unpacks to more is no questionnaire."""

EXTENSIONS: Final = (".xlsx", ".xlsm", ".xls", ".csv", ".md")


@dataclass(frozen=True, slots=True)
class Converted:
    """A form as XML, and what is doubtful in it, in pyxform's words mostly."""

    xform: bytes
    warnings: tuple[str, ...] = ()


def convert(path: Path) -> Converted:
    """Return the XForm of an XLSForm; raises FormRefused, in pyxform's own words where it refuses."""
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise FormRefused(
            f"{path.name} has no extension of an XLSForm", f"give one of these: {', '.join(EXTENSIONS)}; or XForm XML"
        )
    try:
        data = path.read_bytes() if path.stat().st_size <= XLSFORM_BYTES_MAX else None
    except OSError as error:
        raise FormRefused(
            f"{path.name} cannot be read: {error.strerror}", "check the name and its permissions"
        ) from None
    if data is None:
        raise FormRefused(f"{path.name} is larger than {XLSFORM_BYTES_MAX} bytes", "remove pictures and other sheets")
    if extension in (".xlsx", ".xlsm"):
        _check_archive(path)
    return _convert(path, data, extension)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise FormRefused(f"{path.name} is no Excel workbook, or a damaged one", "save it again as .xlsx") from None
    if unpacked > UNPACKED_BYTES_MAX:
        raise FormRefused(f"{path.name} unpacks to more than {UNPACKED_BYTES_MAX} bytes", "remove other sheets")


def _convert(path: Path, data: bytes, extension: str) -> Converted:
    from pyxform.errors import PyXFormError
    from pyxform.xls2xform import convert as convert_by_pyxform

    warnings: list[str] = []
    remedy = "correct the XLSForm; https://xlsform.org/en/ explains its sheets and columns"
    try:
        with catch_warnings():
            simplefilter("ignore")  # openpyxl's, of styles and dates of the workbook
            converted = convert_by_pyxform(data, warnings=warnings, validate=False, file_type=extension)
    except PyXFormError as error:
        raise FormRefused(f"{path.name}: {error}", remedy) from None
    except Exception as error:  # pyxform lets through whatever its readers of damaged files raise
        raise FormRefused(f"{path.name} cannot be converted: {type(error).__name__}: {error}", remedy) from error
    if converted.itemsets is not None:
        warnings.append(
            "it has external selects (select_one_external): publish it with --files, itemsets.csv in that folder"
        )
    return Converted(converted.xform.encode(), tuple(warnings))
