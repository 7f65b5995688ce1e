"""A store that may move: its URL stands in a file, which is read again at each connect.

On a cluster Nomad writes the file from service discovery when Redis gets another address; the processes that use it go on
without a restart. Source: docs/cluster.md
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

SCHEME = "file://"


class StoreFile(CredentialProvider):
    """The file: where the store is now, and how to log in there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def options(self) -> dict[str, Any]:  # Any: the client's keyword arguments
        """Return what the URL in the file says, as the client wants it.

        Raises: RedisConnectionError: the file names no store (yet): to be tried again, like a store that is away.
        """
        try:
            options = dict(parse_url(self.path.read_text().strip()))
        except (OSError, ValueError) as exc:
            raise RedisConnectionError(f"{self.path} names no store: {exc}") from exc
        if "host" not in options:
            raise RedisConnectionError(f"{self.path} names no store: redis://host:port/0 or rediss://… was expected")
        return options

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return what to log in with: user and password, or the password alone; an empty tuple where none is asked for."""
        options = self.options()
        if "password" not in options:
            return cast("tuple[str]", ())  # the client then does not log in
        return (options["username"], options["password"]) if "username" in options else (options["password"],)

    def connection_options(self) -> dict[str, Any]:  # Any: as above
        """Return what a pool makes its connections with. Whether there is TLS, and which database, is read once."""
        try:
            options = self.options()
        except RedisConnectionError:  # there is no store yet; it will be one of the usual kind
            options = {}
        is_tls = options.get("connection_class") is SSLConnection
        return {
            "connection_class": _MovingTls if is_tls else _Moving,
            "store_file": self,
            "credential_provider": self,
            "db": options.get("db", 0),
        }


class _Moves(AbstractConnection):
    def __init__(self, *, store_file: StoreFile, **options: Any) -> None:  # the client's
        self._store_file = store_file
        super().__init__(**options)

    def _connection_arguments(self) -> Mapping[str, Any]:  # Any: what asyncio.open_connection takes
        now = self._store_file.options()
        return {**super()._connection_arguments(), "host": now["host"], "port": now.get("port", 6379)}  # type: ignore[misc]


class _Moving(_Moves, Connection):
    pass


class _MovingTls(_Moves, SSLConnection):
    pass
