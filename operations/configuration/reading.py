"""Reads a configuration file's text."""

from pathlib import Path

from operations.configuration.mistakes import ConfigurationError, Mistake


def read_configuration_text(path: Path, *, absent_remedy: str) -> str:
    """The file's text; raises ConfigurationError. `absent_remedy` is for when there is no such file."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(path, (_unreadable(error, absent_remedy),)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"the file is not UTF-8 text: byte 0x{error.object[error.start]:02x}"
        raise ConfigurationError(path, (Mistake(line, None, problem, "save the file as UTF-8"),)) from error


def _unreadable(error: OSError, absent_remedy: str) -> Mistake:
    if isinstance(error, FileNotFoundError):
        return Mistake(None, None, "there is no such file", absent_remedy)
    if isinstance(error, PermissionError):
        return Mistake(None, None, "this user may not read the file", "run as the service's user or as root")
    return Mistake(None, None, f"the file cannot be read: {error.strerror}", "check the path and the disk")
