"""The command line teaches, and says what is wrong before anything starts."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobs import cli, dub
from jobs.dub.config import PriceOptions, SoundOptions


def exit_code(argv: list[str]) -> int:
    """Exit code of `v2a ARGV`, whichever way it leaves."""
    try:
        return cli.main(argv)
    except SystemExit as leaving:
        return int(leaving.code or 0)


def test_help_lists_every_verb_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    text = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert re.search(rf"^\s+{name}\s+{re.escape(verb.summary)}", text, re.MULTILINE)
    for command, _ in cli.EXAMPLES:
        assert command in text
    assert "exit codes" in text


def test_no_verb_shows_the_same_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([]) == 2
    assert "verbs:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_of_every_verb_describes_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([verb, "--help"]) == 0
    assert f"v2a {verb}" in capsys.readouterr().out


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["dbu"]) == 2
    text = capsys.readouterr().err
    assert "'dub'" in text
    assert "scan" in text


def test_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["dub", "in", "out", "--sede", "3"]) == 2
    captured = capsys.readouterr()
    assert "--seed" in captured.out + captured.err


def test_wrong_value_is_answered_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["dub", "in", "out", "--only", "loud"]) == 2
    captured = capsys.readouterr()
    assert "silent" in captured.out + captured.err
    assert "all" in captured.out + captured.err


def test_missing_arguments_are_wrong_usage() -> None:
    assert exit_code(["dub", "in"]) == 2


def test_names_that_look_like_options_can_be_given() -> None:
    config = cli.parse(dub.DubConfig, ["--seed", "5", "--", "-in", "--out"], "v2a dub")
    assert (config.archive, config.out, config.seed) == ("-in", "--out", 5)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert re.fullmatch(r"v2a \S+\n", capsys.readouterr().out)


def test_an_interrupt_in_a_finaliser_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def __del__(self) -> None:
            raise KeyboardInterrupt  # as when Ctrl-C is pressed just then

    def job() -> None:
        with cli.interruptible():
            del here[0]
            passed.append("the finaliser")
            threading.Event().wait(60)

    here, passed = [Interrupted()], list[str]()
    with pytest.raises(KeyboardInterrupt):
        job()
    assert passed
    assert "Traceback" not in capsys.readouterr().err


def test_an_object_whose_constructor_was_interrupted_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own hook collects what this one passes on.
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    class Interrupted:
        executor: object

        def __init__(self, error: BaseException | None = None) -> None:
            if error is not None:
                raise error  # before `self.executor = None`
            self.executor = None

        def __del__(self) -> None:
            if self.executor is None:
                raise ValueError("an error of its own")

    with pytest.raises(KeyboardInterrupt), cli.interruptible():
        Interrupted(KeyboardInterrupt())
    assert not capsys.readouterr().err
    with cli.interruptible():
        Interrupted()
    assert "an error of its own" in capsys.readouterr().err


def test_command_line_is_rebuilt_for_resuming() -> None:
    config = dub.DubConfig("my films", "-out", only="all", seed=7, restart=True)
    assert dub.command(config) == "v2a dub 'my films' ./-out --only all --seed 7"
    rebuilt = cli.parse(dub.DubConfig, ["my films", "./-out", "--only", "all", "--seed", "7"], "v2a dub")
    assert (rebuilt.only, rebuilt.seed, rebuilt.restart) == ("all", 7, False)


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_modules_of_verbs_import_nothing_heavy_at_the_top(verb: str) -> None:
    module = importlib.import_module(cli.VERBS[verb].module)
    path = Path(inspect.getfile(getattr(module, cli.VERBS[verb].config)))
    heavy = {"ray", "torch", "mlflow", "av", "pyarrow", "pandas", "matplotlib"}
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not heavy & {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("verb", "positionals"),
    [
        ("dub", "ARCHIVE OUT"),
        ("demo", "[ARCHIVE]"),
        ("compare", "MODEL [MODEL ...]"),
        ("verify", "[FILE ...]"),
    ],
)
def test_usage_names_the_positionals(verb: str, positionals: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([verb, "--help"]) == 0
    usage, *rest = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: v2a {verb} [-h] ") and positionals in usage
    boxes = [f"{line.strip('│ ')}  " for line in rest]
    for name in positionals.split() if verb == "dub" else [positionals]:
        assert any(line.startswith(f"{name}  ") for line in boxes)


def test_positionals_without_a_default_name_none(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("compare", "verify", "demo"):
        assert exit_code([verb, "--help"]) == 0
        assert "(default: )" not in capsys.readouterr().out


def test_help_texts_fill_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The line ends of docstrings are not those of the help: only the last line of an option is short."""
    assert exit_code(["dub", "--help"]) == 0
    lines = [line.replace("│", " ").rstrip() for line in capsys.readouterr().out.splitlines()]
    column = next(line for line in lines if "--model STR" in line).index("Generator")
    texts = [line[column:] if line.startswith(" " * column) else "" for line in lines]
    broken = [
        (text, after)
        for text, after in itertools.pairwise(texts)
        if text and after and len(text) + 1 + len(after.split()[0]) < 80 - column - 4
    ]
    assert sum(map(bool, texts)) > 60 and not broken


