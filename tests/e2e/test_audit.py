"""The audit log of a real server: who did what, whatever is killed or full meanwhile."""

import contextlib
import csv
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora.audit.chain import verify
from kora.audit.files import find_log, lines
from kora.cli.operator import run as kora
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import Wire

Start = Callable[..., KoraProcess]


def flags(path: Path, *more: str) -> tuple[str, ...]:
    return ("--audit-file", str(path), *more)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line.data) for line in lines(find_log(str(path)))]


def refusal(wire: Wire, *words: object) -> str:
    reply = wire.run(*words)
    assert isinstance(reply, Exception), reply
    return str(reply)


def plain(words: list[Any]) -> dict[bytes, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_who_did_what_is_told_while_it_runs_and_afterwards(start_server: Start, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server(*flags(path), metrics=True)
    with server.connect() as wire:
        wire.run("CLIENT", "SETNAME", "operator")
        wire.run("CONFIG", "SET", "maxmemory", "1gb")
        wire.run("ACL", "SETUSER", "alice", "on", ">s3cret", "+@all", "~*")
        assert refusal(wire, "AUTH", "alice", "wrong").startswith("WRONGPASS")
        wire.run("FLUSHALL")
        tail = [json.loads(line) for line in wire.run("AUDIT", "TAIL", "10")]
        tail = [record for record in tail if record.get("name") == "operator" and record["command"] != "audit|tail"]
        assert [(record["command"], record["name"], record["outcome"]) for record in tail] == [
            ("config|set", "operator", "ok"), ("acl|setuser", "operator", "ok"), ("auth", "operator", "WRONGPASS"),
            ("flushall", "operator", "ok"),
        ]  # fmt: skip
        status = plain(wire.run("AUDIT", "STATUS"))
        assert (status[b"enabled"], status[b"fault"], status[b"file"]) == (1, b"", str(path).encode())
        assert plain(wire.run("AUDIT", "VERIFY"))[b"valid"] == 1
        assert refusal(wire, "AUDIT", "TAIL", "-1").startswith("ERR count must be between")
        wire.run("MULTI")
        assert refusal(wire, "AUDIT", "TAIL") == "ERR Command not allowed inside a transaction"
        wire.run("DISCARD")
    assert server.http("/health")[0] == 200
    text = server.http("/metrics")[1]
    assert 'kora_audit_records_total{category="auth",outcome="error"} 1.0' in text
    assert "kora_audit_chain_valid 1.0" in text
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    records = read(path)
    assert records[-1]["event"] == "closed"
    assert [record["number"] for record in records if "number" in record] == list(range(1, len(records) - 1))

    assert kora(["audit", "verify", str(tmp_path)]) == 0
    assert f"good: {len(records)} records, 1 to {len(records)}, in 1 files" in capsys.readouterr().out
    day = records[0]["time"][:10]
    for shape in ("json", "csv"):
        output = tmp_path / f"out.{shape}"
        call = ["audit", "export", str(path), "--start", day, "--end", "2999-12-31", "--format", shape]
        assert kora([*call, "--output", str(output)]) == 0
        text = output.read_text()
        found = json.loads(text) if shape == "json" else list(csv.DictReader(text.splitlines()))
        assert [str(record["seq"]) for record in found] == [str(record["seq"]) for record in records]
        assert [record["user"] for record in found if record.get("command") == "flushall"] == ["default"]
    assert kora(["audit", "export", str(path), "--end", "2000-12-31"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    path.write_bytes(path.read_bytes().replace(b"flushall", b"flushdb_", 1))
    assert kora(["audit", "verify", str(path)]) == 1
    assert "audit.jsonl, line" in (said := capsys.readouterr().out)
    assert "was changed: its hash does not fit what it says" in said
    assert kora(["audit", "verify", str(tmp_path / "nothing")]) == 2


@pytest.mark.once
def test_a_server_that_is_killed_has_its_gap_stated_by_the_next_record(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server(*flags(path, "--audit-categories", "write"), metrics=True)
    server.may_log_errors = True
    with server.connect() as wire, contextlib.suppress(OSError):
        wire.pipeline(*[("SET", f"key:{number}", "v") for number in range(500)])
        os.kill(server.pid, signal.SIGKILL)
    server.wait()
    # What is in the ring outlives the server: its sidecar writes it, and how many records are missing.
    eventually(lambda: read(path)[-1].get("event") == "cut off", "the sidecar to end the log")
    last = read(path)[-1]
    numbers = [record["number"] for record in read(path) if "number" in record]
    assert numbers == list(range(1, 501))
    assert last["missing"] == 0

    # With its sidecar killed, too, nobody knows what is missing; but that something may be.
    server = start_server(*flags(path, "--audit-categories", "write"), metrics=True)
    server.may_log_errors = True
    server.run("SET", "k", "v")
    eventually(lambda: read(path)[-1].get("command") == "set", "the record")
    sidecar = server.sidecar_pid
    os.kill(server.pid, signal.SIGSTOP)  # or it would start another
    os.kill(sidecar, signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    start_server(*flags(path), metrics=True)
    gap = eventually(lambda: next((record for record in read(path) if record.get("event") == "gap"), None), "the gap")
    before = read(path)[gap["seq"] - 2]
    assert (gap["reason"], gap["missing"], gap["last"]) == ("the log was not closed in order", None, before["seq"])
    assert not verify(lines(find_log(str(path)))).fault


@pytest.mark.once
def test_a_sidecar_that_is_killed_loses_no_record(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server(*flags(path, "--audit-categories", "write", "--audit-on-full", "block"), metrics=True)
    server.may_log_errors = True
    stopping = threading.Event()
    sent = 0

    def write() -> None:
        nonlocal sent
        with server.connect() as wire:
            while not stopping.is_set():
                wire.pipeline(*[("SET", f"key:{sent + place}", "v") for place in range(50)])
                sent += 50

    thread = threading.Thread(target=write)
    thread.start()
    try:
        killed = server.sidecar_pid
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server.sidecar_pid not in (0, killed), "another sidecar")
    finally:
        stopping.set()
        thread.join()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    records = read(path)
    assert [record["keys"] for record in records if "command" in record] == [
        [f"key:{number}"] for number in range(sent)
    ]
    assert not verify(lines(find_log(str(path)))).fault
    assert "resumed" in [record.get("event") for record in records]


def test_where_nothing_can_be_written_clients_wait_and_everybody_is_told(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "later" / "audit.jsonl"
    server = start_server(
        *flags(path, "--audit-on-full", "block", "--audit-queue-size", "64kb", "--audit-categories", "write"),
        metrics=True,
    )
    server.may_log_errors = True
    writer, operator = server.connect(), server.connect()
    requests = b"".join(b"*3\r\n$3\r\nSET\r\n$4\r\n%04d\r\n$1\r\nv\r\n" % number for number in range(2000))
    writer.sock.sendall(requests)
    eventually(lambda: plain(operator.run("AUDIT", "STATUS"))[b"clients_wait"] == 1, "clients to wait")
    keys = operator.run("DBSIZE")
    assert 0 < keys < 2000
    status, text = server.http("/health")
    check = json.loads(text)["checks"]["audit"]
    assert (status, check["status"]) == (503, "unhealthy")
    assert "No such file or directory" in check["reason"]
    assert "clients that want what is recorded wait, since the queue is full" in check["reason"]
    assert server.http("/health/live")[0] == 200
    doctor = operator.run("DOCTOR").decode()
    assert "The audit log cannot be written (No such file or directory), and clients" in doctor
    assert "audit log is full: clients wait" in server.log
    path.parent.mkdir()
    writer.sock.settimeout(20)
    received = b""
    while len(received) < 5 * 2000:
        received += writer.sock.recv(65536)
    assert received == b"+OK\r\n" * 2000
    eventually(lambda: plain(operator.run("AUDIT", "STATUS"))[b"queue_records"] == 0, "all to be written")
    assert [record["keys"] for record in read(path) if "command" in record] == [
        [f"{place:04}"] for place in range(2000)
    ]
    assert server.http("/health")[0] == 200


@pytest.mark.once
def test_passwords_are_nowhere(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    categories = "connect auth acl config admin script write read"
    server = start_server(
        *flags(path, "--audit-categories", categories, "--audit-arguments", "yes"),
        "--slowlog-log-slower-than", "0", "--log-level", "debug", "--tracing-enabled", "yes", "--tracing-slow-ms", "0",
        "--tracing-arguments", "all", "--tracing-endpoint", "http://127.0.0.1:1", metrics=True,
    )  # fmt: skip
    server.may_log_errors = True  # or debug lines of the sidecar, which it writes to standard error
    watching = server.connect()
    watching.run("MONITOR")
    with server.connect() as wire:
        wire.run("ACL", "SETUSER", "alice", "on", ">pass-word-1", "+@all", "~*")
        wire.run("AUTH", "alice", "pass-word-1")
        wire.run("HELLO", "2", "AUTH", "alice", "pass-word-1")
        refusal(wire, "AUTH", "alice", "pass-word-2")
        refusal(wire, "AUTH", "pass-word-3", "pass-word-4")
        refusal(wire, "HELLO", "3", "AUTH", "alice", "pass-word-5")
        refusal(wire, "AUTH", "a", "b", "pass-word-6")
        wire.run("CONFIG", "SET", "requirepass", "pass-word-7", "metrics-token", "pass-word-8")
        wire.run("CONFIG", "SET", "metrics-token", "")
        wire.run("MIGRATE", "127.0.0.1", "1", "k", "0", "10", "AUTH2", "alice", "pass-word-9")
        wire.run("ACL", "SETUSER", "alice", ">pass-word-0", "<pass-word-1")
        slow = repr(wire.run("SLOWLOG", "GET", "-1"))
        audited = repr(wire.run("AUDIT", "TAIL", "100"))
        ids = [trace[1] for trace in wire.run("TRACE", "LIST", "100")]
        traced = repr([wire.run("TRACE", "GET", trace_id) for trace_id in ids])
        wire.run("SET", "the-end", "1")
    shown = b""
    while b"the-end" not in shown:
        shown += watching.sock.recv(65536)
    server.signal(signal.SIGTERM)
    server.wait()
    places = {
        "the slow log": slow, "TRACE": traced, "AUDIT TAIL": audited, "MONITOR": shown.decode(), "the log": server.log,
        "standard error": server.stderr, "the audit log": path.read_text(),
    }  # fmt: skip
    assert all("alice" in places[name] for name in ("AUDIT TAIL", "the audit log"))
    assert "setuser" in places["TRACE"].lower()
    assert '"config|set"' in places["the audit log"]
    assert {name for name, text in places.items() if "pass-word" in text} == set()


@pytest.mark.once
def test_without_metrics_there_is_a_log_all_the_same(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server(*flags(path), "--maxclients", "2")
    with server.connect() as first, server.connect() as second:
        first.run("PING")
        second.run("PING")
        assert str(server.run("PING")).startswith("ERR max number of clients")
        address = second.address
        first.run("CONFIG", "SET", "hz", "20")
        records = [json.loads(line) for line in first.run("AUDIT", "TAIL", "100")]
    refused = next(record for record in records if record.get("event") == "refused")
    assert refused["reason"] == "ERR max number of clients reached"
    assert refused["address"].startswith("127.0.0.1:")
    assert address in [record.get("address") for record in records if record.get("event") == "connect"]
    assert [record["args"] for record in records if record.get("command") == "config|set"] == [["hz", "20"]]


@pytest.mark.once
def test_without_a_log_audit_says_so(server: KoraProcess) -> None:
    with server.connect() as wire:
        assert plain(wire.run("AUDIT", "STATUS"))[b"enabled"] == 0
        assert refusal(wire, "AUDIT", "TAIL") == "ERR there is no audit log: audit-file names none"
        assert refusal(wire, "AUDIT", "VERIFY") == "ERR there is no audit log: audit-file names none"
    assert "kora_audit" not in server.http("/metrics")[1]
