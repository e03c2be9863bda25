"""`edge-agent sample-configuration`."""

from __future__ import annotations

import sys

import click

from edge_agent.configuration import sample_configuration


@click.command("sample-configuration", short_help="Print a configuration to start from.")
def command() -> None:
    """Print a configuration file with every key explained.

    Keys that are commented out have the value shown; only the broker's address must be set.

    \b
    Example:
      edge-agent sample-configuration > /etc/edge-agent/edge-agent.toml
    """
    sys.stdout.write(sample_configuration())
