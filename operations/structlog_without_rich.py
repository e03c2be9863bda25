"""structlog, imported the small way; import it from here or use `operations.journal.get_logger`.

structlog imports rich when it finds it installed: 5 MB resident in a daemon that never draws a table. A None in
sys.modules makes that one import fail as if rich were not there; the commands import rich themselves afterwards.
"""

import sys

if "rich" in sys.modules:
    import structlog
else:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python documents blocking one import
    try:
        import structlog
    finally:
        del sys.modules["rich"]

__all__ = ["structlog"]
