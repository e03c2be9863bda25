"""`central-broker`: everything that is done at the census center, one command for each."""

from __future__ import annotations

import os
from pathlib import Path

import click

from central_broker.commands.context import CenterContext, EveryFault
from central_broker.configuration_schema import CENTER_DEFAULT


@click.group(
    cls=EveryFault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
A new center, from nothing to the first tablet:
  central-broker init --address 10.8.0.1
  central-broker broker                          then start mosquitto as it says
  central-broker forms add household.xlsx
  central-broker enrol request-tablet17.json     and carry the result back to the tablet
  central-broker consume                         and, beside it, central-broker receipts
  central-broker backup run                      from then on daily: only then do tablets free their copies
  central-broker completeness                    what of everything sealed is here
  central-broker coverage                        who of everybody listed was counted
""",
)
@click.option(
    "--center",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CENSUS_CENTER",
    default=CENTER_DEFAULT,
    show_default=True,
    help="The folder with center.toml. Also $CENSUS_CENTER.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A 0600 file whose first line opens the center's keys. Also $CENSUS_PASSPHRASE_FILE; else you are asked.",
)
@click.version_option(package_name="census-sync")
@click.pass_context
def main(context: click.Context, center: Path, passphrase_file: Path | None) -> None:
    """The census center: takes in what tablets seal, and answers with signed receipts."""
    # The database holds people's answers: what is made here is for the center's user and group.
    os.umask(0o027)
    context.obj = CenterContext(center.absolute(), passphrase_file, dict(os.environ))


def _add_commands() -> None:
    from central_broker.commands import (
        authority,
        coverage,
        data,
        devices,
        export,
        forms,
        media,
        places,
        safekeeping,
        services,
    )

    for command in (
        authority.init,
        authority.keys,
        authority.broker,
        devices.enrol_command,
        devices.devices,
        media.media,
        forms.forms,
        forms.reprocess,
        export.export,
        places.places,
        coverage.coverage,
        services.consume,
        services.receipts,
        data.completeness,
        data.held,
        safekeeping.backup,
    ):
        main.add_command(command)


_add_commands()
