"""The installed units under a real systemd, set up as docs/installation.md says: center and tablet on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.mosquitto import find_mosquitto
from tests.support.systemd_machine import NoBootError, SystemdMachine, why_no_machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_no_machine() is not None, reason=str(why_no_machine())),
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed: apt-get install mosquitto"),
]

SERVICES = ["census-broker", "census-consumer", "census-receipts", "edge-agent"]
CENTER = "central-broker --passphrase-file /etc/census-center/passphrase"

_STANDING_IN = "/sys/class/net/lo"

_SET_UP_CENTER = f"""
set -e
(umask 077; head -c 24 /dev/urandom | base64 > /etc/census-center/passphrase)
{CENTER} init --address 127.0.0.1
systemd-creds encrypt --name=passphrase /etc/census-center/passphrase /etc/census-center/passphrase.cred
{CENTER} broker
{CENTER} forms add household
systemctl enable --now census-center.target census-broker.service census-broker-reload.path \
    census-consumer.service census-receipts.service census-backup.timer
"""

_SET_UP_TABLET = f"""
set -e
edge-agent sample-configuration > /etc/edge-agent/edge-agent.toml
sed -i 's/^#\\?address = .*/address = "127.0.0.1"/; s/^#\\?interfaces = .*/interfaces = ["lo"]/' \
    /etc/edge-agent/edge-agent.toml
# A broker that comes back is not to be waited for as long as 21,000 tablets would have to.
sed -i 's/^#\\?backoff_seconds_m\\(in\\|ax\\) = .*/backoff_seconds_m\\1 = 1/' /etc/edge-agent/edge-agent.toml
edge-agent enrol request --name 'tablet 17'
{CENTER} enrol /etc/edge-agent/provisioning/request.json --out /root/provisioning.json
edge-agent enrol install /root/provisioning.json
systemctl enable --now edge-agent
useradd --create-home --groups census-submit enumerator
useradd --create-home --groups census-operator looker
"""

_QUICK = """
for unit in census-broker census-consumer census-receipts edge-agent; do
    mkdir -p /etc/systemd/system/$unit.service.d
    printf '[Service]\\nRestartSec=100ms\\n' > /etc/systemd/system/$unit.service.d/quick.conf
done
printf 'WatchdogSec=2s\\n' >> /etc/systemd/system/edge-agent.service.d/quick.conf
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdMachine]:
    try:
        with SystemdMachine(tmp_path_factory.mktemp("systemd")) as booted:
            booted.install()
            for script in (_QUICK, _SET_UP_CENTER, _SET_UP_TABLET):
                booted.shell(script)
            yield booted
    except NoBootError as error:
        pytest.skip(str(error))


def _submit(machine: SystemdMachine, name: str) -> None:
    place = f"/home/enumerator/{name}.json"
    machine.shell(f"""echo '{{"instance_id": "{name}", "household": {{"persons": 3}}}}' > {place}""", user="enumerator")
    machine.shell(f"edge-agent submit --form household {place}", user="enumerator")


def _wait_until_committed(machine: SystemdMachine, sequence: int) -> None:
    machine.wait_for(
        f"""test "$(edge-agent queue show {sequence} --json | python3 -c '
import json, sys
print(json.load(sys.stdin)[0]["state"])')" = synchronised"""
    )


def _newest(machine: SystemdMachine) -> int:
    rows = json.loads(machine.shell("edge-agent queue list --rows 1 --json", user="looker"))
    return int(rows[0]["sequence"]) if rows else 0


def test_questionnaires_of_the_command_and_of_the_drop_folder_are_committed(machine: SystemdMachine) -> None:
    last = _newest(machine) + 2
    _submit(machine, "by-command")
    machine.shell(
        """
        umask 027
        echo '<data id="household" version="1"><meta><instanceID>uuid:by-folder</instanceID></meta></data>' \
            > /var/lib/edge-agent/drop/.by-folder.xml
        mv /var/lib/edge-agent/drop/.by-folder.xml /var/lib/edge-agent/drop/by-folder.xml
        """,
        user="enumerator",
    )
    _wait_until_committed(machine, last)
    events = machine.shell("journalctl --unit=edge-agent CENSUS_EVENT=committed --output=json").splitlines()
    assert max(int(json.loads(event)["CENSUS_LAST_SEQUENCE"]) for event in events) == last
    machine.wait_for("systemctl status edge-agent | grep --quiet 'Status: .0 waiting for their receipt, [1-9]'")
    document = json.loads(machine.shell("central-broker completeness --json", user="census-office"))
    assert [(row["sealed"], row["committed"]) for row in document["devices"]] == [(last, last)]


def test_each_user_gets_to_his_own_part_only(machine: SystemdMachine) -> None:
    assert "census-operator" in machine.try_shell("edge-agent status", user="enumerator").stderr
    assert "census-submit" in machine.try_shell("edge-agent submit /etc/hostname", user="looker").stderr
    for user, path in (
        ("census-office", "/var/lib/census-center/secrets/consumer/tls.key"),
        ("census-receipts", "/var/lib/census-center/secrets/consumer/tls.key"),
        ("census-consumer", "/var/lib/census-center/secrets/receipts/tls.key"),
        ("census-consumer", "/var/lib/census-center/secrets/authority"),
        ("looker", "/etc/edge-agent/provisioning"),
        ("enumerator", "/var/lib/edge-agent/drop"),
        ("looker", "/var/lib/census-center"),
    ):
        assert "Permission denied" in machine.try_shell(f"ls {path} && cat {path}", user=user).stderr


