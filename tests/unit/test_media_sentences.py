"""Sentences on media in every language, and the hook that is told them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import polib
import pytest
from structlog.testing import capture_logs

from edge_agent.configuration import UsbConfiguration
from edge_agent.engine.media import Enrolled, LeftAlone
from edge_agent.usb_watch import hook as hook_module
from edge_agent.usb_watch import sentences
from edge_agent.usb_watch.actions import Ending, Outcome, Progress, Stage
from edge_agent.usb_watch.hook import Hook
from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.mounting import MountRefusal, MountRefused
from edge_agent.usb_watch.sentences import DO_NOT_REMOVE, LANGUAGES, MOUNTING, sentences_in
from edge_agent.usb_watch.signs import word_for

CATALOGS = Path(sentences.__file__).parents[1] / "locale"
SAID = [MOUNTING, DO_NOT_REMOVE] + [one.value for kind in (Stage, Ending, LeftAlone, MountRefusal) for one in kind]


def state(outcome: Outcome | MountRefused | None = None, stage: Stage | None = None) -> MediumState:
    return MediumState("0" * 16, "/dev/sdb1", 1, stage=stage, outcome=outcome, number="0017")


def ended(ending: Ending, detail: str = "") -> MediumState:
    return state(Outcome(ending, Enrolled(bytes(16), "0017", "somebody"), Progress(), detail))


def test_the_languages_are_those_of_the_configuration() -> None:
    assert get_args(get_type_hints(UsbConfiguration)["language"]) == LANGUAGES
    assert {path.name for path in CATALOGS.iterdir()} == set(LANGUAGES) - {"en"}


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_a_catalog_has_every_sentence_and_is_compiled_from_its_source(language: str) -> None:
    folder = CATALOGS / language / "LC_MESSAGES"
    source, compiled = polib.pofile(str(folder / "edge_agent.po")), polib.mofile(str(folder / "edge_agent.mo"))
    translated = {entry.msgid: entry.msgstr for entry in source}
    assert set(translated) == set(SAID)
    assert all(translated.values()) and len(set(translated.values())) == len(translated)
    assert {entry.msgid: entry.msgstr for entry in compiled} == translated


@pytest.mark.parametrize(
    ("language", "one", "sentence"),
    [
        ("en", state(), "mounting: do not remove it"),
        ("en", state(stage=Stage.WRITING), "writing: do not remove it"),
        ("ru", state(stage=Stage.WRITING), "запись: не вынимайте"),
        ("kk", ended(Ending.SAFE), "суырып алуға болады"),
        ("en", ended(Ending.LEFT_ALONE, LeftAlone.UNKNOWN.value), "not touched: it is not enrolled"),
        ("ru", ended(Ending.LEFT_ALONE, LeftAlone.UNKNOWN.value), "носитель не тронут: он не зарегистрирован"),
        ("ru", ended(Ending.UNREADABLE, "Input/output error"), "носитель неисправен: возьмите другой"),
        ("en", state(MountRefused(MountRefusal.VANISHED, "x")), MountRefusal.VANISHED.value),
    ],
)
def test_a_visit_is_told_in_one_sentence(language: str, one: MediumState, sentence: str) -> None:
    assert sentences_in(language)(one) == sentence


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (state(), "working"),
        (ended(Ending.SAFE), "safe"),
        (ended(Ending.LEFT_ALONE), "safe"),
        (ended(Ending.GONE), "failed"),
        (state(MountRefused(MountRefusal.DAMAGED, "")), "failed"),
    ],
)
def test_a_visit_is_told_by_one_of_three_words(one: MediumState, word: str) -> None:
    assert word_for(one).value == word


def script(folder: Path, text: str) -> Path:
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def tell(command: Path, one: MediumState, until: Callable[[], bool]) -> None:
    async def main() -> None:
        Hook(command, sentences_in("ru")).tell(Turn.ENDED, one)
        async with asyncio.timeout(20):
            while not until():
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_the_hook_is_run_with_the_word_and_the_sentence(tmp_path: Path) -> None:
    told = tmp_path / "told"
    passing = tmp_path / "passing"
    text = f'echo "$1|$MEDIUM_NUMBER|$MEDIUM_NODE|$MEDIUM_SENTENCE" > {passing}; mv {passing} {told}'
    tell(script(tmp_path, text), ended(Ending.SAFE), told.exists)
    assert told.read_text() == "safe|0017|/dev/sdb1|можно вынимать\n"


def test_the_hook_is_run_once_for_each_word(tmp_path: Path) -> None:
    told = tmp_path / "told"

    async def main() -> None:
        hook = Hook(script(tmp_path, f'echo "$1" >> {told}'), sentences_in("en"))
        for turn, one in (
            (Turn.BEGAN, state()),
            (Turn.STAGE, state(stage=Stage.READING)),
            (Turn.STAGE, state(stage=Stage.WRITING)),
            (Turn.OUT, state()),
            (Turn.ENDED, ended(Ending.GONE)),
        ):
            hook.tell(turn, one)
        async with asyncio.timeout(20):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert sorted(told.read_text().split()) == ["failed", "working"]


@pytest.mark.parametrize(
    ("text", "problem"), [("exit 3", "it ended with 3"), (None, "No such file"), ("exec sleep 60", "not done in")]
)
def test_a_hook_that_fails_is_told_of_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, problem: str
) -> None:
    monkeypatch.setattr(hook_module, "_TIMEOUT_SECONDS", 0.2 if text and "sleep" in text else 20)
    command = tmp_path / "hook" if text is None else script(tmp_path, text)
    with capture_logs() as logs:
        tell(command, ended(Ending.SAFE), lambda: any(log["event"] == "hook_failed" for log in logs))
    assert problem in logs[0]["problem"]
