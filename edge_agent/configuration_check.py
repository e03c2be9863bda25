"""What can be used of a text that has mistakes: `edge-agent doctor` goes on with it."""

from __future__ import annotations

from typing import Any

from edge_agent.configuration_schema import ONLINE_DEFAULTS, TABLE
from operations import configuration
from operations.configuration import Mistake


def check_document(text: str) -> tuple[dict[str, dict[str, Any]], tuple[Mistake, ...]]:
    """Every section's values with defaults filled in, those with a mistake left out, and all mistakes by line."""
    values, mistakes = configuration.check_document(text, TABLE)
    if values["online"].get("enabled"):
        return configuration.check_document(text, TABLE.with_defaults(ONLINE_DEFAULTS))
    return values, mistakes
