"""The command line teaches, and says what is wrong before anything starts."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import threading
from pathlib import Path

import pytest

from jobs import cli, dub


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
