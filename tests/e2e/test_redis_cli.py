"""The real redis-cli, in every way people use it: at a terminal, in scripts, and with its tools."""

import binascii
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, clean_environ
from tests.peers import peer

pytestmark = pytest.mark.once


def cli(kora: KoraProcess, *words: str, stdin: "str | bytes" = "", exit_code: int = 0) -> str:
    """What redis-cli prints, for a command or, without one, for what is on its standard input."""
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(
        [peer("redis-cli"), "-p", str(kora.port), *words],
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environ(),
        timeout=60,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == exit_code, output
    return output


def first_lines(kora: KoraProcess, count: int, *words: str) -> list[str]:
    """The first lines of a redis-cli that never ends by itself."""
    process = subprocess.Popen(
        # Otherwise lines would come by the 4 KB.
        ["stdbuf", "-oL", peer("redis-cli"), "-p", str(kora.port), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environ(),
    )
    assert process.stdout is not None
    text = b""
    try:
        stop = time.monotonic() + 30
        while text.count(b"\n") < count and time.monotonic() < stop:
            if select.select([process.stdout], [], [], 0.5)[0]:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                text += data
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    lines = text.decode().splitlines()
    assert len(lines) >= count, text
    return lines


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """redis-cli at a terminal, as a person sees it."""

    def __init__(self, kora: KoraProcess, *words: str) -> None:
        self.prompt = f"127.0.0.1:{kora.port}> "
        self._master, slave = pty.openpty()
        # Without a size redis-cli asks the terminal where its cursor is.
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        try:
            self._process = subprocess.Popen(
                [peer("redis-cli"), "-p", str(kora.port), *words],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**clean_environ(), "TERM": "xterm", "HOME": str(kora.folder)},
                start_new_session=True,
            )
        finally:
            os.close(slave)

    def shown(self, expected: str, timeout_s: float = 20.0) -> str:
        """Read until the screen shows something; return all that came."""
        screen = ""
        stop = time.monotonic() + timeout_s
        while expected not in screen:
            assert time.monotonic() < stop, f"{expected!r} was never shown: {screen!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                screen += _COLOUR.sub("", os.read(self._master, 1 << 16).decode(errors="replace"))
        return screen

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ask(self, line: str, expected: str) -> None:
        """Type a line, and see the answer and then the next prompt: what is typed before that is lost."""
        self.type(line + "\r")
        screen = self.shown(expected)
        if not screen.endswith("> "):
            self.shown("> ")

    def close(self) -> int:
        try:
            for _ in range(10):
                # What is typed before redis-cli shows its prompt again is thrown away by its line editor.
                self.type("quit\r")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self._process.wait(2)
            raise AssertionError("redis-cli does not quit")
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._master)


@pytest.fixture
def open_terminal(server: KoraProcess) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(server, *words))
        return opened[-1]

    yield open_one
    for terminal in opened:
        assert terminal.close() == 0


def failed_calls(kora: KoraProcess, command: str) -> int:
    """How often a command failed or was refused, as INFO commandstats counts it; -1 if it was never called."""
    info = kora.run("INFO", "commandstats").decode()
    found = re.search(rf"^cmdstat_{re.escape(command)}:.*rejected_calls=(\d+),failed_calls=(\d+)", info, re.MULTILINE)
    return int(found[1]) + int(found[2]) if found else -1


