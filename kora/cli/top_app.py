"""The terminal of `kora top`: textual draws it; what is in it comes from kora.cli.top."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

import redis
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Static, TabbedContent, TabPane

from kora.cli.top import cells, headline, tables
from kora.cli.vitals import Reading, compare


class TopApp(App[None]):
    TITLE = "Kora"
    CSS = """
    #head { height: auto; padding: 0 1; background: $surface; }
    #trouble { height: auto; padding: 0 1; color: $error; display: none; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Quit"), ("p", "pause", "Pause")]

    def __init__(
        self, read: Callable[[], Reading], first: Reading, interval_s: float, wall_s: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._read = read
        self._before = first
        self._interval_s = interval_s
        self._wall_s = wall_s
        self._is_paused = False
        self._titles = list(tables(compare(first, first), 0))
        # Held, not queried: the last look may end when they have left the screen.
        # What clients chose must not become markup.
        self._head = Static(id="head", markup=False)
        self._trouble = Static(id="trouble", markup=False)
        self._tables: list[DataTable[Any]] = [DataTable(cursor_type="row", zebra_stripes=True) for _ in self._titles]

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._head
            yield self._trouble
            with TabbedContent():
                for title, table in zip(self._titles, self._tables, strict=True):
                    with TabPane(title):
                        yield table
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._watch())

    def action_pause(self) -> None:
        self._is_paused = not self._is_paused
        self.sub_title = "paused" if self._is_paused else ""

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if self._is_paused:
                continue
            try:
                # In a thread: a server that is stuck must not make the terminal stuck.
                now = await asyncio.to_thread(self._read)
            except (redis.RedisError, OSError) as error:
                self._complain(str(error))
            else:
                self._show(now)

    def _complain(self, reason: str) -> None:
        self._trouble.update(f"no answer: {reason}")
        self._trouble.display = True

    def _show(self, now: Reading) -> None:
        vitals = compare(self._before, now)
        self._before = now
        self._trouble.display = False
        self._head.update("\n".join(headline(vitals)))
        for table, (columns, rows) in zip(self._tables, tables(vitals, self._wall_s()).values(), strict=True):
            top, row_at = table.scroll_offset, table.cursor_row
            grid = [cells(columns, row) for row in rows or ()]
            table.clear(columns=True)
            for at, column in enumerate(columns):
                # Said here, since textual works widths out later, and cells would jump once a second.
                table.add_column(column.title, width=max(len(column.title), *(len(line[at]) for line in grid), 1))
            for line in grid:
                justified = zip(line, columns, strict=True)
                table.add_row(
                    *(Text(cell, justify="right" if column.is_number else "left") for cell, column in justified)
                )
            table.move_cursor(row=min(row_at, max(0, table.row_count - 1)))
            table.scroll_to(y=top.y, animate=False)
