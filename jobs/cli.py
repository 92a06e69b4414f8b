"""The command line: `v2a VERB ...`. Every verb is a dataclass of options and a function `run(config)`.

Neither this module nor those of the options import anything heavy, so that help and wrong flags answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import importlib
import io
import os
import re
import select
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One command of the overview."""

    module: str
    """Module of the dataclass and of `run`."""
    config: str
    """Name of the dataclass."""
    summary: str


VERBS = {
    "demo": Verb("jobs.demo", "DemoConfig", "build a small archive, dub it, and print where to look"),
    "scan": Verb("jobs.scan", "ScanConfig", "list an archive and its silent footage"),
    "dub": Verb("jobs.dub", "DubConfig", "give the silent videos of an archive a sound track"),
    "redub": Verb("jobs.redub", "RedubConfig", "regenerate the sound of one part of a dubbed film"),
    "extract": Verb(
        "jobs.extract", "ExtractConfig", "turn footage with sound into a feature store for training"
    ),
    "train": Verb(
        "jobs.train", "TrainConfig", "train a generator on a feature store, on one machine or many"
    ),
    "tune": Verb("jobs.tune", "TuneConfig", "search for the settings with which a generator trains best"),
    "evaluate": Verb(
        "jobs.evaluate", "EvaluateConfig", "score a folder of sounds against the reference sounds"
    ),
    "compare": Verb("jobs.compare", "CompareConfig", "run models on the same clips, side by side"),
    "instruct": Verb(
        "jobs.instruct", "InstructConfig", "write captions and instructions for a feature store's clips"
    ),
    "caption": Verb(
        "jobs.caption", "CaptionConfig", "describe what the films of an archive should sound like"
    ),
    "store": Verb("jobs.store", "StoreConfig", "show what a feature store holds"),
    "verify": Verb("jobs.verify", "VerifyConfig", "check signature, hashes and metadata of dubbed files"),
    "doctor": Verb(
        "jobs.doctor", "DoctorConfig", "show what this machine offers, and what the sandbox holds back"
    ),
    "synth": Verb("jobs.synth", "SynthConfig", "render SynthFoley, a corpus with exact sound events"),
}

EXAMPLES = (
    ("v2a demo", "see it work, in about two minutes"),
    ("v2a scan ~/films", "see how many hours are silent"),
    ("v2a dub ~/films ~/films-dubbed --dry-run", "see what would be done, and how long it takes"),
    ("v2a dub ~/films ~/films-dubbed", "dub; run it again to resume"),
    (
        "v2a redub ~/films-dubbed reel.mp4 --start 61 --end 70 --seed 8",
        "get another sound for this part only",
    ),
    ("v2a dub s3://bucket/films s3://bucket/dubbed --address auto", "dub on a Ray cluster"),
    ("v2a extract ~/clips ~/store --recipe mini", "make features and codec tokens for training"),
    ("v2a train maskvat-hybrid ~/store --out ~/model", "train on it; run it again to resume"),
    (
        "v2a compare mini ~/model --store ~/store --archive ~/clips --out ~/report",
        "see which model is better",
    ),
)

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED, READER_LEFT = 0, 1, 2, 130, 141
MACHINE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)
"""Errors of the machine and not of the program: a full or broken disk, and no more files or memory to open."""

AGAIN_S = 0.1
"""Seconds until a lost Ctrl-C is raised again."""


