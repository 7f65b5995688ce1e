"""What this frontend serves just now: apps by path, dispatches by version, replicas by session.

catalog.py tells it what should be served (`apply`), http_predict.py brings queries (`query`, `submit`), router.py brings
replicas and results (it is the router's Listener). All on one event loop; policy is in the pure modules it holds together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.mesh_messages import Relay, RelayedAnswer
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Reject, Welcome, WireError
from clipper_nomad.state.records import MICROS, ModelVersion, Snapshot
from clipper_nomad_frontend import answers, relay_desk
from clipper_nomad_frontend.access_log import AccessLog
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.cache import PredictionCache
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.endpoints import Endpoint, Query, Sink, expire, link, smallest_slos
from clipper_nomad_frontend.flights import Flights
from clipper_nomad_frontend.guests import Guests, probe_endpoint
from clipper_nomad_frontend.metrics import AppCounters, ProcessCounters, VersionCounters
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.sessions import Session, SessionTable

log = logging.getLogger(__name__)

TIMER_GRAIN_S = 0.001  # uvloop rounds to milliseconds: a timer that fires early would be set again and again
GATHERING_ROUNDS = 3  # turns of the loop in which more queries may join before batches are made: reading, never waiting
PROGRESS_CHECK_S = 0.25  # how often replicas with work in hand are looked at
UNKNOWN_UID_PATIENCE_S = 30.0  # a replica may be quicker than the catalog that announces its version
SWEPT_AT_ONCE = 1000  # entries of the cache whose version is gone: half a millisecond
NO_APP_SLO_S = 10.0  # for versions that no app uses yet


class Serving:
    """The state of one query frontend between its sockets."""

    def __init__(self, *, frontend_id: str, toolkit: str, epoch: int, bounds: QueueBounds, access_log: AccessLog,
                 path_prefix: str, cache_bytes: int = 0, clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        """`clock` must be the loop's; uvloop's own `time()` shows whole milliseconds only. `cache_bytes` 0: no cache."""
        self.cache = PredictionCache(cache_bytes) if cache_bytes else None
        self.routes: dict[bytes, Endpoint] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.dispatches: dict[str, VersionDispatch] = {}  # by uid
        self.sessions = SessionTable(epoch)
        self.process_counters = ProcessCounters()
        self.snapshot: Snapshot | None = None
        self.router: Router | None = None
        self.frontend_id = frontend_id
        self._toolkit = toolkit
        self._bounds = bounds
        self._access_log = access_log
        self._path_prefix = path_prefix
        self._loop = asyncio.get_running_loop()
        self.clock = clock
        self._by_key: dict[str, VersionDispatch] = {}
        self._current: dict[str, VersionDispatch] = {}  # by endpoints.link: model and input type
        self._app_counters: dict[str, AppCounters] = {}
        self._retired: list[Endpoint] = []  # replaced, and still owing answers
        self._guests = Guests()
        self._dispatch_of: dict[int, VersionDispatch] = {}  # by session id
        self._waiting: dict[bytes, tuple[Hello, float]] = {}  # replicas of versions that the catalog does not know yet
        self.query_ids = itertools.count()  # of inputs, and of feedback
        self._to_pump: set[VersionDispatch] = set()
        self._pump_is_due = False
        self._frontends = 1
        self._arrived = 0  # since the last look of _pump
        self._rounds = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_at = float("inf")
        self._progress: asyncio.TimerHandle | None = None

    # ---- queries (hot) ---------------------------------------------------------------------------------------------

    def query(self, endpoint: Endpoint, packed: tuple[bytes, int], now: float, sink: Sink) -> Query:
        """Return a new query of `endpoint`. `packed`: the input's bytes and its number of elements."""
        return Query(endpoint, packed[0], packed[1], now, sink, next(self.query_ids))

    def submit(self, query: Query, version: str | None) -> None:
        """Send `query` on its way: to the app's model at its current version, or at the version asked for."""
        endpoint = query.endpoint
        endpoint.owed[query] = None
        runs_out = query.arrived + endpoint.patience_s
        if runs_out < self._expiry_at:
            self._expire_at(runs_out)
        if version is None and endpoint.link is not None:
            dispatch = self._current.get(endpoint.link)
        else:
            dispatch = self._pinned(query, version)
        if dispatch is None:
            if not query.is_done:
                answer = answers.not_linked(endpoint.policy, query.query_id, endpoint.default_output, endpoint.name)
                self.answered(query, answer, query.arrived)
            return
        self.submit_to(dispatch, query)

    def submit_to(self, dispatch: VersionDispatch, query: Query) -> None:
        """Queue `query` at one version, unless the cache has its answer or it can wait for that of another.

        Batches are made once what the sockets hold just now is parsed.
        """
        query.dispatch = dispatch
        if dispatch.flights is not None:
            flight = dispatch.flights.board(query, dispatch)
            if flight is None:
                return
            query = flight
        dispatch.submit(query)
        if len(query.endpoint.owed) == 1 and dispatch.last_batch_size <= 1:  # one client at a time: nobody to gather
            dispatch.pump(query.arrived)
            self.watch_progress()
            return
        self._to_pump.add(dispatch)
        self._arrived += 1
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def _pinned(self, query: Query, version: str | None) -> VersionDispatch | None:
        """Return the dispatch of the version asked for; answer the query if that version is not registered."""
        model = query.endpoint.model
        if model is None or version is None:
            return None
        query.pinned_version = version
        dispatch = self._by_key.get(f"{model}:{version}")
        if dispatch is None or dispatch.record.kind is not query.endpoint.app.kind:
            self.answered(query, answers.no_such_version(model, version), query.arrived)
            return None
        return dispatch

    def _pump(self) -> None:
        if self._arrived and self._rounds < GATHERING_ROUNDS:
            self._arrived = 0
            self._rounds += 1
            self._loop.call_soon(self._pump)
            return
        self._arrived = self._rounds = 0
        self._pump_is_due = False
        now = self.clock()
        for dispatch in self._to_pump:
            dispatch.pump(now)
        self._to_pump.clear()
        self.watch_progress()

    def answered(self, query: Query, answer: Answer, now: float) -> None:
        """Give `query` its one answer."""
        if query.is_done:
            return
        self._finish(query)
        counters = query.endpoint.counters
        counters.outcomes[answer.outcome] += 1
        latency = now - query.arrived
        counters.latency.observe(latency)
        if (answer.outcome or self._access_log.notes_answered) and not query.endpoint.is_relay:
            self._access_log.note(query, answer, latency)
        try:
            query.sink.take(query, answer)
        except Exception:  # whatever is wrong with this client, its batch mates are answered
            log.exception("an answer was not taken", extra={"app": query.endpoint.name})

    def _finish(self, query: Query) -> None:
        if query.dispatch is not None:
            query.dispatch.forget(query)
        query.is_done = True
        del query.endpoint.owed[query]

    def abandon(self, query: Query) -> None:
        """The client of `query` has gone: its place is free."""
        if not query.is_done:
            self._finish(query)

    def probe(self, dispatch: VersionDispatch, packed: tuple[bytes, int], timeout_micros: int, sink: Sink) -> Query:
        """Send an input the whole way to a replica of one version, counted for no app."""
        endpoint = probe_endpoint(dispatch.record, timeout_micros)
        query = self.query(endpoint, packed, self.clock(), sink)
        query.dispatch = dispatch
        endpoint.owed[query] = None
        self._retired.append(endpoint)
        self._expire_at(min(self._expiry_at, query.arrived + endpoint.patience_s))
        dispatch.submit(query)  # past the cache
        dispatch.pump(query.arrived)
        self.watch_progress()
        return query

    def submit_relayed(self, relay: Relay, reply: Callable[[list[RelayedAnswer]], None]) -> list[Query]:
        """Execute the queries of a peer; `reply` is called once, perhaps before this returns."""
        dispatch = self.dispatches.get(relay.uid)
        if dispatch is None or int(dispatch.record.kind) != relay.input_type:
            reply([relay_desk.REFUSED] * len(relay.inputs))
            return []
        now = self.clock()
        batch = relay_desk.RelayedBatch(len(relay.inputs), reply)
        queries = []
        for terms, data in zip(relay.terms, relay.inputs, strict=True):
            endpoint = self._guests.endpoint(terms, dispatch.record)
            queries.append(self.query(endpoint, (data, relay.item_length), now - terms.waited / MICROS, batch))
        batch.expect(queries)
        for query in queries:
            query.endpoint.owed[query] = None
            query.dispatch = dispatch
            dispatch.submit_relayed(query, is_alone=relay.is_alone)
            runs_out = query.arrived + query.endpoint.patience_s
            if runs_out < self._expiry_at:
                self._expire_at(runs_out)
        dispatch.pump(now)
        self.watch_progress()
        return queries

    # ---- timers ----------------------------------------------------------------------------------------------------

    def _expire_at(self, instant: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_at = instant
        self._expiry = self._loop.call_at(instant + TIMER_GRAIN_S, self._expire)

    def _expire(self) -> None:
        now = self.clock()
        self._expiry = None
        self._expiry_at = float("inf")
        following = expire(self._all_endpoints(), now, self._give_up)
        self._retired = [endpoint for endpoint in self._retired if endpoint.owed]
        if following is not None and following < self._expiry_at:
            self._expire_at(following)

    def _all_endpoints(self) -> Iterator[Endpoint]:
        yield from self.endpoints.values()
        yield from self._retired
        yield from self._guests

    def _give_up(self, query: Query) -> None:
        dispatch = query.dispatch
        has_replica = dispatch is not None and (query.tries > 0 or dispatch.has_replicas)
        model = dispatch.key if dispatch is not None else query.endpoint.model or ""
        self.answered(query, query.endpoint.out_of_patience(query, has_replica=has_replica, model=model), self.clock())

    def _check_progress(self) -> None:
        self._progress = None
        now = self.clock()
        is_busy = False
        for dispatch in self.dispatches.values():
            dispatch.check_progress(now)
            is_busy = is_busy or any(each.in_flight or each.asked_at is not None for each in dispatch.replicas.all.values())
        for routing_id, (hello, since) in list(self._waiting.items()):
            if now - since > UNKNOWN_UID_PATIENCE_S:
                del self._waiting[routing_id]
                self._reject(routing_id, hello, "its version is not in the catalog; was it deployed to this cluster?")
        if is_busy or self._waiting:
            self.watch_progress()

    def watch_progress(self) -> None:
        """See to it that replicas with work in hand are looked at. To be called after any pump."""
        if self._progress is None:
            self._progress = self._loop.call_later(PROGRESS_CHECK_S, self._check_progress)

    # ---- catalog ---------------------------------------------------------------------------------------------------

    def apply(self, snapshot: Snapshot) -> None:
        """Serve what `snapshot` says from now on. Queries on their way keep the terms they came under."""
        self.snapshot = snapshot
        self._apply_versions(snapshot)
        self._apply_apps(snapshot)
        for routing_id, (hello, _) in list(self._waiting.items()):
            if hello.uid in self.dispatches:
                del self._waiting[routing_id]
                self._admit(routing_id, hello)

    def _apply_versions(self, snapshot: Snapshot) -> None:
        wanted = {version.uid: version for version in snapshot.versions.values()}
        smallest_slo = smallest_slos(snapshot)
        removed = [dispatch for uid, dispatch in self.dispatches.items() if uid not in wanted]
        for dispatch in removed:
            del self.dispatches[dispatch.record.uid]
        for uid, record in wanted.items():
            known = self.dispatches.get(uid)
            slo_s = smallest_slo.get(record.name, NO_APP_SLO_S)
            if known is None:
                self.dispatches[uid] = self._new_dispatch(record, slo_s)
            else:
                known.record = record
                known.limit.promise(slo_s)
        self._by_key = {d.record.key: d for d in self.dispatches.values() if not d.record.staged}
        self._current = {}
        for model in snapshot.models.values():
            current = snapshot.current_version(model.name)
            if current is not None and not current.staged:
                self._current[link(model.name, current.kind)] = self.dispatches[current.uid]
        for dispatch in removed:
            self._remove(dispatch)

    def set_frontends(self, count: int) -> None:
        """Note how many frontends share the replicas' slots."""
        self._frontends = count
        for dispatch in self.dispatches.values():
            dispatch.frontends = count

    def _new_dispatch(self, record: ModelVersion, slo_s: float) -> VersionDispatch:
        assert self.router is not None  # noqa: S101  # set before the first catalog
        flights = None
        if self.cache is not None and record.retry:  # who may not see an input twice may count them: it sees each query
            flights = partial(Flights, self.cache.shelf(), model=record.key, answered=self.answered, clock=self.clock)
        dispatch = VersionDispatch(
            record,
            sessions=self.sessions,
            channel=self.router,
            bounds=self._bounds,
            answered=self.answered,
            slo_s=slo_s,
            flights=flights,
        )
        dispatch.frontends = self._frontends
        return dispatch

    def _sweep(self) -> None:
        """Give back the memory of outputs whose version is gone, little by little: there may be very many."""
        if self.cache is not None and self.cache.sweep(SWEPT_AT_ONCE):
            self._loop.call_soon(self._sweep)

    def _remove(self, dispatch: VersionDispatch) -> None:
        """Let the replicas of a removed version finish and leave; what still waits goes to the app's current version."""
        assert self.router is not None  # noqa: S101  # set before the first catalog
        for replica in list(dispatch.replicas.all.values()):
            dispatch.drain(replica.session)
            if replica.legacy is not None:
                replica.legacy.dismiss(replica.session)
            else:
                self.router.send_control(replica.session, MessageType.DRAIN)
        for query in dispatch.take_waiting():
            query.dispatch = None
            if query.endpoint.is_relay:  # its own frontend knows what becomes of it
                answer = query.endpoint.out_of_patience(query, has_replica=False, model=dispatch.record.key)
                self.answered(query, answer, self.clock())
                continue
            successor = self._current.get(query.endpoint.link or "") if query.pinned_version is None else None
            if query.tries > 0:  # it may be what ended its replica: it is no other version's business
                self.answered(query, answers.lost(dispatch.record.key, query.tries), self.clock())
            elif successor is not None:
                self.submit_to(successor, query)
            elif query.pinned_version is not None:
                self.answered(query, answers.no_such_version(dispatch.record.name, query.pinned_version), self.clock())
            else:
                endpoint = query.endpoint
                answer = answers.not_linked(endpoint.policy, query.query_id, endpoint.default_output, endpoint.name)
                self.answered(query, answer, self.clock())
        self.process_counters.keep(dispatch.counters)
        self._sweep()

    def _apply_apps(self, snapshot: Snapshot) -> None:
        endpoints: dict[str, Endpoint] = {}
        for app in snapshot.apps.values():
            known = self.endpoints.get(app.name)
            if known is not None and known.app == app:
                endpoints[app.name] = known
            else:
                endpoints[app.name] = Endpoint(app, self._app_counters.setdefault(app.name, AppCounters()))
        self._retired += [old for name, old in self.endpoints.items() if endpoints.get(name) is not old and old.owed]
        self.endpoints = endpoints
        self._app_counters = {name: counters for name, counters in self._app_counters.items() if name in endpoints}
        routes = {}
        for name, endpoint in endpoints.items():
            for prefix in ("", self._path_prefix):
                path = f"{prefix}/{name}/predict".encode()
                routes[path] = routes[path + b"/"] = endpoint
        self.routes = routes

    # ---- replicas (the router's Listener) --------------------------------------------------------------------------

    def on_hello(self, routing_id: bytes, hello: Hello) -> None:
        """A replica introduced itself: take it in, or let it wait for a catalog that knows its version."""
        if self.sessions.find(routing_id) is not None or routing_id in self._waiting:
            raise WireError("a second hello on one connection")
        if hello.uid in self.dispatches:
            self._admit(routing_id, hello)
        else:
            self._waiting[routing_id] = (hello, self.clock())
            self.watch_progress()

    def _admit(self, routing_id: bytes, hello: Hello) -> None:
        assert self.router is not None  # noqa: S101  # it is who called
        dispatch = self.dispatches[hello.uid]
        record = dispatch.record
        if (hello.model, hello.version, hello.input_type) != (record.name, record.version, record.input_type):
            said = f"{hello.model}:{hello.version} ({hello.input_type})"
            self._reject(
                routing_id, hello, f"it says it is {said}, and its uid is that of {record.key} ({record.input_type})"
            )
            return
        session = self.sessions.open(routing_id, hello)
        if session is None:
            return
        if not self.router.send_welcome(session, Welcome(frontend=self.frontend_id, toolkit=self._toolkit)):
            self.sessions.close(routing_id)
            return
        self._dispatch_of[session.id] = dispatch
        dispatch.join(session)
        log.info("replica joined", extra={"model": record.key, "replica": hello.replica})
        dispatch.pump(self.clock())
        self.watch_progress()

    def _reject(self, routing_id: bytes, hello: Hello, reason: str) -> None:
        assert self.router is not None  # noqa: S101  # there is a peer, so there is a router
        log.warning("replica rejected", extra={"replica": hello.replica, "reason": reason})
        self.router.send_reject(routing_id, Reject(reason=reason, final=False))

    def on_message(self, routing_id: bytes, header: Header, frames: list[bytes]) -> None:
        """A replica sent a result, calls for a batch, or wants to leave."""
        session = self.sessions.find(routing_id)
        if session is None:
            if routing_id in self._waiting:
                return
            raise WireError(f"{header.type.name} before a hello")
        dispatch = self._dispatch_of[session.id]
        if header.type is MessageType.RESULT:
            result = wire.decode_result(header, frames)
            batch = self.sessions.finish(session, header)
            if batch is None:
                self.process_counters.stray_results += 1
                return
            dispatch.on_result(session, batch, result, self.clock())
        elif header.type is MessageType.FREE:
            if self.sessions.is_of(session, header):
                dispatch.on_free(session, header.batch, self.clock())
            else:
                self.process_counters.stray_results += 1
        elif header.type is MessageType.DRAIN:
            assert self.router is not None  # noqa: S101  # it is who called
            dispatch.drain(session)
            self.router.send_control(session, MessageType.DRAINED)
        else:
            raise WireError(f"a replica does not send {header.type.name}")

    def on_disconnect(self, routing_id: bytes) -> None:
        """A connection ended: its work goes to others."""
        self._waiting.pop(routing_id, None)
        session = self.sessions.close(routing_id)
        if session is not None:
            self._lose(session)

    def _lose(self, session: Session) -> None:
        dispatch = self._dispatch_of.pop(session.id)
        level = logging.WARNING if session.in_flight else logging.INFO
        log.log(level, "replica left", extra={"model": dispatch.record.key, "replica": session.hello.replica})
        now = self.clock()
        dispatch.on_lost(session, now)
        dispatch.pump(now)

    def on_bad_message(self, routing_id: bytes, error: WireError) -> None:
        """A peer broke the protocol: count it, and give a replica no more work when its results cannot be read."""
        self.process_counters.protocol_errors += 1
        session = self.sessions.close(routing_id)
        log.warning("bad message on the model channel", extra={"cause": str(error)})
        if session is not None:
            self._reject(routing_id, session.hello, f"it sent what is not of the protocol: {error}")
            self._lose(session)

    # ---- for metrics and reports -----------------------------------------------------------------------------------

    def app_counters(self) -> Iterable[tuple[str, AppCounters]]:
        """App name and counters."""
        return self._app_counters.items()

    def version_counters(self) -> Iterable[tuple[str, str, VersionCounters, int, int]]:
        """Model, version, counters, queries that wait, replicas that are ready."""
        for dispatch in self.dispatches.values():
            record = dispatch.record
            yield record.name, record.version, dispatch.counters, dispatch.queue.count, len(dispatch.replicas.ready)

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """Whatever else is worth a gauge."""
        yield "sessions", "Replicas connected to this frontend.", float(len(self.sessions))
        legacy = sum(
            replica.legacy is not None for each in self.dispatches.values() for replica in each.replicas.all.values()
        )
        yield "legacy_sessions", "Containers of RPC version 3 that serve here.", float(legacy)
        yield "waiting_replicas", "Replicas whose version the catalog does not know.", float(len(self._waiting))
        yield from self.cache.gauges() if self.cache is not None else ()
        yield "catalog_revision", "Revision served.", float(self.snapshot.revision if self.snapshot else -1)

    def knows(self, routing_id: bytes) -> bool:
        """Return whether a replica introduced itself on this connection."""
        return routing_id in self._waiting or self.sessions.find(routing_id) is not None

    def waiting_hellos(self) -> list[Hello]:
        """Replicas that wait for a catalog which knows their version."""
        return [hello for hello, _ in self._waiting.values()]

    @property
    def owes_answers(self) -> bool:
        """Whether any query is still on its way."""
        return any(endpoint.owed for endpoint in self._all_endpoints())
