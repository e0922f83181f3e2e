"""Who is to blame for what others waited: what is charged (observe/service.py) gets names, and is kept for a while.

Whoever is slow is charged by name.  What is left of a wait went by with commands of which none stands out: that is
charged to the commands of that time by what each of them took.
"""

from typing import TYPE_CHECKING, Final

from kora.observe.blame import Blame, Culprit, Inflicted
from kora.observe.service import EVENT_LOOP, Charge

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_COLLECT_NS: Final = 500_000_000


class BlameRecords:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._blame = Blame()
        self._collected_ns = engine.monotonic_ns()
        # What commands had taken then, by slot, without what was charged by name.
        self._spent_ns: dict[int, int] = {}

    def top(self, seconds: int, count: int) -> list[Inflicted]:
        """The worst culprits of the last so many seconds."""
        self.collect()
        return self._blame.last(self._engine.monotonic_ns(), seconds)[:count]

    def advance(self) -> None:
        """Several times per second."""
        if self._engine.monotonic_ns() - self._collected_ns >= _COLLECT_NS:
            self.collect()

    def collect(self) -> None:
        """Take what was charged since the last time."""
        now_ns = self._collected_ns = self._engine.monotonic_ns()
        charges, (rest_victims, rest_ns, rest_ns_min, rest_ns_max) = self._engine.service.drain()
        for charge in charges:
            numbers = charge.victims, charge.waited_ns, charge.waited_ns_min, charge.waited_ns_max
            self._blame.add(now_ns, self._culprit(charge), *numbers)
        shares = self._shares()
        if not rest_ns_max:
            return
        total_ns = sum(spent_ns for _, spent_ns in shares)
        if not total_ns:
            shares, total_ns = [(EVENT_LOOP, 1)], 1
        # Each gets what is left by its part of what is left, so that nothing is lost to rounding.
        for name, spent_ns in shares:
            parts = [amount * spent_ns // total_ns for amount in (rest_victims, rest_ns, rest_ns_min, rest_ns_max)]
            total_ns -= spent_ns
            rest_victims, rest_ns, rest_ns_min, rest_ns_max = (
                rest_victims - parts[0],
                rest_ns - parts[1],
                rest_ns_min - parts[2],
                rest_ns_max - parts[3],
            )
            self._blame.add(now_ns, Culprit(name), parts[0], parts[1], parts[2], parts[3])

    def reset(self) -> None:
        """CONFIG RESETSTAT, before what it is made of is reset as well."""
        self.collect()
        self._blame.reset()
        self._spent_ns.clear()

    def _culprit(self, charge: Charge) -> Culprit:
        client = self._engine.clients.get(charge.client_id)
        name = self._engine.registry.slots[charge.slot].name if charge.slot >= 0 else charge.label
        return Culprit(name, charge.key, charge.address, client.name if client is not None else b"")

    def _shares(self) -> list[tuple[str, int]]:
        """What each command took since this was asked last, without what is charged by name."""
        engine = self._engine
        service = engine.service
        shares: list[tuple[str, int]] = []
        for slot in service.used_slots():
            spent_ns = sum(shard.stats.commands[slot].elapsed_ns for shard in engine.shards) - service.noted_ns(slot)
            before_ns = self._spent_ns.get(slot, 0)
            self._spent_ns[slot] = spent_ns
            if spent_ns > before_ns:
                shares.append((engine.registry.slots[slot].name, spent_ns - before_ns))
        return shares
