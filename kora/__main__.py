"""`python -m kora` is `kora-server`."""

from kora.cli.server import main

main()
