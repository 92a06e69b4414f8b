"""Every verb maps errors to exit codes in the same way."""

from __future__ import annotations

import errno
import tempfile

import pytest

from jobs import cli
from jobs.common.verb import Stopped, WrongUsage, run_verb
from pipelines.storage import StorageError


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (WrongUsage("choose another"), cli.WRONG_USAGE, "v2a dub: choose another\n"),
        (Stopped("no"), cli.SOME_FAILED, "v2a dub: no\nTo resume, run:\n  v2a dub in out\n"),
        (
            StorageError("full"),
            cli.SOME_FAILED,
            "v2a dub: full\nTo resume, run:\n  v2a dub in out\n",
        ),
        (
            KeyboardInterrupt(),
            cli.INTERRUPTED,
            "v2a dub: interrupted\nTo resume, run:\n  v2a dub in out\n",
        ),
    ],
)
def test_errors_become_exit_codes_and_a_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(console: object) -> int:
        raise error

    assert run_verb("dub", "v2a dub in out", body) == code
    assert capsys.readouterr() == ("", message)


def test_a_full_disk_is_an_error_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    def body(console: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/rows")

    assert run_verb("scan", "", body) == cli.SOME_FAILED
    assert "No space left on device: '/scratch/rows'" in capsys.readouterr().err


def test_a_machine_without_temporary_files_is_told_what_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert run_verb("scan", "", lambda console: 0) == cli.WRONG_USAGE
    assert "TMPDIR" in capsys.readouterr().err


def test_names_in_messages_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def body(console: object) -> int:
        raise Stopped("the film \x1b[2J\x1b]0;owned\x07.mp4 is gone\nrun it again")

    run_verb("scan", "", body)
    assert (
        capsys.readouterr().err == "v2a scan: the film \\x1b[2J\\x1b]0;owned\\x07.mp4 is gone\nrun it again\n"
    )


def test_without_anything_to_resume_no_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def body(console: object) -> int:
        raise Stopped("s3://me:secret@bucket is gone")

    assert run_verb("scan", "", body) == cli.SOME_FAILED
    assert capsys.readouterr().err == "v2a scan: s3://***@bucket is gone\n"


def test_other_errors_are_bugs_and_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        run_verb("scan", "", lambda console: 1 // 0)
