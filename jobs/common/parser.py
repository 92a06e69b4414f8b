"""Command-line arguments to a verb's dataclass, with help texts from the docstrings of its fields."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import os
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jobs.common.options import Note

_POSITIONAL = tyro.conf.Positional[Any].__metadata__[0]  # type: ignore[misc]

ADVANCED = "advanced"
"""Section of the options that few people need."""

NARROWEST, WIDEST = 40, 100
"""Columns of help texts, whatever the terminal has. In a few columns, tyro never ends."""


@dataclass(frozen=True)
class Option:
    """One option or positional argument of a verb."""

    name: str
    """Name of the field. Fields of groups need no prefix: no name occurs twice in a verb."""
    kind: Any
    """Type with tyro's annotations."""
    section: str
    """Box of the help text: "" for the main one, else the name of the group, or `ADVANCED`."""
    help: str
    metavar: str | None
    default: Any = dataclasses.MISSING

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def positional(self) -> bool:
        """The argument is given by its place, without a flag."""
        return _POSITIONAL in _metadata(self.kind)

    @property
    def required(self) -> bool:
        """The command is wrong without it."""
        return self.default is dataclasses.MISSING


def parse(config: type, arguments: Sequence[str], prog: str) -> Any:
    """An instance of the dataclass `config`. Exits with 2, after naming the valid choices, for wrong arguments."""
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    width = min(WIDEST, shutil.get_terminal_size().columns) - 2
    paragraphs = reflowed(config.__doc__ or "").split("\n\n")
    answers: Any = tyro.cli(
        _form(config),
        args=gathered(config, arguments, prog),
        prog=prog,
        # Indented, as tyro would join the lines again otherwise.
        description="\n\n".join(textwrap.indent(textwrap.fill(text, width), "  ") for text in paragraphs),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalMetavarFromFieldName),
    )
    return build(config, **dict(_values(answers)))


def gathered(config: type, arguments: Sequence[str], prog: str) -> list[str]:
    """The arguments with one archive: where a shell has made several files of a pattern, their common folder, and
    each file as a pattern to --include. Exits with 2 if that cannot be done."""
    named = [option.name for option in options(config) if option.positional]
    first = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    files, others = first[: len(first) - len(named) + 1], first[len(first) - len(named) + 1 :]
    if named[:1] != ["archive"] or len(files) < 2:
        return list(arguments)
    from pipelines.archive.patterns import exact

    problem = ""
    if other := next((word for word in files if not os.path.isfile(word)), ""):
        problem = (
            f"one ARCHIVE, or several files; {other} is {'a folder' if os.path.isdir(other) else 'no file'}"
        )
    elif "--include" in arguments:
        problem = "files, or a folder and --include, but not both"
    if problem:
        print(f"{prog} takes {problem}. To choose files in a folder: {prog} --help", file=sys.stderr)
        raise SystemExit(2)
    paths = [os.path.abspath(word) for word in files]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    patterns = [exact(os.path.relpath(path, folder)) for path in paths]
    return [folder, *others, "--include", *patterns, *arguments[len(first) :]]


def build(config: type, /, **values: Any) -> Any:
    """An instance of `config` with these fields, those of its groups included: `build(DubConfig, ..., loudness=-23)`.

    Raises TypeError for an unknown field, with the nearest valid name.
    """
    groups = {field.name for field in dataclasses.fields(config) if _is_group(field)}
    valid = {option.name for option in options(config)} | groups
    for name in values.keys() - valid:
        close = difflib.get_close_matches(name, valid, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(sorted(valid))}"
        raise TypeError(f"{config.__name__} has no option {name!r}; {hint}")
    fields = {}
    for field in dataclasses.fields(config):
        if _is_group(field):
            group = values.get(field.name) or field.default_factory()  # type: ignore[misc]
            own = {item.name: values[item.name] for item in dataclasses.fields(group) if item.name in values}
            fields[field.name] = dataclasses.replace(group, **own)
        elif field.name in values:
            fields[field.name] = values[field.name]
    return config(**fields)


def options(config: type, section: str = "") -> Iterator[Option]:
    """The options of a dataclass and of its groups, in the order of their fields."""
    hints, docs = typing.get_type_hints(config, include_extras=True), _field_docs(config)
    for field in dataclasses.fields(config):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from options(typing.cast(type, kind), field.name)
            continue
        notes = [note for note in _metadata(kind) if isinstance(note, Note)]
        shared = next((note.help for note in notes if note.help), "")
        yield Option(
            name=field.name,
            kind=kind,
            section=ADVANCED if any(note.advanced for note in notes) else section,
            help=reflowed(docs.get(field.name, "")) or shared,
            metavar=next((note.metavar for note in notes if note.metavar), None) or _metavar(kind),
            default=field.default,
        )


def reflowed(text: str) -> str:
    """Text whose lines run on to the end of each paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _metavar(kind: Any) -> str | None:
    """INT for `int | None`, where tyro would write {None}|INT; None to leave the choice to tyro."""
    plain = kind.__origin__ if _metadata(kind) else kind
    if not isinstance(plain, types.UnionType) or _POSITIONAL in _metadata(kind):
        return None
    return str(next(member.__name__ for member in plain.__args__ if member is not types.NoneType)).upper()


def _metadata(kind: Any) -> tuple[Any, ...]:
    """Annotations of a type; none for a plain one."""
    return getattr(kind, "__metadata__", ())


def _form(config: type) -> type:
    """A dataclass for tyro with the same options: one nested dataclass per box of the help text, advanced ones last."""
    sections: dict[str, list[Any]] = {"": []}
    for option in options(config):
        argument = tyro.conf.arg(
            help=option.help,
            metavar=option.metavar,
            # The usage line says which positionals are required; tyro would add the default of an empty tuple.
            help_behavior_hint=""
            if option.positional or any(option.default is nothing for nothing in (None, False, "", ()))
            else None,
        )
        default = {} if option.required else {"default": option.default}
        sections.setdefault(option.section, []).append(
            (option.name, Annotated[option.kind, argument], dataclasses.field(**default))
        )
    main, advanced = sections.pop(""), sections.pop(ADVANCED, None)
    docs = {
        field.name: reflowed(field.default_factory.__doc__ or "")
        for field in dataclasses.fields(config)
        if _is_group(field)
    }
    for name, fields in [*sections.items(), *([(ADVANCED, advanced)] if advanced else [])]:
        group = dataclasses.make_dataclass(
            f"{name.capitalize()}Options", fields, kw_only=True, namespace={"__doc__": docs.get(name, "")}
        )
        main.append((name, group, dataclasses.field(default_factory=group)))
    return dataclasses.make_dataclass(config.__name__, main, kw_only=True)


def _is_group(field: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(field.default_factory)


def _values(answers: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(answers):
        value = getattr(answers, field.name)
        if dataclasses.is_dataclass(value):
            yield from _values(value)
        else:
            yield field.name, value


def _field_docs(config: type) -> dict[str, str]:
    """The string below each field, as Python keeps none of them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                docs[statement.target.id] = text.value
    return docs
