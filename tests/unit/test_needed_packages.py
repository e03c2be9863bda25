"""scripts/need-packages: it knows every package that the Makefile and the CI script ask it for."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def asked_for() -> list[str]:
    """The packages named where the script is called, with the Makefile's variables put in."""
    text = "\n".join((ROOT / name).read_text() for name in ("Makefile", ".ci/run")).replace("\\\n", " ")
    variables = dict(re.findall(r"^(\w+) [:?]?= *(.*)$", text, re.MULTILINE))
    calls = " ".join(re.findall(r"need-packages ([^|\n]*)", text))
    return sorted(set(re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], calls).split()))


def named_in(function: str) -> list[str]:
    """The patterns that a function of the script tells apart; the last, for all others, is none of them."""
    body = (ROOT / "scripts" / "need-packages").read_text().split(f"\n{function}() {{\n")[1].split("\n}\n")[0]
    labels = re.findall(r"^    ([\w*| -]+)\)", body, re.MULTILINE)
    return [one for label in labels for one in label.split(" | ") if one != "*"]


def test_packages_are_asked_for() -> None:
    assert {"mosquitto", "postgresql", "syncthing", "qemu-utils", "make"} <= set(asked_for())


@pytest.mark.parametrize("function", ["is_present", "reason"])
@pytest.mark.parametrize("package", asked_for())
def test_a_package_that_is_asked_for_is_known_and_has_its_reason(package: str, function: str) -> None:
    assert any(fnmatch(package, known) for known in named_in(function))
