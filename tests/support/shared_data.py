"""The sample data beside the project: real questionnaires that nobody here wrote. Never copied into the project."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
VARIABLE = "CENSUS_SHARED_DATA"


def shared_data_folder() -> Path:
    """Where the sample data should be: $CENSUS_SHARED_DATA, else ../shared/data from the project's root."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else PROJECT_FOLDER.parent / "shared" / "data"


def reason_missing(*parts: str) -> str:
    """Why a test that needs this file or folder of the sample data cannot run; empty when it can."""
    path = shared_data_folder().joinpath(*parts)
    return "" if path.exists() else f"no sample data at {path}; {VARIABLE} names another folder"
