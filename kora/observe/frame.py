"""Messages between the data process and its sidecar, over their private socketpair.

A frame is its length in 4 bytes, big endian, and a list of plain values in `marshal` form: nothing that unpacks it can
be made to run code, and both ends are the same interpreter.  The first value names the message:

    to the sidecar      ["settings", {name: value}]   first of all, and when one changes
                        ["shard", number, values]     a part of the answer to a request, for Snapshot.shards; the
                                                      histograms may be elsewhere: kora.observe.shared_counts
                        ["snapshot", number, values]  the rest, and its end; Snapshot.from_plain() reads it
                        ["glance", values]            as kora.engine.glance gives them
                        ["spans", spans, packed, shift_ns]
                                                      those of kora.engine.tracing, and those of the kernel, whose
                                                      times become Unix time by adding shift_ns
                        ["doctor", values]            as kora.observe.doctor.to_json() gives them
                        ["answer", number, value]     of a question; or, with the reason,
                        ["refused", number, text]     why there is none, or
                        ["not now", number, text]     not yet
                        ["events behind", reason]     why tracked events are not written in time; "" once they are
                        ["drain"]                     put all events into the ring, and take no more
                        ["profile", number, values, reason]  a profile that was asked for; or None, and why
                        ["audit", number, "status" | "tail" | "verify", count]
    to the data process ["listening"]                 the HTTP port is open
                        ["failed", text]              it cannot be opened; the sidecar ends
                        ["snapshot", number, with_histograms]
                        ["glance"]
                        ["doctor"]
                        ["events listening"], ["events not listening", text]   the port for events, before "listening"
                        ["tracked"]                   events are in the ring: kora.observe.tracked_ring
                        ["ask", number, name, details]   "read" or "keys", of what was tracked
                        ["drained"]
                        ["profile", number, kind, seconds, hz]  kora.server.profiling takes one
                        ["profile-stop", number]       nobody waits for it any more
                        ["audit", number, answer]     a dictionary, a list of lines, or {"error": text}

The settings that the sidecar cannot do without are metrics_bind, metrics_port, loop_stall_ms and started_ms (wall
clock); version, kernel, restarts (how often the sidecar was), keeps_history, log_level and log_format have defaults.
It passes over names that it does not know.
"""

import marshal
import struct
from typing import Any, Final, TypeAlias

Message: TypeAlias = list[Any]

_LENGTH: Final = struct.Struct(">I")
# The last version that does not look for objects it has seen before: half the time.
_VERSION: Final = 2


def encode(message: Message) -> bytes:
    body = marshal.dumps(message, _VERSION)
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Bytes in, messages out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that some bytes complete."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            stop = _LENGTH.size + length
            if len(buffer) < stop:
                break
            messages.append(marshal.loads(buffer[_LENGTH.size : stop]))
            del buffer[:stop]
        return messages
