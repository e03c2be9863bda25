"""The words around the figures in docs/benchmarks.md: how each is measured, and why against that."""

from __future__ import annotations

from typing import Final

TITLES: Final = {
    "submits": "Durable submits on a device",
    "center": "The center, end to end",
    "forms": "Forms: answers, census tables, form programs",
    "broker": "What an evening peak is made of",
    "media": "USB media",
    "mesh": "Neighbours",
    "wire": "Bytes on the wire",
    "idle": "The daemon at rest",
}

OPENING: Final = """\
# Benchmarks

Written by `python -m bench --write` (`make bench ARGS=--write`); do not edit. Every figure stands beside its
limit or a peer that was measured in the same run, in turns (A B A B); rates are medians of the rounds, ratios
are medians of the rounds' own ratios. The machine was not ours alone: trust ratios and CPU time before rates.
"""

_SUBMITS: Final = """\
One by one: each submit is an event of the stepper and one commit of the real SQLite queue (WAL,
synchronous=FULL), head mirror included. *Without the sealing cost* has stubs of the same sizes in the place of
compressing, padding, encrypting and signing; what these cost is a row of its own. The limit is what the disk
itself can do: append one envelope's bytes to a file and fdatasync, on the same file system. The database writes
about nine pages (37 KB) for it: an envelope of 2.3 KB and its places in the indexes.

Through the socket: the real daemon, a form program that waits for each answer, or with 32 requests under way,
which share commits.
"""

_CENTER: Final = """\
What devices sent lies in the consumers' sessions at a real mosquitto (the product's own configuration, TLS)
before the clock starts, so that publishing costs nothing measured. Measured is from letting the consumers
connect until a receipt for every envelope, signed and published by the real receipt publisher, has reached a
subscriber. Broker, database, publisher and consumers share the cores. All is configured as `central-broker init`
does, but the publisher looks every 100 ms instead of every second: a run takes seconds, and would otherwise
measure the wait for its last receipt.

*Backlog*: devices that were away; bundles as the engine fills them. *Trickle*: every envelope in a bundle of its
own, with its head, from devices that take turns. The aims are judged on the backlog: capacity is needed when
21,000 tablets come back at once with what they hold; a trickle comes no faster than interviews end (552,000
within one evening hour are 153 a second).

*Floor*: verify, open and decode the same kind of envelopes in as many processes, then store the same bytes raw
in one transaction without an index (COPY; for SQLite executemany), both times added. *Straightforward consumer*
(`bench/straightforward_consumer.py`): aiomqtt, pydantic, one INSERT and one commit an envelope, the same
cryptography, the same durability, no receipts, nothing held; measured until its last commit.

How far ahead of the straightforward consumer anything can be is bounded by the cryptography, which both do: the
rows of *the floor itself* say how far. With this disk left alone a commit takes a quarter of a millisecond, and
even the floor is then only 3 to 5 times as fast; while others keep the disk busy, commits cost more and all
ratios to this peer grow. Therefore the same once more with a PostgreSQL whose every commit takes 2 ms longer
(`commit_delay`), as it does where the log goes to a synchronous replica or to network storage, which that of a
census database should.
"""

_WIRE: Final = """\
A real daemon sends through a relay that counts TCP payload, which is all of TLS and MQTT, both ways: bundle and
head up, PUBACK and receipts down. Sealing is 1,296 bytes (header, key encapsulation, tag, signature); content is
padded to a multiple of 1 KB so that its size tells little of its answers.
"""

_IDLE: Final = """\
A real daemon, provisioned, connected to a real broker with the loopback interface as its VPN, everything
receipted. Resident memory counts pages of libraries that other processes share, too. CPU to start is that of all
threads until the connection stands, from compiled modules as they are installed. A wakeup is a voluntary context
switch of any thread.
"""