def test_the_backup_unit_frees_the_tablet_of_what_it_copied(machine: SystemdMachine) -> None:
    _submit(machine, "before-backup")
    sequence = _newest(machine)
    _wait_until_committed(machine, sequence)
    machine.shell("for number in 1 2 3 4 5 6 7 8; do touch /var/backups/census-center/census-0$number.sqlite3; done")
    machine.shell("systemctl start census-backup.service")
    kept = machine.shell("ls /var/backups/census-center").split()
    assert len(kept) == 7
    assert kept[0] == "census-03.sqlite3"
    assert machine.shell("stat --format='%U %a' /var/backups/census-center/census-2*").strip() == "census-backup 600"
    machine.wait_for(f"edge-agent queue show {sequence} | grep --quiet 'state  purged'")


@pytest.mark.parametrize("unit", SERVICES)
def test_a_killed_service_is_started_again_and_goes_on(machine: SystemdMachine, unit: str) -> None:
    before = machine.main_process(unit)
    machine.shell(f"kill -KILL {before}")
    machine.wait_for(f"""
        test "$(systemctl show --property=MainPID --value {unit})" != {before} && systemctl is-active {unit}""")
    _submit(machine, f"after-{unit}")
    _wait_until_committed(machine, _newest(machine))


def test_an_agent_that_hangs_is_started_again(machine: SystemdMachine) -> None:
    before = machine.main_process("edge-agent")
    machine.shell(f"kill -STOP {before}")
    machine.wait_for(f"""
        test "$(systemctl show --property=MainPID --value edge-agent)" != {before} && systemctl is-active edge-agent""")
    assert "Watchdog timeout" in machine.shell("journalctl --unit=edge-agent --identifier=systemd")
    machine.wait_for("edge-agent status")


def test_a_revocation_reaches_the_running_broker_by_itself(machine: SystemdMachine) -> None:
    before = machine.main_process("census-broker")
    machine.shell(f"{CENTER} devices standing 'tablet 17' revoked")
    machine.wait_for("journalctl --unit=census-broker | grep --quiet 'Reloaded census-broker'")
    assert machine.main_process("census-broker") == before
    machine.shell("systemctl restart census-broker")
    machine.wait_for("systemctl status edge-agent | grep --quiet 'Status: .*not connected'")
    machine.shell(f"{CENTER} devices standing 'tablet 17' active")


def test_keys_that_root_makes_later_can_be_used_by_their_service(machine: SystemdMachine) -> None:
    machine.shell(f"{CENTER} keys rotate recipient; {CENTER} keys rotate receipt")
    owners = machine.shell("stat --format='%U %n' /var/lib/census-center/secrets/*/re*.sealed").split()[::2]
    assert owners == ["census-consumer", "census-consumer", "census-receipts", "census-receipts"]
    machine.shell("systemctl restart census-consumer census-receipts")
    assert machine.shell("systemctl is-active census-consumer census-receipts").split() == ["active", "active"]


def test_the_watch_over_usb_hears_udev_and_reaches_udisks_within_the_limits_of_the_unit(
    machine: SystemdMachine,
) -> None:
    if machine.try_shell("systemctl is-active udisks2").returncode:
        pytest.skip("udisks2 is not installed")
    assert "no medium has been plugged in" in machine.shell("edge-agent media list", user="looker")
    process = machine.main_process("edge-agent")
    told = machine.shell(f"journalctl --unit=edge-agent _PID={process} --output=json").splitlines()
    events = {json.loads(line).get("CENSUS_EVENT") for line in told}
    assert "started" in events and not events & {"part_failed", "media_unavailable", "hotplug_failed"}
    # The subscription to udev's notices: the kernel lists it by its port, which is the process's number.
    assert any(
        line.split()[1:3] == ["15", str(process)] for line in machine.shell("cat /proc/net/netlink").splitlines()
    )


def test_people_are_told_of_media_within_the_limits_of_the_unit(machine: SystemdMachine) -> None:
    """No kernel of a test machine has a light: another folder of sysfs that is a link stands in its place."""
    machine.shell(
        f"""
        set -e
        # Of a container's own sysfs every part is read-only; a machine's is not.
        for place in /sys /sys/class /sys/devices; do mount -o remount,bind,rw $place; done
        examples=/usr/local/share/doc/census-sync/examples
        sed 's|/sys/class/leds/.*|{_STANDING_IN}|' $examples/edge-agent-led.conf \\
            > /etc/systemd/system/edge-agent.service.d/led.conf
        sed -i 's/^#\\?notify_group = .*/notify_group = "census-submit"/; s/^#\\?led = .*/led = "no-such-light"/' \\
            /etc/edge-agent/edge-agent.toml
        systemctl daemon-reload
        systemctl restart edge-agent
        """
    )
    machine.wait_for("test -S /run/edge-agent/notices.sock")
    process = machine.main_process("edge-agent")
    mounts = [line.split() for line in machine.shell(f"cat /proc/{process}/mountinfo").splitlines()]
    real = machine.shell(f"realpath {_STANDING_IN}").strip()
    options = {words[4]: words[5].split(",") for words in mounts}
    assert "rw" in options[real] and "ro" in options["/sys/devices"], options
    listen = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/edge-agent/notices.sock\")'"
    machine.shell(listen, user="enumerator")
    assert "Permission denied" in machine.try_shell(listen, user="looker").stderr
    told = machine.shell(f"journalctl --unit=edge-agent _PID={process} CENSUS_EVENT=led_failed --output=cat")
    assert "no-such-light" in told and len(told.splitlines()) == 1
    findings = json.loads(machine.try_shell("edge-agent doctor --json").stdout)["findings"]
    found = {one["found"]: one["verdict"] for one in findings if one["check"] == "media"}
    assert found["there is no light no-such-light (usb.led)"] == "problem"
    assert found["desktops of the group census-submit are told (edge-agent notify)"] == "ok"