def test_options_of_groups_go_into_their_groups() -> None:
    words = [
        "in",
        "out",
        "--mix-gain",
        "3",
        "--existing",
        "mix",
        "--price-core-hour",
        "0.1",
        "--keep-top",
        "2",
    ]
    config = cli.parse(dub.DubConfig, words, "v2a dub")
    assert config == dub.DubConfig(
        "in",
        "out",
        keep_top=2,
        sound=SoundOptions(mix_gain=3.0, existing="mix"),
        price=PriceOptions(price_core_hour=0.1),
    )


@pytest.mark.parametrize("words", ["dub --help", "--help"])
def test_a_reader_that_leaves_ends_the_command_quietly(words: str) -> None:
    """`v2a dub --help | head -1`, with a reader that is gone before the first word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "jobs.cli", *words.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (cli.READER_LEFT, "")


def shell(words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`v2a WORDS` in a shell, for redirections."""
    command = f"exec {shlex.quote(sys.executable)} -m jobs.cli {words}"
    return subprocess.run(
        ["bash", "-c", command], env=os.environ | variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("words", "closed"), [("--version", ">&-"), ("scan --help", ">&-"), ("scan {folder}", "<&- >&- 2>&-")]
)
def test_closed_streams_end_no_command(words: str, closed: str, tmp_path: Path) -> None:
    done = shell(f"{words.format(folder=tmp_path)} {closed}")
    assert (done.returncode, done.stderr) == (cli.DONE, "")


def test_a_message_without_standard_error_is_lost_and_nothing_else() -> None:
    done = shell("scan /nowhere 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (cli.WRONG_USAGE, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("words", ["--version", "scan {folder}"])
def test_output_on_a_full_disk_is_told_in_lines(words: str, tmp_path: Path) -> None:
    done = shell(f"{words.format(folder=tmp_path)} > /dev/full")
    assert done.returncode == cli.SOME_FAILED
    assert "No space left" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", ["1", "5"])
@pytest.mark.parametrize(("words", "code"), [("dub --help", cli.DONE), ("dub --sede 3", cli.WRONG_USAGE)])
def test_help_fits_terminals_of_any_width(words: str, code: int, columns: str) -> None:
    assert shell(words, COLUMNS=columns).returncode == code


def test_names_that_the_encoding_of_the_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "\u21bb.mp4").touch()
    done = shell(f"scan {tmp_path}", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == cli.SOME_FAILED and not done.stderr
    assert "\\u21bb.mp4" in done.stdout


@pytest.mark.parametrize("config", sorted(Path(cli.__file__).parent.glob("*/config.py")), ids=str)
def test_configs_import_nothing_of_ours_but_the_command_line(config: Path) -> None:
    if config.parent.name == "mini":  # no verb of the command line
        return
    ours = {
        node.module
        for node in ast.walk(ast.parse(config.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.startswith(("jobs", "pipe", "v2a"))
    }
    assert ours <= {"jobs.cli", "jobs.common.verb", "jobs.common.options"}
