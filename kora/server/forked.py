"""Work on the data as it is, done in a forked child while the server goes on: the child tells its result and ends.

The loop stands still for fork(2) alone, which takes the longer the more memory the process has.  The child shares
sockets and signals with the server until it lets go of them, which is the first thing it does; it writes no log, takes
no locks but the interpreter's, and never returns.  Should memory run out, the system is to end it rather than the
server.
"""

import asyncio
import contextlib
import ctypes
import marshal
import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

# So that what it is given fits: rows of a profile are bounded anyway.
_READ_BYTES: Final = 1 << 18
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NICE: Final = 10

Work = Callable[[], Any]  # gives what marshal knows
Done = Callable[[Any, str], None]  # the result, or None and why there is none


class Forked:
    """One child.  `fork_ns` is for how long the loop stood still."""

    def __init__(self, work: Work, done: Done, seconds_max: float) -> None:
        """done() is called on the loop.  Raises OSError where no process can be made."""
        self._loop = asyncio.get_running_loop()
        self._done = done
        self._data = bytearray()
        read_fd, write_fd = os.pipe()
        # Between fork() and letting go of the server's handlers, a signal would be told to the server's loop.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        started_ns = time.monotonic_ns()
        try:
            with warnings.catch_warnings():
                # From Python 3.12 on for threads, which are not there in the child: it waits for none.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            os.close(read_fd)
            os.close(write_fd)
            raise
        if self._pid == 0:
            _be_the_child(work, write_fd)
        self.fork_ns = time.monotonic_ns() - started_ns
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        os.close(write_fd)
        os.set_blocking(read_fd, False)
        self._read_fd = read_fd
        self._loop.add_reader(read_fd, self._read)
        self._timer = self._loop.call_later(seconds_max, self._give_up, f"it took more than {seconds_max:g} s")

    def stop(self) -> None:
        """Nobody wants the result any more: done() is called with the reason."""
        self._give_up("it was given up")

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._data += data
            return
        result, reason = None, "the process that was to make it has died"
        with contextlib.suppress(EOFError, ValueError, TypeError):  # it died in the midst of it
            result, reason = marshal.loads(self._data)
        self._end(result, reason)

    def _give_up(self, reason: str) -> None:
        if self._read_fd >= 0:
            os.kill(self._pid, signal.SIGKILL)
            self._end(None, reason)

    def _end(self, result: Any, reason: str) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        self._read_fd = -1
        # It has told everything, and still has its memory to give back.
        self._loop.run_in_executor(None, os.waitpid, self._pid, 0)
        self._done(result, reason)


def _be_the_child(work: Work, write_fd: int) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPROF):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPROF else signal.SIG_DFL)
        # Whoever the server hangs up on is to notice.
        os.closerange(0, write_fd)
        os.closerange(write_fd + 1, os.sysconf("SC_OPEN_MAX"))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        os.nice(_NICE)
        try:
            answer = marshal.dumps((work(), ""))
        except MemoryError:
            answer = marshal.dumps((None, "there is no memory for it"))
        except Exception as error:  # told by the server, since there is no log here
            answer = marshal.dumps((None, f"{type(error).__name__}: {error}"))
        view = memoryview(answer)
        while view:
            view = view[os.write(write_fd, view) :]
        code = 0
    finally:
        os._exit(code)
