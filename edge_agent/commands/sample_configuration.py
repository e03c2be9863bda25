"""`edge-agent sample-configuration`."""

from __future__ import annotations

import sys

import click

from edge_agent.configuration import sample_configuration


@click.command("sample-configuration")
def command() -> None:
    """Print a configuration file with every key explained."""
    sys.stdout.write(sample_configuration())
