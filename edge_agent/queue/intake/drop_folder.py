"""The watched drop folder: a file moved into it is sealed and taken away.

A file is first renamed into `taken/` under a name of its own; that name is the submission's occasion. So a crash at
any moment leaves either a file that is taken again, or one that was accepted already and is only removed. What is
refused moves to `refused/`, with the reason beside it.

Names that begin with a dot (of folders, too) or end in `.part` or `.tmp` are left alone: programs write under such a
name and rename when done. `FORM/FILE` names the form by the subfolder. `.jsonl` holds one questionnaire a line, all
of which are accepted, or none.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from asyncinotify import Inotify, Mask

from edge_agent.engine.effects import Accepted
from edge_agent.queue.intake.intake import Intake
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable
from operations.journal import get_logger
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX

log = get_logger()

TAKEN: Final = "taken"
REFUSED: Final = "refused"
JSON_LINES_SUFFIX: Final = ".jsonl"
_UNFINISHED_SUFFIXES: Final = (".part", ".tmp")
_FILE_BYTES_MAX: Final = 16 * QUESTIONNAIRE_BYTES_MAX
_SETTLED_SECONDS: Final = 5
"""A file found by looking, not by its writer's closing it, must have been left alone for so long."""
_ABANDONED_SECONDS: Final = 900
"""A file whose making was seen but not its closing is being written, however slowly, unless it rests for so long."""
_NAME_BYTES_MAX: Final = 255
"""What Linux file systems allow for one name."""
_KEPT_NAME_BYTES_MAX: Final = 100
"""What is kept of a file's own name; so `taken/` and `refused/` have room for what they add to it."""
_FORM_BYTES_MAX: Final = _NAME_BYTES_MAX - _KEPT_NAME_BYTES_MAX - len(f"{uuid.UUID(int=0).hex}~~")
_LOOK_INTERVAL_SECONDS: Final = 600
"""Notices can be lost; a look now and then finds what they missed."""


