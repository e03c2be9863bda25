"""The configuration file: every mistake at once, with line, key and remedy; the sample loads as it stands."""

import os
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.configuration import (
    Configuration,
    ConfigurationError,
    Mistake,
    load_configuration,
    parse_configuration,
    sample_configuration,
)
from edge_agent.configuration_kinds import (
    BROKER_ADDRESS,
    EXCLUDED_PATTERNS,
    INTERFACE_PATTERNS,
    LED_NAME,
    LISTEN_ADDRESS,
    LOOPBACK_ORIGINS,
    PEER_ADDRESSES,
    PeerAddress,
    peer_address,
)
from edge_agent.configuration_schema import KEYS, TABLE
from operations.configuration import Kind, Required
from tests.support.configuration_tables import assert_table_makes

MINIMAL = '[broker]\naddress = "10.8.0.1"\n'


def mistakes_of(text: str) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text)
    return caught.value.mistakes


def only_mistake_of(text: str) -> Mistake:
    mistakes = mistakes_of(text)
    assert len(mistakes) == 1, mistakes
    return mistakes[0]


def test_the_one_required_key_is_enough() -> None:
    configuration = parse_configuration(MINIMAL)
    assert configuration.broker.address == "10.8.0.1"
    assert configuration.broker.port == 8883
    assert configuration.vpn.interfaces == ("wg*", "tun*")
    assert configuration.device.state_directory == Path("/var/lib/edge-agent")
    assert configuration.sync.receipt_silence_alarm_seconds == 259_200


def test_the_sample_loads_and_shows_every_default_as_it_is() -> None:
    sample = sample_configuration()
    assert parse_configuration(sample) == parse_configuration(MINIMAL)
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in sample.splitlines()
    )
    assert parse_configuration(uncommented) == parse_configuration(MINIMAL)


