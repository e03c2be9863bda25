"""The consumers' MQTT identities, which their sessions at the broker belong to."""

from __future__ import annotations


def consumer_id(instance: str) -> str:
    """The client identifier of a consumer process."""
    return f"bench-consumer-{instance}"