class DropFolder:
    """Watches one folder and its form subfolders."""

    def __init__(self, directory: Path, intake: Intake, clock: Callable[[], int]) -> None:
        self._directory = directory
        self._intake = intake
        self._clock = clock
        self._being_written: set[Path] = set()

    async def run(self) -> None:
        """Take what is there and what comes, until cancelled; raises OSError when the folder cannot be used."""
        for name in (TAKEN, REFUSED):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        with Inotify() as notices:
            mask = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.CREATE
            notices.add_watch(self._directory, mask)
            for folder in self._form_folders():
                _watch(notices, folder, mask)
            while True:
                waits_for = await self._look()
                await self._follow(notices, mask, waits_for)

    async def _follow(self, notices: Inotify, mask: Mask, seconds: float) -> None:
        """Take files as their writers finish them, for so many seconds; then it is time to look again."""
        try:
            async with asyncio.timeout(seconds):
                async for notice in notices:
                    path = notice.path
                    if path is None:
                        # Notices were lost, or a folder is gone: what was known of open files may be wrong.
                        self._being_written.clear()
                        return
                    if notice.mask & Mask.ISDIR:
                        if path.parent == self._directory and self._is_form_folder(path):
                            _watch(notices, path, mask)
                        return
                    if notice.mask & Mask.CREATE:
                        self._being_written.add(path)
                    else:
                        self._being_written.discard(path)
                        await self._take(path)
        except TimeoutError:
            return

    async def _look(self) -> float:
        """Take every file that has settled; return in how many seconds to look again."""
        unsettled = False
        for left_over in sorted((self._directory / TAKEN).iterdir()):
            await self._submit(left_over)
        for path in list(self._candidates()):
            try:
                age_seconds = self._clock() / 1_000_000 - path.stat().st_mtime
            except OSError:
                continue
            if path in self._being_written and 0 <= age_seconds < _ABANDONED_SECONDS:
                continue
            if 0 <= age_seconds < _SETTLED_SECONDS:
                unsettled = True
            else:
                self._being_written.discard(path)
                await self._take(path)
        self._being_written = {path for path in self._being_written if path.exists()}
        return _SETTLED_SECONDS if unsettled else _LOOK_INTERVAL_SECONDS

    def _form_folders(self) -> Iterator[Path]:
        for path in sorted(self._directory.iterdir()):
            if self._is_form_folder(path):
                yield path

    def _is_form_folder(self, path: Path) -> bool:
        if path.name in (TAKEN, REFUSED) or path.name.startswith("."):
            return False
        return path.is_dir() and not path.is_symlink()

    def _candidates(self) -> Iterator[Path]:
        for folder in (self._directory, *self._form_folders()):
            try:
                paths = sorted(folder.iterdir())
            except OSError:
                # A form's folder may vanish between two looks.
                continue
            for path in paths:
                if path.is_file() and not path.is_symlink():
                    yield path

    async def _take(self, path: Path) -> None:
        """Rename a finished file into `taken/` and submit it."""
        name = path.name
        if name.startswith(".") or name.endswith(_UNFINISHED_SUFFIXES) or path.is_symlink() or not path.is_file():
            return
        form = "" if path.parent == self._directory else _quoted(path.parent.name)
        form_fits = len(os.fsencode(form)) <= _FORM_BYTES_MAX
        taken = self._directory / TAKEN / f"{uuid.uuid4().hex}~{form if form_fits else ''}~{_kept_name(name)}"
        try:
            path.rename(taken)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("drop_unreadable", file=name, problem=str(error))
            return
        if form_fits:
            await self._submit(taken)
        else:
            why = Unacceptable(
                f"its folder's name has more than {_FORM_BYTES_MAX} bytes", "name the folder by the form"
            )
            self._refuse(taken, _kept_name(name), why)

    async def _submit(self, taken: Path) -> None:
        """Submit a file in `taken/`. Trouble with one file is told and leaves it there: the next look tries again."""
        _, form, name = (*taken.name.split("~", 2), "", "")[:3]
        try:
            raws = _read(taken, form.replace("%7E", "~").replace("%25", "%"))
            answers = [raws] if isinstance(raws, Unacceptable) else await self._intake.take(raws, taken.name)
            self._conclude(taken, name, answers)
        except OSError as error:
            log.error("drop_unreadable", file=name, problem=str(error))

    def _conclude(self, taken: Path, name: str, answers: Sequence[Accepted | Unacceptable]) -> None:
        refusals = [answer for answer in answers if not isinstance(answer, Accepted)]
        if any(refusal.again for refusal in refusals):
            # It stays where it is; the next look submits it again.
            log.warning("drop_postponed", file=name, problem=refusals[0].problem, remedy=refusals[0].remedy)
        elif refusals:
            self._refuse(taken, name, refusals[0])
        else:
            taken.unlink(missing_ok=True)

    def _refuse(self, taken: Path, name: str, why: Unacceptable) -> None:
        target = self._directory / REFUSED / f"{taken.name[:8]}-{name}"
        reason = f"{why.problem}\nwhat to do: {why.remedy}\n"
        try:
            Path(f"{target}.why.txt").write_text(reason, encoding="utf-8", errors="backslashreplace")
            taken.rename(target)
        except OSError as error:
            log.error("drop_unreadable", file=name, problem=str(error))
        else:
            log.warning("drop_refused", file=name, problem=why.problem, remedy=why.remedy)


def _read(path: Path, form: str) -> list[RawSubmission] | Unacceptable:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > _FILE_BYTES_MAX:
            return Unacceptable(f"the file has more than {_FILE_BYTES_MAX:,} bytes", "split it")
        data = file.read()
    if path.name.endswith(JSON_LINES_SUFFIX) and data.strip():
        return [RawSubmission(line, form=form) for line in data.splitlines() if line.strip()]
    return [RawSubmission(data, form=form)]


def _watch(notices: Inotify, folder: Path, mask: Mask) -> None:
    # A folder may be gone, or be closed to us, before it is watched; looking finds what can be found.
    with suppress(OSError):
        notices.add_watch(folder, mask)


def _quoted(form: str) -> str:
    """Return a folder's name as part of a file's name, where a tilde separates the parts."""
    return form.replace("%", "%25").replace("~", "%7E")


def _kept_name(name: str) -> str:
    """Return a readable name that leaves room for what is added to it; its end, with the suffix, is kept."""
    readable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return readable.encode()[-_KEPT_NAME_BYTES_MAX:].decode(errors="ignore")
