"""What of the configuration the engine and each adapter need, in their own words."""

from __future__ import annotations

from edge_agent.configuration import Configuration
from edge_agent.configuration_kinds import peer_address
from edge_agent.engine.settings import SECOND, EngineSettings
from edge_agent.mesh.dialling import Address
from edge_agent.mesh.duty import Duty
from edge_agent.mesh.interfaces import InterfaceRules
from edge_agent.mesh.mesh_watch import MeshWatchSettings
from edge_agent.mqtt.publisher import PublisherSettings
from edge_agent.queue.intake.online.certificate import TlsFiles
from edge_agent.queue.intake.online.endpoint import OnlineSettings
from edge_agent.queue.intake.openrosa.endpoint import OpenRosaSettings

_MEGABYTE = 1024 * 1024


def engine_settings(configuration: Configuration) -> EngineSettings:
    """Return what of the configuration the engine needs."""
    sync = configuration.sync
    return EngineSettings(
        receipt_wait=sync.receipt_wait_seconds * SECOND,
        receipt_wait_max=max(EngineSettings.receipt_wait_max, sync.receipt_wait_seconds * SECOND),
        receipt_silence_alarm=sync.receipt_silence_alarm_seconds * SECOND,
        foreign_bytes_max=configuration.mesh.foreign_megabytes_max * _MEGABYTE,
    )


def publisher_settings(configuration: Configuration) -> PublisherSettings:
    """Return what of the configuration the publisher needs."""
    broker = configuration.broker
    return PublisherSettings(
        address=broker.address,
        port=broker.port,
        keepalive_seconds=broker.keepalive_seconds,
        session_expiry_seconds=broker.session_expiry_seconds,
        connect_timeout_seconds=broker.connect_timeout_seconds,
        backoff_seconds_min=broker.backoff_seconds_min,
        backoff_seconds_max=broker.backoff_seconds_max,
        bundles_in_flight_max=configuration.sync.bundles_in_flight_max,
        bundle_bytes_max=configuration.sync.bundle_bytes_max,
    )


def openrosa_settings(configuration: Configuration) -> OpenRosaSettings:
    """Return what of the configuration the OpenRosa endpoint needs."""
    intake = configuration.intake
    return OpenRosaSettings(
        state_directory=configuration.device.state_directory,
        port=intake.openrosa_port,
        origins=frozenset(intake.openrosa_origins),
        questionnaire_bytes_max=intake.questionnaire_bytes_max,
    )


def online_settings(configuration: Configuration) -> OnlineSettings:
    """Return what of the configuration the endpoint of the census web site needs; it is enabled."""
    online = configuration.online
    tls = None
    if online.tls_certificate is not None and online.tls_key is not None:
        tls = TlsFiles(online.tls_certificate, online.tls_key)
    return OnlineSettings(
        state_directory=configuration.device.state_directory,
        address=online.listen_address,
        port=online.port,
        tls=tls,
        tokens_file=online.tokens_file,
        connections_max=online.connections_max,
        questionnaire_bytes_max=configuration.intake.questionnaire_bytes_max,
    )


def mesh_rules(configuration: Configuration) -> InterfaceRules:
    """Return which interfaces the mesh leaves alone."""
    return InterfaceRules(configuration.vpn.interfaces, configuration.mesh.excluded_interfaces)


def mesh_settings(configuration: Configuration) -> MeshWatchSettings:
    """Return what of the configuration the mesh needs; its duty is not "off"."""
    mesh = configuration.mesh
    peers = [peer for peer in map(peer_address, mesh.static_peers) if peer is not None]
    return MeshWatchSettings(
        rules=mesh_rules(configuration),
        port=mesh.port,
        discovery=mesh.discovery,
        static_peers=tuple(Address(peer.host, peer.port or mesh.port) for peer in peers),
        duty=Duty(mesh.duty),
        interval_minutes=mesh.interval_minutes,
    )