_FORMS: Final = """\
Popstan households as their form submits them. *Content, and rows of the tables*: what acceptance does to a
questionnaire after it is opened: the body is checked and parsed, written as the JSON that both databases accept,
read again by the form's plan, and becomes typed rows and findings. The peer parses the same bytes and throws the
result away: to Python objects, by C in both cases.

*Committed with their rows*: batches as consumers commit them, with everything that belongs to it: places in the
chain, exact body and content, receipts wanted, then the rows of every census table. The peer stores those rows only,
in one transaction, without asking whether they are there already: COPY, or executemany, into the same tables with the
same keys and indexes. CPU is microseconds a row.

The endpoint: the real daemon, no broker to be reached, questionnaires over HTTP as ODK Collect sends them, one
connection each. Peak memory is VmHWM. The aim of the soak is what ODK Central's own load test of that form sends;
here each answer comes after the envelope's fdatasync, on a device that seals.
"""

_BROKER: Final = """\
CPU time of a real mosquitto (the product's own configuration: TLS 1.3, certificates of both sides, access list,
revocations) divided by how often each thing was done; of the consumer, the receipt publisher and PostgreSQL for what
is theirs. From two loads, an evening's backlog of 26 questionnaires a tablet and the same envelopes one to a bundle,
follows what a bundle costs by itself and what each envelope adds. `python -m tests.simulator.evening_peak` makes
an evening out of these figures; `docs/evening-peak.md` says what a site needs.
"""

_MEDIA: Final = """\
The product's own watch, visit, engine and queue, from the event that tells of a block device; only hotplug itself is
not there. The peer is one `cp -r` of the very files that a visit left, with fsync of every file and folder, between
the same mounting and unmounting, in turns; every run begins with an empty file system. Each of the two halves of an
offload has the peer that does the same: *until unmounted* is when everything is on the medium, *until safe to remove*
is after it was mounted once more and read back. The peer of an import is `cp` from the medium to the disk of the
queue, with fsync; counted is from the plug until the last envelope is in the queue. *Signature checks aside*: the
check of a signature is replaced by none; what one costs is a row of its own. *Own* is what is not spent in calls on
the medium (reading, writing, syncing, mounting): the time in which the medium is kept waiting, be it for the queue's
own disk.

*On this disk*: a loop device on a file of this disk, past its cache. *As slow as a stick*: a loop device on a file
whose server lets every request take 1 ms and 10 MB/s (writing) or 30 MB/s (reading), one at a time, as a plain USB 2.0
stick does; the time in which nothing is asked of it is lost, as it is with a stick. *Memory*: tmpfs, the queue there
too: what is left is the work of our own. The aim is meant for media as people carry them. A disk of a server copies
an envelope's 2.3 KB in 6 µs: to put them into a database durably, or even to check their digests as often as is
needed, takes longer.
"""

_MESH: Final = """\
Two processes on the loopback interface, each the product's own runner, engine, queue and links with certificates of
one authority: a tablet with a backlog, and a collection point that it has never met, which takes everything. Measured
is from when both have said hello until the tablet has the answer for the last envelope: it is then verified and on the
other's disk, and the tablet has noted it. The limit is the same bytes over one connection with the same TLS, written
into one file with fsync for every 256 KiB, and one answer at the end: nothing is looked at, found, refused or taken up
again. *Signature checks aside*: the check of a signature is replaced by none; what one costs is a row of the USB media.
*As fast as Wi-Fi*: a relay lies between the two, for the limit as well.

The other peer is Syncthing (Debian's package) with the same envelopes as files, in its stead and in the same turns:
two of it with fresh homes, discovery, relays, reports and upgrades off. Once with the files in one folder and all else
as installed; once in the layout that suits it: 256 folders, and it need not look for names that differ by case.
The first knows its files before the two meet; measured is from when they
are connected until the second is at rest with all of them, by its own events.

A meeting without news is what a relay counts (TCP payload both ways, TLS included) when two devices that know the same
30 origins (certificate, receipt and head of each) have met before and meet again. The other rows are one device, as
above, alone and with neighbours that have nothing to say; a wakeup is a voluntary context switch of any thread.
"""

EXPLANATIONS: Final = {
    "submits": _SUBMITS,
    "center": _CENTER,
    "forms": _FORMS,
    "broker": _BROKER,
    "media": _MEDIA,
    "mesh": _MESH,
    "wire": _WIRE,
    "idle": _IDLE,
}
