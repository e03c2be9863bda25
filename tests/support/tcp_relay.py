"""The demo's TCP relay, under the name by which tests import it."""

from demo.tcp_relay import LinkCounters, LinkState, TcpRelay

__all__ = ["LinkCounters", "LinkState", "TcpRelay"]