def test_the_table_and_the_dataclasses_name_the_same_keys_with_the_same_types() -> None:
    own_types: dict[Kind, set[object]] = {
        BROKER_ADDRESS: {str},
        INTERFACE_PATTERNS: {tuple[str, ...]},
        LED_NAME: {str | None},
        EXCLUDED_PATTERNS: {tuple[str, ...]},
        LISTEN_ADDRESS: {str},
        PEER_ADDRESSES: {tuple[str, ...]},
        LOOPBACK_ORIGINS: {tuple[str, ...]},
    }
    assert_table_makes(typing.get_type_hints(Configuration), TABLE, own_types)


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """port = 1
[brokr]
[broker]
adress = "10.8.0.1"
address = "broker.example.org"
port = "8883"
keepalive_seconds = 5
connect_timeout_seconds = 20 s
[log]
level = loud
style = "jurnal"
"""
    found = [(mistake.line, mistake.key) for mistake in mistakes_of(text)]
    assert found == [
        (1, "port"),
        (2, "brokr"),
        (4, "broker.adress"),
        (5, "broker.address"),
        (6, "broker.port"),
        (7, "broker.keepalive_seconds"),
        (8, "broker.connect_timeout_seconds"),
        (10, "log.level"),
        (11, "log.style"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "key", "problem", "remedy"),
    [
        ("", None, "broker.address", "must be set", 'address = "10.8.0.1"'),
        ("[broker]\nport = 1\n", 1, "broker.address", "must be set", "write in [broker]"),
        (MINIMAL + "prot = 8883\n", 3, "broker.prot", "no such key", "did you mean port?"),
        (MINIMAL + "level = 3\n", 3, "broker.level", "no such key", "move it below [log]"),
        (MINIMAL + "[lgo]\n", 3, "lgo", "no such section", "did you mean [log]?"),
        (MINIMAL + "[[log]]\nlevel = 1\n", 3, "log", "stands once", "[log]"),
        ("log = 3\n" + MINIMAL, 1, "log", "section, not a key", "[log]"),
        (MINIMAL + "port = true\n", 3, "broker.port", "not a whole number", "from 1 to 65535"),
        (MINIMAL + "port = 8883.0\n", 3, "broker.port", "not a whole number", "from 1 to 65535"),
        (MINIMAL + "port = 0\n", 3, "broker.port", "less than 1", "from 1 to 65535"),
        (MINIMAL + "port = 65536\n", 3, "broker.port", "more than 65535", "from 1 to 65535"),
        (MINIMAL + 'port = "8883"\n', 3, "broker.port", "text, not a number", "port = 8883"),
        (MINIMAL + "port = 1\nport = 2\n", 4, "broker.port", "overwrite", "keep one"),
        ("[broker]\naddress = 10.8.0.1\n", 2, "broker.address", "expected newline", "double quotes"),
        ('[broker]\naddress = "10.8.0.1\n', 2, "broker.address", "illegal character", "close the quotes"),
        ("[broker]\naddress = 3\n", 2, "broker.address", "not text", '"10.8.0.1"'),
        ('[broker]\naddress = "b.example"\n', 2, "broker.address", "outside the tunnel", '"10.8.0.1"'),
        ('[broker]\naddress = "10.8.0.1:8883"\n', 2, "broker.address", "a port", "port is a key of its own"),
        ('[broker]\naddress = "[fd00::1]"\n', 2, "broker.address", "brackets", "inside the VPN"),
        ('[broker]\naddress = "fe80::1%eth0"\n', 2, "broker.address", "scope", "inside the VPN"),
        ('[broker]\naddress = "::ffff:10.8.0.1"\n', 2, "broker.address", "IPv4", "inside the VPN"),
        ('[broker]\naddress = "0.0.0.0"\n', 2, "broker.address", "one host", "inside the VPN"),
        ('[broker]\naddress = "224.0.0.1"\n', 2, "broker.address", "one host", "inside the VPN"),
        ('[broker]\naddress = "300.1.1.1"\n', 2, "broker.address", "not an IP address", "inside the VPN"),
        (MINIMAL + '[vpn]\ninterfaces = "wg0"\n', 4, "vpn.interfaces", "not a list", '["wg0"]'),
        (MINIMAL + "[vpn]\ninterfaces = []\n", 4, "vpn.interfaces", "not a list of names", '["wg*", "tun*"]'),
        (MINIMAL + '[vpn]\ninterfaces = ["*"]\n', 4, "vpn.interfaces", "every interface", "name the VPN"),
        (MINIMAL + '[vpn]\ninterfaces = ["[!x]*"]\n', 4, "vpn.interfaces", "every interface", "name the VPN"),
        (MINIMAL + '[vpn]\ninterfaces = ["wireguard-tunnel"]\n', 4, "vpn.interfaces", "fits no", "ip link"),
        (MINIMAL + '[usb]\nled = "/sys/class/leds/x"\n', 4, "usb.led", "not the name of a light", "ls /sys/class/leds"),
        (MINIMAL + '[usb]\nled = ".."\n', 4, "usb.led", "not the name of a light", "ls /sys/class/leds"),
        (MINIMAL + '[device]\nstate_directory = "x"\n', 4, "device.state_directory", "not an absolute", "begin it"),
        (MINIMAL + '[device]\nstate_directory = "/a/../b"\n', 4, "device.state_directory", "..", "that is meant"),
        (MINIMAL + '[log]\nlevel = "inf"\n', 4, "log.level", "not one of the words", "did you mean 'info'?"),
        (MINIMAL + "[sync]\nbundle_bytes_max = 262145\n", 4, "sync.bundle_bytes_max", "more than", "to 262144"),
        (MINIMAL + "backoff_seconds_min = 301\n", 3, "broker.backoff_seconds_min", "more than broker", "raise"),
        (MINIMAL + '[mesh]\nduty = "mesh"\n', 4, "mesh.duty", "not one of the words", "'interval'"),
        (MINIMAL + "[mesh]\ninterval_minutes = 1\n", 4, "mesh.interval_minutes", "less than 2", "from 2 to 1440"),
        (MINIMAL + "[mesh]\nport = 1023\n", 4, "mesh.port", "less than 1024", "from 1024 to 65535"),
        (MINIMAL + "[mesh]\nforeign_megabytes_max = 15\n", 4, "mesh.foreign_megabytes_max", "less", "from 16"),
        (MINIMAL + '[mesh]\ndiscovery = "no"\n', 4, "mesh.discovery", "text", "discovery = false"),
        (MINIMAL + "[mesh]\ndiscovery = 1\n", 4, "mesh.discovery", "neither true nor false", "discovery = true"),
        (MINIMAL + '[mesh]\nexcluded_interfaces = "eth0"\n', 4, "mesh.excluded_interfaces", "not a list", '["eth0"]'),
        (MINIMAL + '[mesh]\nexcluded_interfaces = ["*"]\n', 4, "mesh.excluded_interfaces", "none", 'duty = "off"'),
        (MINIMAL + '[mesh]\nexcluded_interfaces = ["a/b"]\n', 4, "mesh.excluded_interfaces", "fits no", "ip link"),
        (MINIMAL + '[mesh]\nstatic_peers = "10.0.0.1"\n', 4, "mesh.static_peers", "not a list", '["10.0.0.1"]'),
        (MINIMAL + '[mesh]\nstatic_peers = ["laptop:8884"]\n', 4, "mesh.static_peers", "host name", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["10.0.0.1:0"]\n', 4, "mesh.static_peers", "not an IP", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["10.0.0.1:65536"]\n', 4, "mesh.static_peers", "not an IP", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["[10.0.0.1]:1"]\n', 4, "mesh.static_peers", "not an IP", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["fe80::1"]\n', 4, "mesh.static_peers", "one link", "fe80::1%eth0"),
        (MINIMAL + '[mesh]\nstatic_peers = ["fe80::1%a b"]\n', 4, "mesh.static_peers", "no interface", "ip link"),
        (MINIMAL + '[mesh]\nstatic_peers = ["fd00::1%eth0"]\n', 4, "mesh.static_peers", "not need", "without %"),
        (MINIMAL + '[mesh]\nstatic_peers = ["::ffff:10.0.0.1"]\n', 4, "mesh.static_peers", "IPv4", "10.0.0.1"),
        (MINIMAL + '[mesh]\nstatic_peers = ["127.0.0.1"]\n', 4, "mesh.static_peers", "another", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["ff02::1%eth0"]\n', 4, "mesh.static_peers", "another", "its address"),
        (MINIMAL + '[mesh]\nstatic_peers = ["10.0.0.1","10.0.0.1"]\n', 4, "mesh.static_peers", "twice", "keep one"),
        (MINIMAL + "[intake]\nquestionnaire_bytes_max = 10000001\n", 4, "intake.questionnaire_bytes_max", "more", "to"),
    ],
)
def test_a_mistake_names_its_line_its_key_and_what_to_write(
    text: str, line: int | None, key: str, problem: str, remedy: str
) -> None:
    mistake = only_mistake_of(text)
    assert (mistake.line, mistake.key) == (line, key)
    assert problem in mistake.problem
    assert remedy in mistake.remedy


def test_an_address_is_normalised_and_optional_values_may_be_empty() -> None:
    text = '[broker]\naddress = "FD00:0::1"\n[intake]\ndrop_directory = ""\n'
    configuration = parse_configuration(text)
    assert configuration.broker.address == "fd00::1"
    assert configuration.intake.drop_directory is None


def test_neighbours_are_taken_with_and_without_a_port() -> None:
    texts = '["10.0.0.1", "10.0.0.1:9000", "FE80:0::1%eth0", "[fe80::1%eth0]:9000", "fd00::1"]'
    mesh = parse_configuration(f"{MINIMAL}[mesh]\nstatic_peers = {texts}\nexcluded_interfaces = []\n").mesh
    assert mesh.static_peers == ("10.0.0.1", "10.0.0.1:9000", "fe80::1%eth0", "[fe80::1%eth0]:9000", "fd00::1")
    assert [peer_address(text) for text in mesh.static_peers] == [
        PeerAddress("10.0.0.1", None),
        PeerAddress("10.0.0.1", 9000),
        PeerAddress("fe80::1%eth0", None),
        PeerAddress("fe80::1%eth0", 9000),
        PeerAddress("fd00::1", None),
    ]
    # What the doctor writes of it, and reads again, is the same.
    assert [str(peer_address(text)) for text in mesh.static_peers] == list(mesh.static_peers)


def test_more_neighbours_than_can_be_dialled_are_refused() -> None:
    peers = [f'"10.0.0.{number}"' for number in range(1, 34)]
    assert parse_configuration(f"{MINIMAL}[mesh]\nstatic_peers = [{','.join(peers[:32])}]\n").mesh.static_peers
    mistake = only_mistake_of(f"{MINIMAL}[mesh]\nstatic_peers = [{','.join(peers)}]\n")
    assert "at most 32" in mistake.problem


def test_keys_may_be_written_with_dots_and_windows_line_ends() -> None:
    assert parse_configuration('broker.address = "10.8.0.1"\r\nbroker.port = 1\r\n').broker.port == 1
    assert only_mistake_of('broker.address = "10.8.0.1"\r\nbroker.port = 0\r\n').line == 2


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        load_configuration(tmp_path / "absent.toml")
    assert "sample-configuration" in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_configuration(tmp_path)
    broken = tmp_path / "latin.toml"
    broken.write_bytes(b'[broker]\n# \xe9\naddress = "10.8.0.1"\n')
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(broken)
    assert caught.value.mistakes[0].line == 2
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_configuration(marked).broker.address == "10.8.0.1"


def test_every_key_has_help_and_a_default_or_an_example() -> None:
    for key in KEYS:
        assert key.help.endswith("."), key.path
        assert not isinstance(key.default, Required) or key.example, key.path


LINES = ["[broker]", "[log]", "[x", "a b", "address", "port = ", '"""', "[vpn]", "interfaces = [", '"wg*",', "]", "= 1"]


@given(st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=12)), max_size=12))
def test_any_text_gives_a_configuration_or_mistakes(lines: list[str]) -> None:
    text = os.linesep.join(lines)
    try:
        parse_configuration(text)
    except ConfigurationError as error:
        assert error.mistakes
        assert all(mistake.problem and mistake.remedy for mistake in error.mistakes)


