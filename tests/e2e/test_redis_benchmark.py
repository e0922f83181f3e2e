"""redis-benchmark runs its tests against Kora, without an error."""

import csv
import subprocess

import pytest

from tests.e2e.kora_process import KoraProcess, clean_environ
from tests.peers import peer

TESTS = "ping_inline,ping_mbulk,set,get,incr,mset"
TITLES = {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"}


def benchmark(kora: KoraProcess, *words: str) -> str:
    done = subprocess.run(
        [peer("redis-benchmark"), "-p", str(kora.port), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environ(),
        timeout=100,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output
    assert "rror" not in output, output
    assert "WARNING" not in output, output
    return output


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_the_default_tests_that_kora_has(server: KoraProcess, pipeline: str) -> None:
    output = benchmark(server, "-t", TESTS, "-n", "4000", "-r", "1000", "-P", pipeline, "--csv")
    rows = list(csv.DictReader(output.splitlines()))
    assert {row["test"] for row in rows} == TITLES, output
    assert all(float(row["rps"]) > 0 for row in rows), output
    # Random keys of SET and MSET, and INCR's counter; with every test done there are nearly all of a thousand each.
    assert server.run("DBSIZE") > 1000


def test_a_command_of_ones_own_over_random_keys(server: KoraProcess) -> None:
    benchmark(server, "-n", "5000", "-r", "100", "-P", "8", "-q", "SET", "own:__rand_int__", "v", "EX", "100")
    assert server.run("DBSIZE") == 100
    assert 0 < server.run("TTL", "own:000000000001") <= 100


def test_resp3_and_many_threads(server: KoraProcess) -> None:
    output = benchmark(server, "-3", "--threads", "2", "-t", "set,get", "-n", "4000", "-r", "1000", "--csv")
    assert {row["test"] for row in csv.DictReader(output.splitlines())} == {"SET", "GET"}
