"""`kora-server`, and `kora-cli`, the name by which the first Kora's page starts it."""

import os
import sys
from collections.abc import Mapping, Sequence

from kora import __version__
from kora.config import Config, flags_help
from kora.errors import ConfigError

_USAGE = """\
usage: kora-server [FILE] [--setting value ...]

A key-value server that speaks the Redis protocol and tells you why it is slow.

FILE is a configuration file in TOML; without it, KORA_CONFIG names one, or kora.toml is read where it is there.
Every setting is also a flag and an environment variable (--metrics-port, KORA_METRICS_PORT); a flag wins over the
environment, the environment over the file.

  -h, --help      this text
  -v, --version   the version

"""


def main() -> None:
    """Serve until stopped; the exit code is 1 where the server cannot start."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(_USAGE + flags_help())
        return 0
    if {"-v", "--version"} & set(argv):
        print(f"Kora server v={__version__}")
        return 0
    try:
        config = Config.load(argv, environ)
    except ConfigError as error:
        print(f"kora-server: {error}", file=sys.stderr)
        return 1
    # Only now: a wrong setting is told without the time it takes to load a server.
    from kora.app import serve

    return serve(config)