def online(lines: str) -> str:
    return f"{MINIMAL}[online]\nenabled = true\n{lines}\n"


def test_where_the_web_site_hands_in_there_are_no_neighbours_and_no_sticks_unless_said_otherwise() -> None:
    assert not parse_configuration(MINIMAL).online.enabled
    made = parse_configuration(online(""))
    assert (made.mesh.duty, made.usb.mounting) == ("off", "off")
    made = parse_configuration(online('[mesh]\nduty = "always"\n[usb]\nmounting = "udisks"'))
    assert (made.mesh.duty, made.usb.mounting) == ("always", "udisks")


FILES = 'tls_certificate = "/a.crt"\ntls_key = "/a.key"\n'


@pytest.mark.parametrize("address", ["10.9.0.5", "0.0.0.0", "::", "fd00::5"])
def test_the_web_site_is_let_in_from_the_network_by_tls_only(address: str) -> None:
    mistake = only_mistake_of(online(f'listen_address = "{address}"'))
    assert (mistake.key, mistake.line) == ("online.listen_address", 5)
    assert "unencrypted" in mistake.problem
    assert parse_configuration(online(f'listen_address = "{address}"\n{FILES}')).online.listen_address == address


def test_of_the_two_tls_files_none_is_named_alone() -> None:
    assert "one is set" in only_mistake_of(online('tls_key = "/a.key"')).problem
    assert parse_configuration(online(FILES)).online.tls_key == Path("/a.key")


@pytest.mark.parametrize(
    "address", ["localhost", "224.0.0.1", "255.255.255.255", "::ffff:10.0.0.1", "fe80::1%eth0", ""]
)
def test_an_address_that_is_none_of_this_machine_is_a_mistake(address: str) -> None:
    assert only_mistake_of(online(f'listen_address = "{address}"\n{FILES}')).key == "online.listen_address"
