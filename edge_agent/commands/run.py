"""`edge-agent run`: the daemon."""

from __future__ import annotations

import click

from edge_agent.commands.context import configured
from operations.console import EXIT_FAILED, fail


@click.command("run", short_help="Run the daemon, as systemd does.")
@click.pass_context
def command(context: click.Context) -> None:
    """Run the daemon in the foreground, as the systemd service does.

    Under systemd logs go to the journal with fields; on a terminal they are text. SIGTERM or Ctrl-C ends it in good
    order.

    \b
    Examples:
      sudo systemctl start edge-agent                    the usual way
      journalctl -u edge-agent CENSUS_EVENT=committed    what the database took
      journalctl -u edge-agent -p warning                what went wrong
      sudo -u edge-agent edge-agent run                  by hand, to watch it

    Exit status 0: ended by a signal; 1: it could not start, or failed; 2: the configuration or the command is wrong.
    """
    configuration = configured(context)
    from edge_agent import app
    from edge_agent.engine.store import StoreFault
    from edge_agent.journal_sentences import SENTENCES
    from edge_agent.provisioning import ProvisioningError
    from edge_agent.queue.store import QueueBusy
    from edge_agent.tls import TlsMaterialError
    from operations.journal import configure_logging, get_logger

    configure_logging("edge-agent", style=configuration.log.style, level=configuration.log.level, sentences=SENTENCES)
    try:
        app.run(configuration)
    except ProvisioningError as error:
        fail(str(error), error.remedy)
    except TlsMaterialError as error:
        fail(str(error), "install the provisioning file once more: sudo edge-agent enrol install FILE")
    except QueueBusy as error:
        fail(str(error), "only one daemon may run: look with systemctl status edge-agent")
    except StoreFault as error:
        fail(str(error), "run: sudo edge-agent doctor")
    except OSError as error:
        fail(f"the daemon cannot run here: {error}", "run: sudo edge-agent doctor")
    except ExceptionGroup as group:
        first = _first(group)
        get_logger().critical("failed", problem=f"{type(first).__name__}: {first}", exc_info=first)
        context.exit(EXIT_FAILED)


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
