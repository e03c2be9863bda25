"""What can be used of a text that has mistakes: `edge-agent doctor` goes on with it."""

from __future__ import annotations

from typing import Any

from edge_agent.configuration_schema import TABLE
from operations import configuration
from operations.configuration import Mistake


def check_document(text: str) -> tuple[dict[str, dict[str, Any]], tuple[Mistake, ...]]:
    """Every section's values with defaults filled in, those with a mistake left out, and all mistakes by line."""
    return configuration.check_document(text, TABLE)
