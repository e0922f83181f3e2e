"""The terminal of `kora top`: textual draws it; what is in it comes from kora.cli.top."""

import time
from collections.abc import Callable
from typing import Any, ClassVar

import redis
from rich.text import Text
from textual import work
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

    def compose(self) -> ComposeResult:
        with Vertical():
            # What clients chose must not become markup.
            yield Static(id="head", markup=False)
            yield Static(id="trouble", markup=False)
            with TabbedContent():
                for place, title in enumerate(self._titles):
                    with TabPane(title):
                        yield DataTable(id=f"table-{place}", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        self.set_interval(self._interval_s, self.look)

    def action_pause(self) -> None:
        self._is_paused = not self._is_paused
        self.sub_title = "paused" if self._is_paused else ""

    @work(thread=True, exclusive=True)
    def look(self) -> None:
        """In a thread: a server that is stuck must not make the terminal stuck."""
        if self._is_paused:
            return
        try:
            now = self._read()
        except (redis.RedisError, OSError) as error:
            self.call_from_thread(self._complain, str(error))
            return
        self.call_from_thread(self._show, now)

    def _complain(self, reason: str) -> None:
        trouble = self.query_one("#trouble", Static)
        trouble.update(f"no answer: {reason}")
        trouble.display = True

    def _show(self, now: Reading) -> None:
        vitals = compare(self._before, now)
        self._before = now
        self.query_one("#trouble", Static).display = False
        self.query_one("#head", Static).update("\n".join(headline(vitals)))
        for place, (columns, rows) in enumerate(tables(vitals, self._wall_s()).values()):
            table: DataTable[Any] = self.query_one(f"#table-{place}", DataTable)
            top, row_at = table.scroll_offset, table.cursor_row
            table.clear(columns=True)
            table.add_columns(*(column.title for column in columns))
            for row in rows or ():
                table.add_row(
                    *(
                        Text(cell, justify="right" if column.is_number else "left")
                        for cell, column in zip(cells(columns, row), columns, strict=True)
                    )
                )
            table.move_cursor(row=min(row_at, max(0, table.row_count - 1)))
            table.scroll_to(y=top.y, animate=False)