def overview() -> str:
    """Text of `v2a --help`."""
    lines = ["usage: v2a VERB ...", "", "Sound for silent footage, at the scale of archives.", "", "verbs:"]
    lines += [f"  {name:<8} {verb.summary}" for name, verb in VERBS.items()]
    width = max(len(command) for command, _ in EXAMPLES)
    lines += ["", "examples:"]
    lines += [f"  {command:<{width}}  {meaning}" for command, meaning in EXAMPLES]
    lines += ["", "`v2a VERB --help` lists the options of a verb.", ""]
    lines += ["exit codes: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted"]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, 141 if the reader of a pipe (`| head`) has left."""
    # Children of libraries (multiprocessing starts `python -c`) must not search the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    _complete_streams()
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return READER_LEFT
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        _discard_stdout()
        print(f"v2a: cannot write to standard output: {os.strerror(error.errno)}", file=sys.stderr)
        return SOME_FAILED


def _complete_streams() -> None:
    """Make up for standard streams that are closed (`>&-`), and print any character in any encoding.

    A file opened later would otherwise get the number of a closed stream, and with it what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stdout_is_closed() -> bool:
    """The process that read our output has ended. Standard output is /dev/null from then on."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        _discard_stdout()
    return closed


def _discard_stdout() -> None:
    # Python flushes once more as it exits, and would print a traceback then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return DONE if arguments else WRONG_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"v2a {version()}")
        return DONE
    name, rest = arguments[0], arguments[1:]
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"v2a: unknown verb {name!r}.{hint} Verbs: {', '.join(VERBS)}", file=sys.stderr)
        return WRONG_USAGE
    module = importlib.import_module(VERBS[name].module)
    config = parse(getattr(module, VERBS[name].config), rest, f"v2a {name}")
    try:
        with interruptible():
            result = module.run(config)
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else int(getattr(result, "exit_code", DONE))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, SIGTERM (`kill`, `docker stop`, `ray job stop`) ends a job as Ctrl-C does, and neither is lost.

    Python ignores exceptions in finalisers and callbacks of weak references, Ctrl-C included, and the job would go on.
    Here, Ctrl-C is raised again a moment later, outside the callback. An object whose constructor was interrupted lacks
    attributes that its finaliser wants; that error is not printed.
    """
    main_thread, before = threading.main_thread().ident, sys.unraisablehook
    assert main_thread is not None
    # Background jobs of a shell ignore SIGINT, so a lost Ctrl-C is raised again as SIGTERM.
    at_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)
    pending: list[threading.Timer] = []

    def hook(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            pending.append(threading.Timer(AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGTERM)))
            pending[-1].start()
        elif not (
            issubclass(lost.exc_type, AttributeError) and getattr(lost.object, "__name__", "") == "__del__"
        ):
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    except KeyboardInterrupt as interrupt:
        traceback.clear_frames(interrupt.__traceback__)  # and what was half built, while the hook is there
        raise
    finally:
        for timer in pending:
            timer.cancel()
        sys.unraisablehook = before
        signal.signal(signal.SIGTERM, at_sigterm or signal.SIG_DFL)


def parse(config: Any, arguments: Sequence[str], prog: str) -> Any:
    """An instance of the dataclass `config`. Exits with 2, after naming the valid choices, for wrong arguments."""
    from jobs.common import parser

    return parser.parse(config, arguments, prog)


def without_password(text: str) -> str:
    """The text with *** for user name and password in URLs, fit for logs, reports and MLflow."""
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)  # up to the last @ before a slash


def command_line(verb: str, config: Any, positional: Sequence[str], without: Sequence[str] = ()) -> str:
    """The command line of a configuration, with its options in the order of the dataclass.

    `positional` names the fields given without a flag, `without` those to leave out. Passwords in URLs become ***,
    because the line is printed and stored in reports.
    """
    words, options = ["v2a", verb], []
    for item, value in option_fields(config):
        factory = item.default_factory
        default = item.default if factory is dataclasses.MISSING else factory()
        flag = "--" + item.name.replace("_", "-")
        if item.name in positional:
            words.append(f"./{value}" if value.startswith("-") else value)
        elif item.name in without or value == default:
            continue
        elif isinstance(value, bool):
            options.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, dict):
            options += [flag, *(str(part) for pair in value.items() for part in pair)]
        elif isinstance(value, (tuple, list)):
            options += [flag, *map(str, value)]
        else:
            options += [flag, str(value)]
    return shlex.join(without_password(word) for word in [*words, *options])


def option_fields(config: Any) -> Iterator[tuple[Any, Any]]:
    """Fields of a configuration with their values, those of option groups in place of the group."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from option_fields(value)
        else:
            yield item, value


def version() -> str:
    """Version of the installed package."""
    from importlib import metadata

    try:
        return metadata.version("v2a")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"


if __name__ == "__main__":
    sys.exit(main())
