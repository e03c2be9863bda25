"""A configuration file by one table of its keys: read, checked with every mistake told at once, and shown as a sample.

A program brings its own table, its own kinds of values and its own dataclasses; everything else is here.
"""

from operations.configuration.check import check_document
from operations.configuration.kinds import CHOICE, OPTIONAL_PATH, PATH, TEXT, TRUE_OR_FALSE, WHOLE_NUMBER
from operations.configuration.log import LOG_KEYS, LOG_PURPOSE, LogConfiguration
from operations.configuration.mistakes import ConfigurationError, Mistake, Unfit
from operations.configuration.reading import read_configuration_text
from operations.configuration.sample import sample_text
from operations.configuration.table import AtMost, Consistent, Different, Key, Kind, Required, Table, Value

__all__ = [
    "CHOICE",
    "LOG_KEYS",
    "LOG_PURPOSE",
    "OPTIONAL_PATH",
    "PATH",
    "TEXT",
    "TRUE_OR_FALSE",
    "WHOLE_NUMBER",
    "AtMost",
    "ConfigurationError",
    "Consistent",
    "Different",
    "Key",
    "Kind",
    "LogConfiguration",
    "Mistake",
    "Required",
    "Table",
    "Unfit",
    "Value",
    "check_document",
    "read_configuration_text",
    "sample_text",
]
