"""Has the event loop tell when it asks for events, which uvloop has no hook for: by libuv, on which it stands.

What was readable before the loop asked the last time but one would have been reported then.  So this says a great deal
about since when requests can have waited (kora/observe/service.py).  uvloop gives its uv_loop_t away, and exports
libuv's functions; should it not, then bounds are wider, and nothing else changes.
"""

import asyncio
import ctypes
from typing import TYPE_CHECKING, Any, Final

from kora.log import logger

if TYPE_CHECKING:
    from kora.engine.engine import Engine

log = logger("kora.server")

# Room for a pointer and a uv_prepare_t or uv_check_t, which have 120 bytes in libuv 1.
_HANDLE_BYTES: Final = 1024
_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class LoopTurns:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._libuv: Any = None
        # What libuv points to until the handles are closed.
        self._rooms: list[Any] = []
        self._handles: list[int] = []
        self._callbacks: list[Any] = []

    def start(self, library: str, loop: object) -> None:
        """`library` has libuv's functions, and `loop` is a capsule with its uv_loop_t."""
        try:
            libuv = self._libuv = ctypes.CDLL(library)
            uv_loop = _pointer(loop)
            hooks = self._hooks()
            for kind, callback in zip(("prepare", "check"), hooks[:2], strict=True):
                self._hook(libuv, uv_loop, kind, callback, hooks[2], hooks[3])
        except (AttributeError, OSError, ValueError) as error:
            log.info("the event loop does not tell when it asks for events", reason=str(error))

    async def stop(self) -> None:
        """Before the loop is closed, which would take these for its own."""
        for handle in self._handles:
            self._libuv.uv_close(ctypes.c_void_p(handle), None)
        self._handles.clear()
        await asyncio.sleep(0)  # libuv lets go of them when the loop turns
        await asyncio.sleep(0)

    def _hooks(self) -> tuple[int, int, int, int]:
        """Two functions for libuv, and what they want to find how many bytes before their handles."""
        service, monotonic_ns = self._engine.service, self._engine.monotonic_ns
        compiled: tuple[int, int, int, int] | None = service.loop_hooks
        if compiled is not None:
            return compiled
        self._callbacks = [
            _CALLBACK(lambda _: service.prepared(monotonic_ns())),
            _CALLBACK(lambda _: service.checked(monotonic_ns())),
        ]
        prepared, checked = (ctypes.cast(callback, ctypes.c_void_p).value or 0 for callback in self._callbacks)
        return prepared, checked, 0, 16

    def _hook(self, libuv: Any, uv_loop: int, kind: str, callback: int, owner: int, offset: int) -> None:
        make, start = getattr(libuv, f"uv_{kind}_init"), getattr(libuv, f"uv_{kind}_start")
        room = ctypes.create_string_buffer(_HANDLE_BYTES)
        # Aligned as libuv wants it, and far enough from the beginning.
        handle = (ctypes.addressof(room) + offset + 15) & ~15
        ctypes.c_size_t.from_address(handle - offset).value = owner
        if make(ctypes.c_void_p(uv_loop), ctypes.c_void_p(handle)) != 0:
            raise OSError(f"uv_{kind}_init failed")
        self._rooms.append(room)
        self._handles.append(handle)
        libuv.uv_unref(ctypes.c_void_p(handle))  # the loop does not go on for its sake
        start(ctypes.c_void_p(handle), ctypes.c_void_p(callback))


def _pointer(capsule: object) -> int:
    unpack = ctypes.pythonapi.PyCapsule_GetPointer
    unpack.restype = ctypes.c_void_p
    unpack.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer: int = unpack(capsule, None)
    return pointer
