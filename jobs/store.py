"""`v2a store STORE`: what a feature store holds, and whether something is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tyro.conf import Positional

from jobs.cli import DONE, INTERRUPTED, SOME_FAILED, WRONG_USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.store.store import Store
    from pipelines.store.summary import Facts


@dataclass
class StoreConfig:
    """Show what a feature store holds: recipe, rows, hours, classes, failures, and what is wrong with it.

    The store is only read, and only its small columns: a damaged array shows up with --html or in training. Exit code 1
    if a file is damaged, a clip is there twice, a video is in two splits, or a file was made with another recipe.
    """

    store: Positional[str]
    """Feature store made by `v2a extract`: a folder or s3://bucket/prefix."""
    html: str | None = None
    """Also write a page to this .html file outside the store: the same facts, and some clips with picture, sound and
    stored arrays. Picture and sound are read from the archive again."""
    clips: int = 12
    """Clips on the page, of as many classes as possible."""
    show: int = 20
    """Maximum number of classes, reasons and problems to print; the totals count everything."""


def run(config: StoreConfig) -> int:
    """Show a store; the exit code: 0 fine, 1 something is wrong with it, 2 wrong usage, 130 interrupted."""
    from rich.console import Console

    from jobs.common.checks import full_address
    from pipelines import storage
    from pipelines.store import summary
    from pipelines.store.store import Store, StoreError

    console, errors = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:  # piped into a file there is no screen to fit on: leave room for names
        console = Console(highlight=False, width=160)
    problem = _wrong_usage(config)
    if problem:
        errors.print(f"v2a store: {problem}", markup=False)
        return WRONG_USAGE
    store = Store(full_address(config.store))
    try:
        with console.status("reading ..."):
            facts = summary.gather(store, config.clips if config.html else 0)
        if facts is None:
            errors.print(
                f"v2a store: {config.store} holds no feature store (it has no _recipe.json); "
                f"make one: v2a extract ARCHIVE {config.store}",
                markup=False,
            )
            return WRONG_USAGE
        tell(facts, config.show, console)
        if config.html and not _write_page(store, facts, config.html, console, errors):
            return SOME_FAILED
    except StoreError as error:
        errors.print(f"v2a store: {error}", markup=False)
        return SOME_FAILED
    except storage.StorageError as error:
        errors.print(f"v2a store: {error}", markup=False)
        return WRONG_USAGE
    except KeyboardInterrupt:
        errors.print("v2a store: interrupted; nothing was written", markup=False)
        return INTERRUPTED
    return SOME_FAILED if facts.problems else DONE


def _wrong_usage(config: StoreConfig) -> str:
    from pipelines import storage

    for name, value in (("clips", config.clips), ("show", config.show)):
        if value < 0:
            return f"--{name} must be at least 0, not {value}"
    if config.html is not None and not config.html.endswith((".html", ".htm")):
        return f"--html must name an .html file, not {config.html!r}"
    try:
        remote = storage.is_remote(config.store)
        if not remote and storage.exists(config.store) and not storage.is_dir(config.store):
            return f"{config.store} is a file; give the folder of the store"
        storage.check_readable(config.store)
        if config.html is not None:
            if storage.is_within(config.store, config.html):
                return (
                    f"--html must lie outside the store ({config.html}): readers take what is in it for rows"
                )
            storage.check_writable(storage.parent(config.html))
    except storage.StorageError as error:
        return str(error)
    return ""


def _write_page(store: Store, facts: Facts, html: str, console: Console, errors: Console) -> bool:
    from pipelines import storage
    from pipelines.reports import store_page

    with console.status("drawing ..."):
        page = store_page.render(facts, store_page.clips(store, facts))
    try:
        storage.write_atomic(html, page.encode("utf-8", "backslashreplace"))
    except storage.StorageError as error:
        errors.print(f"v2a store: the page is not written: {error}", markup=False)
        return False
    console.print(f"written: {html}", markup=False)
    return True


def tell(facts: Facts, show: int, console: Console) -> None:
    """Prints the facts; at most `show` lines of each list that may be long."""
    from jobs.common.terminal import hours, printable
    from pipelines.store.summary import made_with, size_text

    def say(text: str = "", style: str = "") -> None:
        console.print(printable(text), markup=False, style=style or None, soft_wrap=True)

    say(f"{facts.root}", "bold")
    for name, value in made_with(facts):
        say(f"  {name:<17} {value}")
    say()
    say(
        f"{facts.n_rows:,} rows in {facts.n_files:,} files, {size_text(facts.n_bytes)}"
        + (f" ({size_text(facts.bytes_per_hour)} per hour of footage)" if facts.seconds else "")
    )
    if facts.n_rows:
        say(
            f"{sum(facts.labels.values()):,} with a class, {facts.n_text:,} with text; "
            f"{hours(facts.seconds)} of footage"
        )
        rows = [
            (name, f"{part.rows:,}", f"{part.videos:,}", hours(part.seconds))
            for name, part in facts.splits.items()
        ]
        _table(console, ("split", "rows", "videos", "footage"), rows)
    else:
        say(f"No rows yet: v2a extract ARCHIVE {facts.root} makes them.")
    if facts.columns:
        _table(console, ("array", "type and shape"), [(c.name, c.text) for c in facts.columns], "ll")
    if facts.labels and show:
        _table(console, ("class", "rows"), [(name, f"{n:,}") for name, n in facts.labels.most_common(show)])
        _more(say, len(facts.labels) - show, "classes")
    if facts.left_out:
        reasons = [(reason, f"{n:,}") for reason, n in facts.left_out.items()]
        _table(console, (f"left out on purpose: {sum(facts.left_out.values()):,}", "windows"), reasons[:show])
        _more(say, len(reasons) - show, "reasons")
    _tell_failures(facts, show, console, say)
    console.print()
    if not facts.problems:
        say("Nothing is wrong with it: every file can be read, no clip is there twice, one recipe.")
        return
    say(f"Wrong with it ({len(facts.problems)}):", "bold red")
    for problem in facts.problems[:show]:
        say(f"  {problem}", "red")
    _more(say, len(facts.problems) - show, "problems")


def _tell_failures(facts: Facts, show: int, console: Console, say: Callable[[str], None]) -> None:
    if not facts.failures:
        return
    total = sum(group.count for group in facts.failures)
    rows = [
        (g.stage, g.error_class, f"{g.count:,}", ", ".join(g.paths) + (f" ({g.error})" if g.error else ""))
        for g in facts.failures[:show]
    ]
    _table(console, (f"failed: {total:,}", "error", "times", "first"), rows, "llrl")
    _more(say, len(facts.failures) - show, "kinds of failure")


def _table(
    console: Console, head: tuple[str, ...], rows: Sequence[Sequence[str]], align: str = "lrrr"
) -> None:
    """A table without lines. Names in it are not ours: no markup, no control characters."""
    from rich.table import Table
    from rich.text import Text

    from jobs.common.terminal import printable

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in zip(head, align, strict=False):
        table.add_column(name, justify="right" if side == "r" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print()
    console.print(table)


def _more(say: Callable[[str], None], n: int, what: str) -> None:
    if n > 0:
        say(f"... and {n:,} more {what}")


def main() -> int:
    """`python -m jobs.store`."""
    from jobs import cli

    return cli.main(["store", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
