"""Listening: TCP on every bind address, TLS, and a Unix socket."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from typing import Final

from kora.config import Config
from kora.errors import ConfigError
from kora.log import logger

log = logger("kora.server")

Factory = Callable[[], asyncio.Protocol]

_PROTOCOLS: Final = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_VERIFY: Final = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "yes": ssl.CERT_REQUIRED}


class Listeners:
    """Every socket that clients can connect to."""

    def __init__(self) -> None:
        self._servers: list[asyncio.AbstractServer] = []
        self._contexts: list[tuple[asyncio.Server, ssl.SSLContext | None]] = []  # None: without TLS
        self._unix_path = ""
        self.ports: list[int] = []

    async def open(self, config: Config, factory: Factory) -> None:
        """Open what the settings name.  Raises ConfigError, in one clear line, where one cannot be opened."""
        loop = asyncio.get_running_loop()
        contexts: list[tuple[int, ssl.SSLContext | None]] = [(config.port, None)] if config.port else []
        if config.tls_port:
            contexts.append((config.tls_port, tls_context(config)))
        for port, context in contexts:
            for address in config.bind:
                await self._open_tcp(loop, factory, address, port, context, config.tcp_backlog)
        if config.unixsocket:
            await self._open_unix(loop, factory, config)
        if not self._servers:
            raise ConfigError("nothing to listen on: port, tls-port and unixsocket are all off")

    async def _open_tcp(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        address: str,
        port: int,
        context: ssl.SSLContext | None,
        backlog: int,
    ) -> None:
        # Redis: an address after a `-` is used where the machine has it.
        optional, host = address.startswith("-"), address.removeprefix("-")
        host = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
        try:
            server = await loop.create_server(factory, host, port, ssl=context, backlog=backlog, reuse_address=True)
        except (OSError, UnicodeError) as error:
            if optional and not _is_taken(error):
                log.debug("address not available", address=host, port=port, reason=str(error))
                return
            raise ConfigError(f"cannot listen on {host} port {port}: {_reason(error)}") from error
        self._servers.append(server)
        self._contexts.append((server, context))
        self.ports.append(port)

    async def _open_unix(self, loop: asyncio.AbstractEventLoop, factory: Factory, config: Config) -> None:
        path = config.unixsocket
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            server = await loop.create_unix_server(factory, path, backlog=config.tcp_backlog)
            self._unix_path = path
            if int(config.unixsocketperm, 8):
                os.chmod(path, int(config.unixsocketperm, 8))
        except OSError as error:
            raise ConfigError(f"cannot listen on the Unix socket {path}: {_reason(error)}") from error
        self._servers.append(server)
        self._contexts.append((server, None))

    def doors(self) -> list[tuple[int, ssl.SSLContext | None]]:
        """The descriptors of all sockets, and how those who come there speak TLS; None: they do not."""
        return [(sock.fileno(), context) for server, context in self._contexts for sock in server.sockets]

    def close(self) -> None:
        """Accept nobody any more; connections that are open stay open."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._contexts.clear()
        if self._unix_path:
            with contextlib.suppress(OSError):
                os.unlink(self._unix_path)
            self._unix_path = ""


def tls_context(config: Config) -> ssl.SSLContext:
    """Raises ConfigError naming the setting whose file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if not config.tls_cert_file:
        raise ConfigError("tls-port needs tls-cert-file, the server's certificate in PEM form")
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file or None, config.tls_key_file_pass or _no_pass)
    except (OSError, ssl.SSLError) as error:
        files = " and ".join(file for file in (config.tls_cert_file, config.tls_key_file) if file)
        raise ConfigError(f"tls-cert-file, tls-key-file: cannot use {files}: {_reason(error)}") from error
    context.verify_mode = _VERIFY[config.tls_auth_clients]
    if config.tls_ca_cert_file or config.tls_ca_cert_dir:
        try:
            context.load_verify_locations(config.tls_ca_cert_file or None, config.tls_ca_cert_dir or None)
        except (OSError, ssl.SSLError) as error:
            place = config.tls_ca_cert_file or config.tls_ca_cert_dir
            raise ConfigError(f"tls-ca-cert-file, tls-ca-cert-dir: cannot use {place}: {_reason(error)}") from error
    elif config.tls_auth_clients != "no":
        raise ConfigError(
            "tls-port needs tls-ca-cert-file or tls-ca-cert-dir to check clients' certificates, "
            "or tls-auth-clients no to ask for none"
        )
    if config.tls_protocols:
        versions = []
        for name in config.tls_protocols.split():
            if name not in _PROTOCOLS:
                raise ConfigError(f"tls-protocols: {name!r} is not one of {', '.join(_PROTOCOLS)}")
            versions.append(_PROTOCOLS[name])
        context.minimum_version, context.maximum_version = min(versions), max(versions)
    if config.tls_ciphers:
        try:
            context.set_ciphers(config.tls_ciphers)
        except ssl.SSLError as error:
            raise ConfigError(f"tls-ciphers: {config.tls_ciphers!r} names no usable cipher") from error
    return context


def _no_pass() -> str:
    """OpenSSL asks at the terminal when it is given no password at all; a server has nobody there."""
    return ""


def _is_taken(error: Exception) -> bool:
    """An address that the machine has, but whose port is in use, is not an address to pass over."""
    return isinstance(error, OSError) and "in use" in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        text = error.strerror
        return "the address is already in use" if "in use" in text else text
    return str(error)
