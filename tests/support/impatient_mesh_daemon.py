"""The daemon, except that it waits for seconds where the product waits for minutes, and no configuration says so.

`edge-agent` for a test that waits until a mesh has come to rest: what another neighbour was about to bring, and did
not, is offered again after `LATER_SECONDS`, and what a neighbour has kept after `CUSTODY_SECONDS` (the first time). An
interface that comes and goes all the time is followed as closely as one that does it once, and who could not be dialled
is dialled again within `DIAL_SECONDS_MAX`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from edge_agent import app
from edge_agent.adapter_settings import engine_settings, mesh_settings
from edge_agent.backoff import Backoff
from edge_agent.commands import main
from edge_agent.configuration import Configuration
from edge_agent.engine.settings import SECOND, EngineSettings
from edge_agent.mesh import interfaces
from edge_agent.mesh.mesh_watch import MeshWatchSettings

LATER_SECONDS: Final = 3
DIAL_SECONDS_MAX: Final = 3
CUSTODY_SECONDS: Final = 10
_CUSTODY_SECONDS_MAX: Final = 20


def impatient(configuration: Configuration) -> EngineSettings:
    """The settings with shorter waits."""
    return replace(
        engine_settings(configuration),
        later_wait=LATER_SECONDS * SECOND,
        custody_wait=CUSTODY_SECONDS * SECOND,
        custody_wait_max=_CUSTODY_SECONDS_MAX * SECOND,
    )


def impatient_mesh(configuration: Configuration) -> MeshWatchSettings:
    """The mesh's settings with shorter waits."""
    settings = mesh_settings(configuration)
    return replace(settings, links=replace(settings.links, backoff=Backoff(1, DIAL_SECONDS_MAX)))


if __name__ == "__main__":
    interfaces.SETTLE_SECONDS_MAX = interfaces.SETTLE_SECONDS_MIN
    app.engine_settings = impatient  # type: ignore[attr-defined]  # the waits that no configuration has
    app.mesh_settings = impatient_mesh  # type: ignore[attr-defined]  # the same
    sys.exit(main())
