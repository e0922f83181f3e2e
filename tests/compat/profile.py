"""How much hypothesis tries: a hundred or two programs, always the same; with KORA_LONG=1 80 times as many, all new."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

LONG = os.environ.get("KORA_LONG", "") not in ("", "0")


# There are so many families that the whole of it would take most of an hour.
_SHARE = 12


def examples(count: int, **options: Any) -> settings:
    return settings(
        max_examples=count * 10 if LONG else max(10, count // _SHARE),
        derandomize=not LONG,
        database=None,
        deadline=None,
        # Not explain: it runs a failing program hundreds of times more, to say less than the replies do.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        # Fixtures are servers that a program starts from scratch; a program is large, and slow to draw.
        suppress_health_check=list(HealthCheck),
        **options,
    )
