"""`edge-agent run`: the daemon."""

from __future__ import annotations

import click

from edge_agent.commands.context import configured
from operations.console import fail


@click.command("run")
@click.pass_context
def command(context: click.Context) -> None:
    """Run the daemon in the foreground, as the systemd service does.

    Logs go to the journal with fields (journalctl -u edge-agent CENSUS_EVENT=committed), or as text to a terminal.
    """
    configuration = configured(context)
    from edge_agent import app
    from edge_agent.engine.store import StoreFault
    from edge_agent.journal_sentences import SENTENCES
    from edge_agent.mqtt.bound_client import TlsMaterialError
    from edge_agent.provisioning import ProvisioningError
    from operations.journal import configure_logging

    configure_logging("edge-agent", style=configuration.log.style, level=configuration.log.level, sentences=SENTENCES)
    try:
        app.run(configuration)
    except ProvisioningError as error:
        fail(str(error), error.remedy)
    except TlsMaterialError as error:
        fail(str(error), "install the provisioning file once more: edge-agent enrol install FILE")
    except StoreFault as error:
        fail(str(error), "run edge-agent doctor")
