"""The demo's handling of processes, under the name by which tests import it."""

from demo.processes import (
    DeadlineError,
    RunningProcess,
    accepts_connections,
    free_port,
    wait_until,
)

__all__ = ["DeadlineError", "RunningProcess", "accepts_connections", "free_port", "wait_until"]
