"""Django: its cache, its sessions kept there, and the channel layers of channels_redis."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests import peers
from tests.e2e.kora_process import KoraProcess, eventually

WAIT_S = 20.0


@pytest.fixture
def cache(server: KoraProcess) -> Iterator[Any]:
    backends = peers.peer_module("django.core.cache.backends.redis")
    opened = backends.RedisCache(f"redis://127.0.0.1:{server.port}/2", {"KEY_PREFIX": "site", "VERSION": 1})
    yield opened
    opened.close()


def test_djangos_cache_gets_sets_and_counts(cache: Any) -> None:
    missing = object()
    assert cache.get("k", missing) is missing
    assert cache.add("k", {"a": [1, 2.5, None]}, 60) is True
    assert cache.add("k", "no", 60) is False
    assert cache.get("k") == {"a": [1, 2.5, None]}
    assert "k" in cache
    assert cache.get_or_set("made", lambda: "now", 60) == "now"
    assert cache.get_or_set("made", lambda: "again", 60) == "now"
    cache.set("n", 10)
    assert (cache.incr("n"), cache.incr("n", 5), cache.decr("n", 20)) == (11, 16, -4)
    assert cache.get("n") == -4
    with pytest.raises(ValueError, match="nosuch"):
        cache.incr("nosuch")
    assert cache.delete("k") is True
    assert cache.delete("k") is False


def test_djangos_cache_handles_many_versions_and_none(cache: Any) -> None:
    many = {f"k{number}": number for number in range(200)}
    assert cache.set_many(many, 60) == []
    assert cache.get_many([*many, "nosuch"]) == many
    cache.delete_many([f"k{number}" for number in range(100)])
    assert len(cache.get_many(many)) == 100
    cache.set("none", None)
    assert cache.get("none", "default") is None
    cache.set("versioned", "one")
    assert cache.incr_version("versioned") == 2
    assert cache.get("versioned") is None
    assert cache.get("versioned", version=2) == "one"
    cache.set("bytes", bytes(range(256)) * 1000)
    assert cache.get("bytes") == bytes(range(256)) * 1000
    assert cache.clear() is True
    assert cache.get_many(many) == {}


def test_djangos_cache_expires(cache: Any, server: KoraProcess) -> None:
    cache.set("short", "v", 1)
    cache.set("touched", "v", 50)
    cache.set("kept", "v", None)
    cache.set("past", "v", 0)
    assert cache.get("past") is None
    assert cache.touch("touched", 100) is True
    assert cache.touch("nosuch", 100) is False
    eventually(lambda: cache.get("short") is None, "the key expires")
    assert (cache.get("touched"), cache.get("kept")) == ("v", "v")
    with server.connect() as wire:
        wire.run("SELECT", 2)
        assert 50 < wire.run("TTL", "site:1:touched") <= 100
        assert wire.run("TTL", "site:1:kept") == -1
        assert cache.touch("touched", None) is True
        assert wire.run("TTL", "site:1:touched") == -1


def test_djangos_sessions_live_in_the_cache(server: KoraProcess) -> None:
    conf = peers.peer_module("django.conf")
    test_utils = peers.peer_module("django.test.utils")
    if not conf.settings.configured:
        conf.settings.configure()
    location = f"redis://127.0.0.1:{server.port}/3"
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": location}
    with test_utils.override_settings(CACHES={"default": backend}):
        from django.contrib.sessions.backends.cache import SessionStore

        session = SessionStore()
        session["user"] = "ann"
        session.set_expiry(60)
        session.save(must_create=True)
        again = SessionStore(session.session_key)
        assert again["user"] == "ann"
        again.cycle_key()
        assert not SessionStore().exists(session.session_key)
        assert SessionStore(again.session_key)["user"] == "ann"
        again.flush()
        assert SessionStore(again.session_key).is_empty()


@pytest.fixture(params=["core", "pubsub"])
def make_layer(request: pytest.FixtureRequest, server: KoraProcess) -> Callable[..., Any]:
    """Layers as processes of a site have them, one each."""
    module = peers.peer_module(f"channels_redis.{request.param}")
    layer_class = {"core": "RedisChannelLayer", "pubsub": "RedisPubSubChannelLayer"}[request.param]
    return lambda **options: getattr(module, layer_class)(hosts=[("127.0.0.1", server.port)], **options)


def test_channels_sends_to_channels_and_groups_of_other_processes(make_layer: Callable[..., Any]) -> None:
    async def chat() -> None:
        sender, receiver = make_layer(), make_layer()
        ann, bob = await receiver.new_channel(), await receiver.new_channel()
        await sender.send(ann, {"type": "hello", "text": "Ann", "data": b"\x00\xff"})
        assert await soon(receiver.receive(ann)) == {"type": "hello", "text": "Ann", "data": b"\x00\xff"}

        await receiver.group_add("room", ann)
        await receiver.group_add("room", bob)
        for number in range(20):
            await sender.group_send("room", {"type": "chat", "number": number})
        for channel in (ann, bob):
            assert [(await soon(receiver.receive(channel)))["number"] for _ in range(20)] == list(range(20))
        await receiver.group_discard("room", bob)
        await sender.group_send("room", {"type": "chat", "number": 99})
        await sender.send(bob, {"type": "direct"})
        assert (await soon(receiver.receive(ann)))["number"] == 99
        assert await soon(receiver.receive(bob)) == {"type": "direct"}

        # A consumer waits for what is not yet sent.
        waiting = asyncio.ensure_future(receiver.receive(ann))
        await asyncio.sleep(0)
        await sender.send(ann, {"type": "late"})
        assert await soon(waiting) == {"type": "late"}
        for layer in (sender, receiver):
            await layer.flush()
            if hasattr(layer, "close_pools"):
                await layer.close_pools()

    asyncio.run(chat())


def test_a_full_channel_refuses_more(server: KoraProcess) -> None:
    core = peers.peer_module("channels_redis.core")
    from channels.exceptions import ChannelFull

    async def fill() -> None:
        layer = core.RedisChannelLayer(hosts=[("127.0.0.1", server.port)], capacity=3, expiry=60)
        for number in range(3):
            await layer.send("work", {"type": "task", "number": number})
        with pytest.raises(ChannelFull):
            await layer.send("work", {"type": "task", "number": 3})
        # A group's send leaves a full channel out, and tells nobody.
        await layer.group_add("all", "work")
        await layer.group_add("all", "idle")
        await layer.group_send("all", {"type": "task", "number": 4})
        assert [(await soon(layer.receive("work")))["number"] for _ in range(3)] == [0, 1, 2]
        assert (await soon(layer.receive("idle")))["number"] == 4
        await layer.close_pools()

    asyncio.run(fill())


async def soon(awaitable: "Awaitable[Any]") -> Any:
    return await asyncio.wait_for(awaitable, WAIT_S)
