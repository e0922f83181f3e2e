"""Random loads: what the kernel says of waits, services and culprits against what the reference does."""

from random import Random
from typing import Any

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.observe.service import NOTABLE_NS
from tests.conftest import encode_request

pytestmark = pytest.mark.usefixtures("compiled")

REQUESTS = (
    ("PING",),
    ("SET", "k", "v"),
    ("GET", "k"),
    ("NOSUCH",),
    ("DEBUG", "SLEEP", "0.00002"),
    ("DEBUG", "SLEEP", "0.00015"),
    ("DEBUG", "SLEEP", "0.02"),
)


class Side:
    def __init__(self, compiled: Any) -> None:
        self.clock = ManualClock()
        self.engine = Engine(Config.load(["--hotkey-top-k", "0"], {}), make_registry(), self.clock, kernel=compiled)
        self.clients = [self.engine.connect(f"127.0.0.1:{number}") for number in range(6)]

    def step(self, random: Random, number: int) -> None:
        engine, clock, service = self.engine, self.clock, self.engine.service
        now_ns = clock.monotonic_ns()
        match random.randrange(12):
            case 0:
                clock.advance_ns(random.choice((1_000, 50_000, 3_000_000, 200_000_000)))
            case 1 | 2:
                service.checked(now_ns)
                service.prepared(now_ns)
            case 3:
                service.checked(now_ns)
            case 4:
                elapsed_ns = random.choice((5_000, 400_000, 9_000_000))
                clock.advance_ns(elapsed_ns)
                service.note_job(random.choice(("gc", "lazyfree")), now_ns, now_ns + elapsed_ns)
            case 5:
                service.lag(random.choice(self.clients))
            case 6 if number % 50 == 0:
                service.forget(random.choice(self.clients))
            case _:
                client = random.choice(self.clients)
                age_ns = random.choice((-1, 4_000_000, 16_000_000))
                client.data_age_ns = lambda: age_ns
                pipeline = random.choices(REQUESTS, k=random.choice((1, 1, 1, 5, 60)))
                pause_ns = random.choice((0, 10_000, 300_000))
                engine.execute(client, b"".join(map(encode_request, pipeline)), lambda _: clock.advance_ns(pause_ns))
                while client.more:
                    engine.resume(client)

    def numbers(self) -> Any:
        service = self.engine.service
        waits = [row.calls for row in service.waits]
        services = [
            (row.calls, row.elapsed_ns, {at: count for at, count in enumerate(row.counts) if count})
            for row in service.services
        ]
        suffered = service.reads, service.suffered_ns, service.suffered_ns_min, service.suffered_ns_max
        noted = [service.noted_ns(slot) for slot in service.used_slots()]
        clients = [(client.last_ns, client.arrived_ns, client.pause_ns) for client in self.clients]
        return suffered, service.drain(), noted, clients, waits, services


@pytest.mark.parametrize("seed", range(8))
def test_kernel_and_reference_agree_on_who_waited_for_whom(seed: int) -> None:
    sides = Side(kernel.load()), Side(None)
    programs = Random(seed), Random(seed)
    for number in range(600):
        for side, random in zip(sides, programs, strict=True):
            side.step(random, number)
        if number % 100 == 99:
            compiled, reference = (side.numbers() for side in sides)
            assert compiled == reference
        # Runs of a command may be cut elsewhere, which moves what is recorded of them within the run.
        for compiled, reference in zip(*(side.engine.service.waits for side in sides), strict=True):
            assert abs(compiled.elapsed_ns - reference.elapsed_ns) <= compiled.calls * NOTABLE_NS
