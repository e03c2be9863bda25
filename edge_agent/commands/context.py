"""What the subcommands share: the configuration, and reaching the queue with or without a running daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_agent.configuration import Configuration, ConfigurationError, load_configuration
from edge_agent.configuration_schema import DEFAULT_PATH
from edge_agent.queue.inspection import Query
from edge_agent.queue.intake.local_protocol import (
    CONTROL_SOCKET_NAME,
    LocalProtocolError,
    Request,
    connected,
)
from operations.console import EXIT_USAGE, fail

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def configuration_option(function: Decorated) -> Decorated:
    """Add --configuration."""
    return click.option(
        "--configuration",
        "configuration_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_PATH,
        envvar="EDGE_AGENT_CONFIGURATION",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(function)


def json_option(function: Decorated) -> Decorated:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(function)


def configured(context: click.Context) -> Configuration:
    """Return the configuration, or end the command with every mistake in it."""
    path: Path = context.find_root().obj
    try:
        return load_configuration(path)
    except ConfigurationError as error:
        remedy = "correct the lines above; edge-agent sample-configuration shows every key"
        fail(str(error), remedy, exit_status=EXIT_USAGE)


def ask_daemon(configuration: Configuration, request: Request) -> Request | None:
    """Return the running daemon's answer; None when none runs. Ends the command when it refuses."""
    path = configuration.device.runtime_directory / CONTROL_SOCKET_NAME
    try:
        with connected(path) as client:
            answer = client.ask(request)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError:
        group = configuration.device.operator_group
        fail(f"this user may not use {path}", f"run as root, or become a member of the group {group}")
    except (OSError, LocalProtocolError) as error:
        fail(
            f"the daemon does not answer: {error}",
            "look at journalctl -u edge-agent; if it lasts: sudo systemctl restart edge-agent",
        )
    if not answer.get("ok"):
        fail(str(answer.get("problem")), str(answer.get("remedy")))
    return answer


@contextmanager
def queue_without_daemon(configuration: Configuration) -> Iterator[Query]:
    """Open the queue itself, for when no daemon holds it, and query it through sqlite-utils."""
    import sqlite_utils

    from edge_agent.engine.store import StoreFault
    from edge_agent.queue.store import QUEUE_FILE_NAME, QueueBusy, QueueStore

    directory = configuration.device.state_directory
    try:
        if not (directory / QUEUE_FILE_NAME).exists():
            fail(f"there is no queue in {directory} yet", "start the daemon: sudo systemctl start edge-agent")
        (directory / QUEUE_FILE_NAME).open("rb").close()
    except PermissionError:
        remedy = "run as root, or start the daemon, which answers its operators: sudo systemctl start edge-agent"
        fail(f"the daemon does not run, and this user may not look into {directory}", remedy)
    except OSError as error:
        fail(f"cannot look into {directory}: {error.strerror}", "run: sudo edge-agent doctor")
    try:
        with QueueStore(directory) as store:
            database = sqlite_utils.Database(store.connection)
            yield lambda sql, parameters: database.query(sql, dict(parameters))
    except QueueBusy as error:
        fail(str(error), "wait a moment; if it lasts: sudo systemctl restart edge-agent")
    except StoreFault as error:
        fail(str(error), "run: sudo edge-agent doctor")
