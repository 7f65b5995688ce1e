"""The life of the admin process: start → ready → stop.

It listens at once, and answers 503 until the store is reached; SIGTERM or SIGINT lets calls end for DRAIN_S, a second
signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket

from aiohttp import web

from clipper_nomad.admin import bundle_api, clipper_api, v1_api
from clipper_nomad.admin.access import errors_in_json, guard
from clipper_nomad.admin.app import BUNDLES, MAX_BODY_BYTES, SERVICES, Bundles, Services
from clipper_nomad.admin.bundle_store import BundleStore
from clipper_nomad.admin.catalog import CatalogService
from clipper_nomad.admin.config import Settings
from clipper_nomad.admin.frontends import FrontendCalls
from clipper_nomad.toolkit import toolkit_version

DRAIN_S = 5.0  # a write takes 2.5 s when frontends do not answer
EXIT_FORCED = 1

log = logging.getLogger(__name__)


class Server:
    """The admin service of one cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = CatalogService(settings.store_url, settings.cluster)
        self._stop = asyncio.Event()

    async def serve(self) -> None:
        """Run until a signal comes, or `stop` is called."""
        self._obey_signals()
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=DRAIN_S)
        await runner.setup()
        await self._listen(runner)
        opening = asyncio.create_task(self._open())
        try:
            await self._stop.wait()
        finally:
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
            await runner.cleanup()
            await self._catalog.close()
            log.info("admin stopped")

    def stop(self) -> None:
        """Finish what is in hand and end."""
        self._stop.set()

    def app(self) -> web.Application:
        """Return the HTTP application."""
        check = guard(self._settings.token, is_local=self._settings.is_local)
        app = web.Application(middlewares=[errors_in_json, check], client_max_size=MAX_BODY_BYTES)
        app[SERVICES] = Services(
            catalog=self._catalog,
            frontends=FrontendCalls(self._settings.token),
            cluster=self._settings.cluster,
            toolkit=toolkit_version(),
            default_slo_policy=self._settings.default_slo_policy,
        )
        bundles = self._settings.bundles
        store = None if bundles.folder is None else BundleStore(bundles.folder, max_bytes=bundles.max_bytes)
        app[BUNDLES] = Bundles(bundles, store)
        app.add_routes(clipper_api.routes(self._settings.default_slo_policy))
        app.add_routes(bundle_api.routes())
        app.add_routes(v1_api.routes())
        return app

    async def _open(self) -> None:
        await self._catalog.open(self._stop)
        if self._catalog.is_open:
            log.info("admin is ready", extra={"cluster": self._settings.cluster})

    async def _listen(self, runner: web.AppRunner) -> None:
        address = self._settings.address
        if address.fd is not None:
            await web.SockSite(runner, socket.socket(fileno=address.fd)).start()
        else:
            await web.TCPSite(runner, address.host, address.port).start()
        log.info("admin listens", extra={"address": runner.addresses[0]})

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            os._exit(EXIT_FORCED)
        self.stop()
