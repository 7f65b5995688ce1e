"""The life of a replica: load → warm up → serve → drain → stop. Frontends hear of it only once it is warm."""

from __future__ import annotations

import faulthandler
import gc
import logging
import platform
import random
from pathlib import Path
from time import monotonic

from clipper_nomad.protocol.bundle import DamagedBundle, WrongPython
from clipper_nomad.protocol.rpc3 import encode_new_container
from clipper_nomad.protocol.wire import Hello, MessageType, encode_introduction
from clipper_nomad.toolkit import toolkit_version
from clipper_nomad_runtime.clipper_forms import adapted
from clipper_nomad_runtime.config import CLIPPER_RPC_VERSION, Settings
from clipper_nomad_runtime.dealer import Keys
from clipper_nomad_runtime.hang import SLACK_S, HangWatch
from clipper_nomad_runtime.legacy_serving import LegacyServing
from clipper_nomad_runtime.loader import ImportMissing, Model, ModelFailed, load_model
from clipper_nomad_runtime.mesh import Mesh
from clipper_nomad_runtime.metrics import Metrics
from clipper_nomad_runtime.predict import Predictor
from clipper_nomad_runtime.serving import Serving
from clipper_nomad_runtime.stopping import Exit, StopRequest

log = logging.getLogger(__name__)


class Server:
    """One replica of one model version. Made in the main thread; `run` once. `model`: None for the bundle's."""

    def __init__(self, settings: Settings, model: Model | None = None) -> None:
        self._settings = settings
        self._model = model
        self._fields = {"model": settings.model, "version": settings.version, "replica": settings.replica}
        self._metrics = Metrics()
        self._hang = HangWatch(settings.hang_after_s)

    def run(self) -> Exit:
        """Live, and return how the process is to end."""
        settings = self._settings
        faulthandler.enable()  # a segmentation fault of the model says where
        stop = StopRequest()
        if settings.ready_file is not None:
            settings.ready_file.unlink(missing_ok=True)
        if settings.metrics is not None and not self._export_metrics():
            return Exit.SETTINGS
        model = self._model or self._load()
        if isinstance(model, Exit):
            return model
        function = adapted(model.function, model.input_type, texts_as_bytes=settings.texts_as_bytes)
        predictor = Predictor(function, model=settings.model, version=settings.version)
        if not self._warm_up(model, predictor):
            return Exit.FAILED
        self._settle()
        ending = self._serve(model, predictor, stop)
        log.info("replica ends", extra={**self._fields, "exit": int(ending), "batches": self._metrics.batches})
        return ending

    def _export_metrics(self) -> bool:
        # Imported only if asked for: it brings an HTTP server, 8 MB.
        from clipper_nomad_runtime.exporter import start_exporter  # noqa: PLC0415

        assert self._settings.metrics is not None  # noqa: S101  # run() asks only then
        try:
            start_exporter(self._settings.metrics, self._metrics)
        except OSError as exc:
            log.error("metrics cannot be served", extra={"variable": "CLIPPER_METRICS_ADDRESS", "reason": str(exc)})  # noqa: TRY400
            return False
        return True

    def _load(self) -> Model | Exit:
        settings = self._settings
        begin = monotonic()
        try:
            model = load_model(settings.bundle, digest=settings.digest, kind=settings.input_type)
        except (DamagedBundle, WrongPython) as exc:
            log.error("the bundle cannot be run", extra={**self._fields, "reason": str(exc)})  # noqa: TRY400  # no bug of ours
            return Exit.BUNDLE
        except ImportMissing as exc:
            hint = "name the package in pkgs_to_install, or use an image that has it"
            fields = {**self._fields, "reason": str(exc), "hint": hint}
            log.exception("an import of the model is missing", extra=fields, exc_info=exc.__cause__)
            return Exit.IMPORT
        except ModelFailed as exc:
            fields = {**self._fields, "reason": str(exc)}
            log.exception("the model failed while it was loaded", extra=fields, exc_info=exc.__cause__)
            return Exit.FAILED
        log.info("model loaded", extra={**self._fields, "seconds": round(monotonic() - begin, 3)})
        return model

    def _warm_up(self, model: Model, predictor: Predictor) -> bool:
        """Predict once on the bundle's sample, if it has one: first calls are slow, and some models fail at theirs."""
        if model.sample is None:
            return True
        begin = monotonic()
        self._hang.arm(begin)
        errors = predictor.answer(model.sample).errors
        self._hang.rest()
        for error in errors:
            log.error("the model failed on the bundle's sample", extra={**self._fields, "reason": error.message})
        if not errors:
            log.info("model is warm", extra={**self._fields, "seconds": round(monotonic() - begin, 3)})
        return not errors

    def _settle(self) -> None:
        """Say that the model is ready, and keep the collector from walking through all that it loaded."""
        gc.collect()
        gc.freeze()  # a full collection with a framework loaded takes 10 ms and more, in the middle of a batch
        if self._settings.ready_file is not None:
            _write_ready(self._settings.ready_file)

    def _keys(self) -> Keys | None:
        server, secret = self._settings.curve_server, self._settings.curve_secret
        return Keys(server, secret) if server is not None and secret is not None else None

    def _serve(self, model: Model, predictor: Predictor, stop: StopRequest) -> Exit:
        settings = self._settings
        stop.expect(lambda: self._hang.end_within(settings.drain_s + SLACK_S))
        log.info("replica is ready", extra={**self._fields, "frontends": len(settings.frontends)})
        if settings.rpc_version == CLIPPER_RPC_VERSION:
            return self._serve_legacy(model, predictor, stop)
        hello = Hello(
            model=settings.model,
            version=settings.version,
            uid=settings.uid,
            input_type=model.input_type.word,
            replica=settings.replica,
            python=platform.python_version(),
            toolkit=toolkit_version(otherwise=model.toolkit),  # in an image only the bundle knows one
        )
        serving = Serving(
            Mesh(
                settings.frontends,
                replica=settings.replica,
                mode=settings.rpc_mode,
                jitter=random.random,  # not for secrets
                dropped=self._metrics.dropped,
            ),
            hello=encode_introduction(MessageType.HELLO, hello),
            input_type=model.input_type,
            predictor=predictor,
            hang=self._hang,
            metrics=self._metrics,
            stop=stop,
            drain_s=settings.drain_s,
            keys=self._keys(),
        )
        return serving.run()

    def _serve_legacy(self, model: Model, predictor: Predictor, stop: StopRequest) -> Exit:
        settings = self._settings
        return LegacyServing(
            settings.frontends,
            introduction=encode_new_container(settings.model, settings.version, model.input_type),
            input_type=model.input_type,
            predictor=predictor,
            hang=self._hang,
            metrics=self._metrics,
            stop=stop,
        ).run()


def _write_ready(path: Path) -> None:
    path.write_text("READY")  # Clipper's health check looks for the file
