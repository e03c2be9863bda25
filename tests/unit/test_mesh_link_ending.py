"""What a link with a neighbour says of its end when reading and writing both come to one."""

from __future__ import annotations

import asyncio
import ssl
from unittest.mock import Mock, create_autospec

from edge_agent.engine.ports import LinkHost
from edge_agent.mesh.connection import PeerConnection
from edge_agent.mesh.peer_link import PeerLink
from sync_protocol.mesh import Hello
from tests.support.mesh_devices import on_event_loop


@on_event_loop
async def test_what_the_far_end_said_is_told_even_if_writing_ends_first() -> None:
    reader = asyncio.StreamReader()
    writer = create_autospec(asyncio.StreamWriter, instance=True)
    alert = ssl.SSLError(1, "")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"

    async def lost() -> None:
        reader.set_exception(alert)
        raise ConnectionResetError("Connection lost")

    writer.drain = lost
    connection = PeerConnection(bytes(16), "127.0.0.1", True, asyncio.get_running_loop().time(), reader, writer)
    admission = Mock(hello=lambda: Hello(False, None, 1_000_000))
    link = PeerLink(connection, host=create_autospec(LinkHost), admission=admission, on_up=Mock())
    assert await link.run() == "it does not accept this device (unknown ca)"
