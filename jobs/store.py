"""`v2a store STORE`: show what a feature store holds, and its problems."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tyro.conf import Positional

from jobs.cli import DONE, SOME_FAILED
from jobs.common.checks import at_least, check_file, full_address
from jobs.common.verb import Stopped, WrongUsage, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.store.store import Store
    from pipelines.store.summary import Facts


@dataclass
class StoreConfig:
    """Show what a feature store holds: recipe, rows, hours, classes, failures and problems.

    The store is only read, and only its small columns: a damaged array shows up with --html or in training. Exit code 1
    if a file is damaged, a clip occurs twice, a video is in two splits, or a file was made with another recipe.
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
    """Show a store. Returns the exit code: 0 fine, 1 it has problems, 2 wrong usage, 130 interrupted."""
    return run_verb("store", "", lambda console: _run(config, console))


def _run(config: StoreConfig, console: Console) -> int:
    from pipelines import storage
    from pipelines.store import summary
    from pipelines.store.store import Store, StoreError

    preflight(config)
    store = Store(full_address(config.store), mends=False)
    try:
        with console.status("reading ..."):
            facts = summary.gather(store, config.clips if config.html else 0)
        if facts is None:
            raise WrongUsage(
                f"{config.store} holds no feature store (it has no _recipe.json); "
                f"make one: v2a extract ARCHIVE {config.store}"
            )
        print_facts(facts, config.show, console)
        if config.html:
            _write_page(store, facts, config.html, console)
    except StoreError as error:
        raise Stopped(str(error)) from error
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error
    return SOME_FAILED if facts.problems else DONE


def preflight(config: StoreConfig) -> None:
    """Raises WrongUsage for a store that cannot be read, or a page that cannot be written."""
    from pipelines import storage

    at_least(config, clips=0, show=0)
    if config.html is not None and not config.html.endswith((".html", ".htm")):
        raise WrongUsage(f"--html must name an .html file, not {config.html!r}")
    try:
        remote = storage.is_remote(config.store)
        if not remote and storage.exists(config.store) and not storage.is_dir(config.store):
            raise WrongUsage(f"{config.store} is a file; give the folder of the store")
        storage.check_readable(config.store)
        if config.html is not None:
            if storage.is_within(config.store, config.html):
                raise WrongUsage(
                    f"--html must lie outside the store ({config.html}): readers would treat it as data"
                )
            check_file(config.html)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def _write_page(store: Store, facts: Facts, html: str, console: Console) -> None:
    from pipelines import storage
    from pipelines.reports import store_page

    with console.status("drawing ..."):
        page = store_page.render_store(facts, store_page.clips(store, facts))
    try:
        storage.write_atomic(html, page.encode("utf-8", "backslashreplace"))
    except storage.StorageError as error:
        raise Stopped(f"cannot write the page: {error}") from error
    console.print(f"written: {html}", markup=False)


def print_facts(facts: Facts, show: int, console: Console) -> None:
    """Print the facts; at most `show` lines of each list that may be long."""
    from jobs.common.terminal import hours, printable
    from pipelines.store.summary import made_with, size_text

    def line(text: str = "", style: str = "") -> None:
        console.print(printable(text), markup=False, style=style or None, soft_wrap=True)

    line(f"{facts.root}", "bold")
    for name, value in made_with(facts):
        line(f"  {name:<17} {value}")
    line()
    line(
        f"{facts.n_rows:,} rows in {facts.n_files:,} files, {size_text(facts.n_bytes)}"
        + (f" ({size_text(facts.bytes_per_hour)} per hour of footage)" if facts.seconds else "")
    )
    if facts.n_rows:
        line(
            f"{sum(facts.labels.values()):,} with a class, {facts.n_text:,} with text; "
            f"{hours(facts.seconds)} of footage"
        )
        rows = [
            (name, f"{part.rows:,}", f"{part.videos:,}", hours(part.seconds))
            for name, part in facts.splits.items()
        ]
        _table(console, ("split", "rows", "videos", "footage"), rows)
    else:
        line(f"No rows yet: v2a extract ARCHIVE {facts.root} makes them.")
    if facts.columns:
        _table(console, ("array", "type and shape"), [(c.name, c.text) for c in facts.columns], "ll")
    if facts.labels and show:
        _table(console, ("class", "rows"), [(name, f"{n:,}") for name, n in facts.labels.most_common(show)])
        _more(line, len(facts.labels) - show, "classes")
    if facts.left_out:
        reasons = [(reason, f"{n:,}") for reason, n in facts.left_out.items()]
        _table(console, (f"left out on purpose: {sum(facts.left_out.values()):,}", "windows"), reasons[:show])
        _more(line, len(reasons) - show, "reasons")
    _print_failures(facts, show, console, line)
    console.print()
    if not facts.problems:
        line("No problems: every file can be read, no clip occurs twice, one recipe.")
        return
    line(f"Problems ({len(facts.problems)}):", "bold red")
    for problem in facts.problems[:show]:
        line(f"  {problem}", "red")
    _more(line, len(facts.problems) - show, "problems")


def _print_failures(facts: Facts, show: int, console: Console, line: Callable[[str], None]) -> None:
    if not facts.failures:
        return
    total = sum(group.count for group in facts.failures)
    rows = [
        (g.stage, g.error_class, f"{g.count:,}", ", ".join(g.paths) + (f" ({g.error})" if g.error else ""))
        for g in facts.failures[:show]
    ]
    _table(console, (f"failed: {total:,}", "error", "times", "first"), rows, "llrl")
    _more(line, len(facts.failures) - show, "kinds of failure")


def _table(
    console: Console, head: tuple[str, ...], rows: Sequence[Sequence[str]], align: str = "lrrr"
) -> None:
    """Print a table without lines. Its names come from outside: no markup, no control characters."""
    from rich.table import Table
    from rich.text import Text

    from jobs.common.terminal import printable

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in zip(head, align, strict=False):
        table.add_column(name, justify="right" if side == "r" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print()
    console.print(table, soft_wrap=False)


def _more(line: Callable[[str], None], n: int, what: str) -> None:
    if n > 0:
        line(f"... and {n:,} more {what}")


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["store", *sys.argv[1:]]))
