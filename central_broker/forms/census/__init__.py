"""The census forms shipped with the project: XLSForms in Markdown, each in Kazakh, Russian and English.

`docs/census-forms.md` says what is in them and how a statistics office changes them.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FORM_IDS = ("census_household", "census_temporary", "census_institution")


def shipped_forms() -> dict[str, Path]:
    """The file of every shipped form, by form id; pyxform reads them. The package must be installed as plain files."""
    folder = Path(str(files(__name__)))
    return {form: folder / f"{form}.md" for form in FORM_IDS}
