"""The `edge-agent` command. Each subcommand imports what it needs when it runs: the daemon stays small."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.context import configuration_option


class _LazyGroup(click.Group):
    """Finds a subcommand in the module of its name."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)  # in the order of a device's life, not of the alphabet

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        from importlib import import_module

        if name not in _COMMANDS:
            return None
        module = import_module(f"edge_agent.commands.{_COMMANDS[name]}")
        command: click.Command = module.command
        return command


_COMMANDS = {
    "run": "run",
    "submit": "submit",
    "status": "status",
    "queue": "queue",
    "counted": "counted",
    "media": "media",
    "mesh": "mesh",
    "notice": "notice",
    "notify": "notify",
    "doctor": "doctor",
    "enrol": "enrol",
    "sample-configuration": "sample_configuration",
}


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@configuration_option
@click.version_option(package_name="census-sync", prog_name="edge-agent")
@click.pass_context
def main(context: click.Context, configuration_path: Path) -> None:
    """Carries questionnaires from this device to the census center.

    A form program hands over a questionnaire; it is sealed so that only the center can read it, kept in a queue, and
    sent whenever there is a way. It leaves the queue only when the census database has committed it and a signed
    receipt has come back.

    \b
    First steps on a new device, as root:
      edge-agent sample-configuration > /etc/edge-agent/edge-agent.toml
      edge-agent enrol request --name "tablet 17"     then take request.json to the center
      edge-agent enrol install provisioning.json      with what the center gave back
      edge-agent doctor                               until no problem is left
      systemctl enable --now edge-agent

    \b
    Every day:
      edge-agent submit household-17.xml
      edge-agent status
    """
    context.obj = configuration_path