def test_a_session_at_a_terminal(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    screen = terminal.shown(terminal.prompt)
    assert "rror" not in screen, screen
    terminal.ask('set greeting "hello\\tworld"', "OK")
    terminal.ask("get greeting", '"hello\\tworld"')
    terminal.ask("incr greeting", "(error) ERR value is not an integer or out of range")
    terminal.ask("nonsense a b", "(error) ERR unknown command 'nonsense', with args beginning with: 'a' 'b'")
    terminal.ask("get missing", "(nil)")
    terminal.ask("mget greeting missing", "2) (nil)")
    terminal.ask("append greeting !", "(integer) 12")
    terminal.ask("select 3", "[3]> ")


def test_a_terminal_completes_commands_and_shows_their_arguments(
    open_terminal: Callable[..., Terminal], server: KoraProcess
) -> None:
    terminal = open_terminal()
    terminal.shown(terminal.prompt)
    terminal.type("getex ")
    terminal.shown("key")
    terminal.type("\x15getr\t")
    terminal.shown("GETRANGE")
    terminal.type("\x15help set\r")
    terminal.shown("since: 1.0.0")
    asked = [command for command in ("command", "command|docs") if failed_calls(server, command) == 0]
    assert asked, "at a terminal redis-cli asks for COMMAND or COMMAND DOCS, and must get it"


def test_a_terminal_speaks_resp3(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal("-3")
    terminal.shown(terminal.prompt)
    terminal.ask("hello", '# "proto" => (integer) 3')
    terminal.ask("config get maxclients", '1# "maxclients" => "10000"')
    terminal.ask("get missing", "(nil)")


def test_a_script_of_several_commands_with_errors_in_between(server: KoraProcess) -> None:
    script = "SET a 1\nINCR a\nLPUSH\nINCRBY a x\nGET a\nDEL a b\nEXISTS a\n"
    lines = cli(server, stdin=script).splitlines()
    assert [line for line in lines if line] == [
        "OK",
        "2",
        "ERR wrong number of arguments for 'lpush' command",
        "ERR value is not an integer or out of range",
        "2",
        "1",
        "0",
    ]


def test_one_command_per_call(server: KoraProcess) -> None:
    assert cli(server, "SET", "k", "v") == "OK\n"
    assert cli(server, "GET", "k") == "v\n"
    assert cli(server, "--no-raw", "GET", "k") == '"v"\n'
    assert cli(server, "-e", "INCR", "k", exit_code=1).strip() == "ERR value is not an integer or out of range"
    assert cli(server, "-n", "5", "SET", "there", "1") == "OK\n"
    assert cli(server, "-n", "5", "DBSIZE") == "1\n"
    assert cli(server, "-x", "SET", "from-stdin", stdin=b"\x00\xff\r\n") == "OK\n"
    assert server.run("GET", "from-stdin") == b"\x00\xff\r\n"
    assert cli(server, "-r", "3", "INCR", "counted") == "1\n2\n3\n"


def test_raw_csv_and_json_output(server: KoraProcess) -> None:
    server.run("MSET", "a", "1", "b", 'with "quotes"')
    assert cli(server, "--raw", "MGET", "a", "b", "c") == '1\nwith "quotes"\n\n'
    assert cli(server, "--csv", "MGET", "a", "b", "c") == '"1","with \\"quotes\\"",NULL\n'
    assert json.loads(cli(server, "--json", "MGET", "a", "b", "c")) == ["1", 'with "quotes"', None]
    assert json.loads(cli(server, "--json", "CONFIG", "GET", "maxclients")) == {"maxclients": "10000"}
    assert json.loads(cli(server, "-2", "--json", "CONFIG", "GET", "maxclients")) == ["maxclients", "10000"]
    hello = json.loads(cli(server, "-3", "--json", "HELLO"))
    assert (hello["server"], hello["proto"], hello["role"], hello["modules"]) == ("redis", 3, "master", [])


def test_stat_shows_the_servers_numbers(server: KoraProcess) -> None:
    server.run("MSET", *(word for number in range(7) for word in (f"k{number}", "v")))
    lines = first_lines(server, 4, "--stat", "-i", "0.1")
    assert lines[0].startswith("------- data")
    assert lines[1].split()[:3] == ["keys", "mem", "clients"]
    for line in lines[2:4]:
        keys, memory, clients, blocked, requests, *_ = line.split()
        assert int(keys) == 7, line
        assert re.fullmatch(r"[\d.]+[BKMG]", memory), line
        assert int(clients) >= 1, line
        assert int(blocked) == 0, line
        assert int(requests) > 0, line


def test_bigkeys_finds_the_biggest_string(server: KoraProcess) -> None:
    server.run("SET", "the-big-one", "x" * 5000)
    server.run("MSET", *(word for number in range(500) for word in (f"small:{number}", "v")))
    output = cli(server, "--bigkeys")
    assert "Sampled 501 keys in the keyspace!" in output
    assert "Biggest string found '\"the-big-one\"' has 5000 bytes" in output, output
    assert "501 strings with 5500 bytes (100.00% of keys" in output


def test_memkeys_finds_the_key_that_takes_most_memory(server: KoraProcess) -> None:
    server.run("SET", "the-big-one", "x" * 5000)
    server.run("MSET", *(word for number in range(100) for word in (f"small:{number}", "v")))
    output = cli(server, "--memkeys")
    found = re.search(r"Biggest string found '\"the-big-one\"' has (\d+) bytes", output)
    assert found, output
    assert 5000 < int(found[1]) < 6000


def test_scan_lists_every_key_once_and_follows_its_pattern(server: KoraProcess) -> None:
    server.run("MSET", *(word for number in range(1000) for word in (f"key:{number}", "v", f"other:{number}", "v")))
    assert sorted(cli(server, "--scan").splitlines()) == sorted(
        f"{kind}:{number}" for number in range(1000) for kind in ("key", "other")
    )
    assert sorted(cli(server, "--scan", "--pattern", "key:99*").splitlines()) == sorted(
        ["key:99", *(f"key:99{digit}" for digit in range(10))]
    )


def test_latency_measures_round_trips(server: KoraProcess) -> None:
    low, high, average, samples = cli(server, "--latency", "-i", "0.3").split()[:4]
    assert 0 <= float(low) <= float(average) <= float(high)
    assert int(samples) > 1
    for line in first_lines(server, 2, "--latency-history", "-i", "0.2")[:2]:
        assert len(line.split()) >= 4, line


def test_pipe_inserts_in_bulk(server: KoraProcess) -> None:
    data = b"".join(encode_request(("SET", f"bulk:{number}", f"value:{number}")) for number in range(10_000))
    output = cli(server, "--pipe", stdin=data)
    assert "errors: 0, replies: 10000" in output
    assert server.run("DBSIZE") == 10_000
    assert server.run("GET", "bulk:9999") == b"value:9999"


def test_pipe_counts_errors(server: KoraProcess) -> None:
    data = b"".join(encode_request(("INCR", "n")) + encode_request(("INCR", "n", "extra")) for _ in range(50))
    output = cli(server, "--pipe", stdin=data, exit_code=1)
    assert "errors: 50, replies: 100" in output


def test_cluster_keyslot_is_crc16_of_the_key_or_its_tag(server: KoraProcess) -> None:
    keys = {"foo": "foo", "user:{42}:name": "42", "{}x": "{}x", "a{b": "a{b", "{a}{b}": "a", "ключ": "ключ"}
    script = "".join(f'CLUSTER KEYSLOT "{key}"\n' for key in keys)
    slots = [int(line) for line in cli(server, stdin=script).split()]
    assert slots == [binascii.crc_hqx(tag.encode(), 0) & 16383 for tag in keys.values()]


def test_commands_that_people_look_around_with_answer(server: KoraProcess) -> None:
    assert "redis_version:" in cli(server, "INFO")
    assert "uptime_in_seconds:" in cli(server, "INFO", "server")
    assert int(cli(server, "COMMAND", "COUNT")) > 60
    assert cli(server, "CLIENT", "SETNAME", "me") == "OK\n"
    assert "cmd=client|list" in cli(server, "CLIENT", "LIST")


def test_interrupting_redis_cli_leaves_the_server_alone(server: KoraProcess) -> None:
    process = subprocess.Popen(
        [peer("redis-cli"), "-p", str(server.port), "DEBUG", "SLEEP", "0.5"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environ(),
    )
    try:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    finally:
        process.wait(10)
    assert server.run("PING") == b"PONG"


def test_password_of_redis_cli(start_server: Callable[..., Any]) -> None:
    kora = start_server("--requirepass", "secret")
    assert "NOAUTH" in cli(kora, "GET", "k")
    assert cli(kora, "-a", "secret", "--no-auth-warning", "SET", "k", "v") == "OK\n"
    assert cli(kora, "--user", "default", "--pass", "secret", "--no-auth-warning", "GET", "k") == "v\n"
    assert "WRONGPASS" in cli(kora, "-a", "wrong", "--no-auth-warning", "GET", "k")


def test_monitor_shows_what_others_do(server: KoraProcess) -> None:
    with server.connect() as other:
        stop = threading.Event()

        def talk() -> None:
            while not stop.wait(0.02):
                other.run("ECHO", 'say "hi"')

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            lines = first_lines(server, 2, "MONITOR")
        finally:
            stop.set()
            thread.join()
    assert lines[0] == "OK"
    assert re.fullmatch(r'\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "ECHO" "say \\"hi\\""', lines[1])
