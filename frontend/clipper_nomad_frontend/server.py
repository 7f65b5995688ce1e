"""The life of a query frontend: start → ready → drain → stop.

start: catalog (store, else mirror), model channel, HTTP. drain (SIGTERM): not ready any more, `Connection: close` on every
reply, what is owed is answered, replicas are told nothing: their connections end with the process and they go elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from clipper_nomad.state.feedback import Feedback, FeedbackStream
from clipper_nomad.state.records import Snapshot
from clipper_nomad.state.watch import watch_catalog
from clipper_nomad_frontend.access_log import AccessLog
from clipper_nomad_frontend.api import fallback_protocol, internal_app, public_app
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.channel_keys import ChannelKeys
from clipper_nomad_frontend.clipper_metrics import Rates, clipper_document, prediction_counts
from clipper_nomad_frontend.config import Address, Settings, read_keys
from clipper_nomad_frontend.frontend_facts import FrontendFacts
from clipper_nomad_frontend.gatekeeper import key_pair
from clipper_nomad_frontend.http_predict import HttpServerState, PredictConnection
from clipper_nomad_frontend.legacy_router import LegacyRouter
from clipper_nomad_frontend.mesh import Mesh
from clipper_nomad_frontend.metrics import Exposition
from clipper_nomad_frontend.report import frontend_report
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.shared_listener import SharedListener

log = logging.getLogger(__name__)

BACKLOG = 2048
TICK_EVERY_S = 1.0
LATE_ACCEPT_S = 2.0  # at drain the listener stays open this long: a proxy that has not heard of it yet may be dialling
LATE_ACCEPT_INHERITED_S = 0.5  # one that was inherited usually stays open in its owner, so that nobody is refused
CLOSE_TIMEOUT_S = 2.0


class Server:
    """One query frontend on the running event loop."""

    def __init__(self, settings: Settings, toolkit: str) -> None:
        self._settings = settings
        self._toolkit = toolkit
        self._is_draining = False
        self._stop = asyncio.Event()
        self._signals = 0
        epoch = secrets.randbits(64)
        self._access_log = AccessLog(settings.access_log, sys.stdout, time.time)
        self._serving = Serving(
            frontend_id=settings.frontend_id,
            toolkit=toolkit,
            epoch=epoch,
            bounds=settings.queue_bounds,
            access_log=self._access_log,
            path_prefix=settings.path_prefix,
            cache_bytes=settings.cache_bytes,
        )
        self._keys: ChannelKeys | None = None
        if settings.curve_secret is not None:
            self._keys = ChannelKeys(key_pair(settings.curve_secret), lambda: read_keys(settings.curve_server_keys))
        self._catalog = Catalog(settings.mirror, self._apply, self._serving.process_counters)
        self._mesh = Mesh(
            self._serving,
            self._catalog,
            frontend_id=settings.frontend_id,
            toolkit=toolkit,
            epoch=epoch,
            seeds=settings.peers,
            keys=self._keys,
        )
        self._router = self._serving.router = Router(settings.rpc, self._mesh, epoch, self._keys)
        self._rates = Rates()
        self._feedback = FeedbackStream(settings.store_url, settings.cluster) if settings.store_url is not None else None
        self._legacy: LegacyRouter | None = None
        if settings.legacy_rpc is not None:
            self._legacy = LegacyRouter(settings.legacy_rpc, self._serving, frontend_id=settings.frontend_id)
        self._facts = FrontendFacts(
            serving=self._serving,
            catalog=self._catalog,
            exposition=Exposition(self._serving),
            clipper_metrics=lambda: clipper_document(self._serving, self._rates, time.monotonic()),
            keep_feedback=self._keep_feedback,
            report=self._report,
            is_draining=lambda: self._is_draining,
            token=settings.token,
            body_bytes=settings.http_limits.body_bytes,
            toolkit=toolkit,
            is_local=settings.http_limits.is_local,
        )
        self._http: HttpServerState | None = None
        self._http_address = str(settings.http)

    def _apply(self, snapshot: Snapshot) -> None:
        if self._keys is not None:
            self._keys.know(snapshot.versions.values())
        self._serving.apply(snapshot)
        if self._legacy is not None:
            self._legacy.peers.on_catalog()

    async def _keep_feedback(self, feedback: Feedback) -> bool:
        return self._feedback is not None and await self._feedback.keep(feedback)

    def _report(self) -> dict[str, Any]:
        return frontend_report(
            self._settings,
            self._serving,
            self._catalog,
            toolkit=self._toolkit,
            http=self._http_address,
            is_draining=self._is_draining,
            peers=self._mesh.report(),
            legacy=self._legacy,
            key=self._keys.own.public.decode() if self._keys is not None else None,
        )

    async def serve(self) -> None:
        """Run until a signal ends it."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        self._catalog.start_from_mirror()
        self._mesh.start(self._router.context, settings.advertised_rpc or self._router.address)
        async with contextlib.AsyncExitStack() as stack:
            if settings.store_url is not None:
                watching = asyncio.create_task(self._watch(settings.store_url))
                stack.push_async_callback(_cancel, watching)
            if self._feedback is not None:
                stack.push_async_callback(self._feedback.close)
            if settings.internal is not None:
                runner = await _runner(internal_app(self._facts), stack)
                await _site(runner, settings.internal).start()
            fallback = await _runner(public_app(self._facts, settings.path_prefix), stack)
            self._http = http = HttpServerState(
                self._serving,
                counters=self._serving.process_counters,
                limits=settings.http_limits,
                fallback=fallback_protocol(fallback),
                clock=time.monotonic,
            )
            listening = _listen(settings.http)
            self._http_address = _host_and_port(listening)
            server = await self._accept_on(listening, http)
            ticking = asyncio.create_task(self._tick(http))
            stack.push_async_callback(_cancel, ticking)
            gc.collect()
            gc.freeze()  # what start-up made stays: the collector need not look at it again
            legacy = {"legacy_rpc": self._legacy.address} if self._legacy is not None else {}
            log.info("frontend is up", extra={"http": self._http_address, "rpc": self._router.address, **legacy})
            await self._stop.wait()
            await self._drain(server)
        self._mesh.close()
        self._router.close()
        if self._legacy is not None:
            self._legacy.close()
        self._access_log.flush()

    async def _accept_on(self, listening: socket.socket, http: HttpServerState) -> asyncio.Server | SharedListener:
        loop = asyncio.get_running_loop()
        if self._settings.share is None:
            return await loop.create_server(lambda: PredictConnection(http), sock=listening, backlog=BACKLOG)
        shared = SharedListener(
            listening,
            self._settings.share,
            protocol=lambda: PredictConnection(http),
            open_here=lambda: len(http.connections),
        )
        http.on_connections_changed = shared.note
        return shared

    async def _watch(self, store_url: str) -> None:
        await watch_catalog(
            store_url,
            self._settings.cluster,
            accept=self._catalog.accept,
            report=self._report,
            frontend_id=self._settings.frontend_id,
            address=self._mesh.roster.own.address,
            heard=self._mesh.heard,
            is_present=lambda: not self._is_draining,
        )

    async def _tick(self, http: HttpServerState) -> None:
        while True:
            http.tick(time.monotonic(), time.time())
            self._rates.note(prediction_counts(self._serving), time.monotonic())
            await asyncio.sleep(TICK_EVERY_S)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)  # asked twice: at once
        self._stop.set()

    async def _drain(self, server: asyncio.Server | SharedListener) -> None:
        """Answer what is owed, until there is nothing or the time is up."""
        assert self._http is not None  # noqa: S101  # it is up, or there was nothing to drain
        log.info("draining", extra={"connections": len(self._http.connections)})
        self._is_draining = True
        self._mesh.drain()
        if isinstance(server, SharedListener):
            server.step_back()
        self._http.drain(time.monotonic())
        deadline = time.monotonic() + self._settings.drain_s
        late_accept_s = LATE_ACCEPT_S if self._settings.http.fd is None else LATE_ACCEPT_INHERITED_S
        await asyncio.sleep(min(late_accept_s, self._settings.drain_s))
        server.close()
        while (self._http.connections or self._serving.owes_answers) and time.monotonic() < deadline:
            self._http.tick(time.monotonic(), time.time())
            await asyncio.sleep(0.05)
        if self._http.connections:
            log.warning("drain ended with open connections", extra={"connections": len(self._http.connections)})
            for connection in list(self._http.connections):
                connection.abort()


async def _runner(app: web.Application, stack: contextlib.AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _site(runner: web.AppRunner, address: Address) -> web.BaseSite:
    if address.path is not None:
        Path(address.path).unlink(missing_ok=True)
        return web.UnixSite(runner, address.path)
    return web.SockSite(runner, _listen(address))


def _listen(address: Address) -> socket.socket:
    """Return a listening socket: the inherited one, or a new one. Never SO_REUSEPORT: two clusters must not share a port."""
    if address.fd is not None:
        return socket.socket(fileno=address.fd)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    listening.setblocking(False)
    return listening


def _host_and_port(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
