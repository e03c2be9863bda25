"""`python -m tests.fuzz TARGET --seconds N`: coverage-guided fuzzing of one target with atheris (libFuzzer).

Ends with 0 when nothing was found. What was found lies as a file in the corpus folder's `found`, and belongs into
`tests/fuzz/found/TARGET` once it is mended: `test_targets.py` reads it ever after. 3: atheris is not installed.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ["central_broker", "edge_agent", "sync_protocol", "python_multipart", "defusedxml"]
_BYTES_MAX: Final = 20_000
_SECONDS_EACH_MAX: Final = 10
_MEGABYTES_MAX: Final = 700
"""Of the fuzzer with its corpus; atheris itself and the modules under it have about 150."""


def main() -> None:
    """Fuzz until the time is over or something is found."""
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.stderr.write("atheris is not installed, or there is none for this Python: pip install atheris\n")
        raise SystemExit(3) from None
    with atheris.instrument_imports(include=_PACKAGES):
        from tests.fuzz.targets import TARGETS
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one target.")
    words.add_argument("target", choices=TARGETS)
    words.add_argument("--seconds", type=int, default=60)
    words.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="kept from run to run")
    given = words.parse_args()
    target = TARGETS[given.target]
    folder = given.corpus / given.target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    (folder / "found").mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={given.seconds}",
        f"-max_len={_BYTES_MAX}",
        f"-timeout={_SECONDS_EACH_MAX}",
        f"-rss_limit_mb={_MEGABYTES_MAX}",
        f"-artifact_prefix={folder / 'found'}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    if target.dictionary:
        (folder / "dictionary").write_text("".join(f'"{_escaped(word)}"\n' for word in target.dictionary))
        options.append(f"-dict={folder / 'dictionary'}")
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], target.read)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    main()
