"""The mesh as people meet it in a daemon's commands, and what a daemon without it does not load."""

from __future__ import annotations

from pathlib import Path

from tests.integration.edge_fixtures import authority, lonely_device
from tests.support.edge_device import EdgeDevice

__all__ = ["authority", "lonely_device"]


def test_without_a_daemon_the_commands_say_how_to_start_it(lonely_device: EdgeDevice) -> None:
    for words in (("mesh", "peers"), ("mesh", "status"), ("mesh", "peers", "--json"), ("mesh", "status", "--watch")):
        result = lonely_device.run(*words)
        assert result.exit_code == 1
        assert "the daemon does not run" in result.stderr
        assert "systemctl start edge-agent" in result.stderr
    assert lonely_device.run("mesh", "peers", "--watch", "--json").exit_code == 2


def test_a_daemon_without_a_mesh_says_so_and_loads_nothing_for_it(lonely_device: EdgeDevice) -> None:
    lonely_device.start()
    lonely_device.submit('{"persons":1}')
    assert lonely_device.document("mesh", "peers") == []
    standing = lonely_device.document("mesh", "status")
    assert (standing["mesh"]["duty"], standing["mesh"]["awake"]) == ("off", False)
    assert standing["custody"] == {"origins": 0, "envelopes": 0, "bytes": 0, "largest": []}
    assert standing["handovers"] == []
    said = "mesh: no neighbour is looked for: it is switched off (mesh.duty)"
    assert said in lonely_device.succeed("mesh", "peers")
    assert said in lonely_device.succeed("mesh", "status")
    assert said in lonely_device.succeed("status")
    maps = Path(f"/proc/{lonely_device.process.pid}/maps").read_text()
    assert "zeroconf" not in maps
    findings = [one for one in lonely_device.document("doctor")["findings"] if one["check"] == "mesh"]
    assert [one["verdict"] for one in findings] == ["ok"]


def test_the_status_without_a_daemon_says_nothing_of_neighbours(lonely_device: EdgeDevice) -> None:
    lonely_device.start()
    lonely_device.process.terminate()
    document = lonely_device.document("status")
    assert (document["running"], document["mesh"]) == (False, None)
    assert "mesh:" not in lonely_device.run("status").stdout


def test_the_help_teaches(lonely_device: EdgeDevice) -> None:
    for words in (("mesh",), ("mesh", "peers"), ("mesh", "status")):
        assert lonely_device.succeed(*words, "--help").startswith("Usage: edge-agent mesh")
    assert "edge-agent mesh status --watch" in lonely_device.succeed("mesh", "--help")
