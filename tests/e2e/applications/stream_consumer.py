"""A consumer of the stream `orders`: reads what it is given, and with `hang` never acknowledges it.

usage: python -m tests.e2e.applications.stream_consumer PORT NAME hang|work
"""

import sys
import time

import redis

IDLE_MS_MAX = 200


def main(port: str, name: str, manner: str) -> None:
    with redis.Redis(port=int(port), decode_responses=True) as client:
        while True:
            ((_, entries),) = client.xreadgroup("shop", name, {"orders": ">"}, count=3, block=50) or [("", [])]
            if manner == "hang" and entries:
                print("took", *(number for number, _ in entries), flush=True)
                time.sleep(1000)
            for number, fields in entries or abandoned(client, name):
                with client.pipeline() as pipe:
                    pipe.hincrby("done", fields["order"], 1).xack("orders", "shop", number).execute()


def abandoned(client: "redis.Redis", name: str) -> "list[tuple[str, dict[str, str]]]":
    """What others have had for too long."""
    _, entries, deleted = client.xautoclaim("orders", "shop", name, IDLE_MS_MAX, "0-0", count=10)
    assert deleted == []
    return list(entries)


if __name__ == "__main__":
    main(*sys.argv[1:])
