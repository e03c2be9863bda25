"""The closing account: what was accepted on the tablets against what stands in the census database, drawn from
both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from demo.field import Center, Device, Field
from edge_agent.queue.inspection import QUESTIONNAIRE


@dataclass(frozen=True)
class DeviceBalance:
    """One tablet's account of questionnaires; the key that it may have told the center is none.

    `sealed` is what its head says, without that key, `committed` and `doubled` are counted in the database, `lost` is
    what was accepted and is nowhere, `marks_equal` counts the sync marks on the tablet that are exactly the database's
    commit times.
    """

    name: str
    accepted: int
    sealed: int
    committed: int
    doubled: int
    lost: int
    marks_equal: int
    purged: int


@dataclass(frozen=True)
class Balance:
    """The whole account."""

    devices: Sequence[DeviceBalance]

    @property
    def balances(self) -> bool:
        """Everything accepted is committed once, and every sync mark is its commit time."""
        return all(
            one.accepted == one.sealed == one.committed == one.marks_equal == one.purged
            and not one.doubled
            and not one.lost
            for one in self.devices
        )

    def document(self) -> dict[str, Any]:
        """Return the account for programs."""
        rows = [vars(one) for one in self.devices]
        sums = {name: sum(row[name] for row in rows) for name in rows[0] if name != "name"}
        return {"balances": self.balances, **sums, "devices": rows}

    def table(self) -> Table:
        """Return the account for people."""
        verdict = "[green]it balances[/]" if self.balances else "[bold red]IT DOES NOT BALANCE[/]"
        table = Table(
            title=f"the account: {verdict}",
            title_justify="left",
            show_footer=True,
            caption="sync marks: those that are exactly the commit times in the census database",
        )
        document = self.document()
        names = ("accepted", "sealed", "committed", "doubled", "lost", "marks_equal", "purged")
        titles = ("accepted", "sealed", "committed", "doubled", "lost", "sync marks", "purged")
        table.add_column("tablet", footer="all")
        for name, title in zip(names, titles, strict=True):
            table.add_column(title, justify="right", footer=str(document[name]))
        for one in self.devices:
            table.add_row(one.name, *(str(getattr(one, name)) for name in names))
        return table


def draw_up(field: Field) -> Balance:
    """Draw the account from the devices' queues and the database itself."""
    sealed = {row["device"]: row["sealed"] for row in field.center.ask("completeness")["devices"]}
    committed = committed_questionnaires(field.center)
    return Balance([_device_balance(device, sealed, committed) for device in field.devices])


def _device_balance(
    device: Device, sealed: Mapping[str, int], committed: Sequence[CommittedQuestionnaire]
) -> DeviceBalance:
    everything = [row for row in device.envelopes() if row["own"]]
    rows = [row for row in everything if row["kind"] == QUESTIONNAIRE]
    origin = device.status()["device"]
    own = [one for one in committed if one.origin == origin]
    times = {one.id: one.committed_at for one in own}
    instances = Counter(one.instance_id for one in own)
    return DeviceBalance(
        name=device.name,
        accepted=device.accepted,
        sealed=sealed.get(origin, 0) - (len(everything) - len(rows)),
        committed=len(own),
        doubled=sum(count - 1 for count in instances.values()),
        lost=sum(row["id"] not in times for row in rows),
        marks_equal=sum(row["committed_at"] == times.get(row["id"], 0) for row in rows),
        purged=sum(row["state"] == "purged" for row in rows),
    )


@dataclass(frozen=True)
class CommittedQuestionnaire:
    """One row of the census database; `committed_at` in microseconds."""

    id: str
    origin: str
    instance_id: str
    committed_at: int


def committed_questionnaires(center: Center) -> list[CommittedQuestionnaire]:
    """Return what stands in the census database, read from it directly."""
    rows = center.query(
        "SELECT questionnaire.id, questionnaire.origin, instance_id, batch.committed_at "
        "FROM questionnaire JOIN batch ON batch.id = questionnaire.batch"
    )
    return [CommittedQuestionnaire(bytes(row[0]).hex(), bytes(row[1]).hex(), row[2], row[3]) for row in rows]
