"""How many replicas of what: versions made current, scaled, stopped. Clipper's methods.

The middle of ClipperConnection: what runs (the container manager) and what is registered (the catalog) change together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from clipper_nomad.admin.client import AdminClient
from clipper_nomad.cell_block import show
from clipper_nomad.connection.catalog_calls import CatalogCalls, Json
from clipper_nomad.connection.readiness import ready_replicas
from clipper_nomad.container_manager import CONTAINERLESS_MODEL_IMAGE, ContainerManager
from clipper_nomad.errors import ClipperException, InvalidSpec

SCALE_WITHIN_S = 300.0  # an image may have to be pulled
LOOK_EVERY_S = 0.25
MOST_REPLICAS = 10_000  # admin's limit


def check_count(num_replicas: object) -> None:
    """Refuse what is no number of replicas. Raises: InvalidSpec."""
    if not isinstance(num_replicas, int) or isinstance(num_replicas, bool) or not 0 <= num_replicas <= MOST_REPLICAS:
        raise InvalidSpec("Replicas", (f"num_replicas: {num_replicas!r}; expected an integer from 0 to {MOST_REPLICAS}",))


class ReplicaCalls(CatalogCalls):
    """Replicas of one cluster's versions."""

    def __init__(self, container_manager: ContainerManager) -> None:
        self.cm = container_manager
        super().__init__(AdminClient(self.cm.get_admin_addr, self.cm.get_admin_token), self.cm.logger)

    def set_model_version(self, name: str, version: object, num_replicas: int | None = None) -> None:
        """Let a registered version answer queries, and set how many replicas it has.

        Raises: InvalidSpec: `num_replicas` is no such number; nothing is changed.
        """
        if num_replicas is not None:
            check_count(num_replicas)
        self._admin.call("set_model_version", model_name=name, model_version=str(version))
        if num_replicas is not None:
            self.set_num_replicas(name, num_replicas, version)

    def get_num_replicas(self, name: str, version: object = None) -> int:
        """Return how many replicas a version has; without one, the current version."""
        self._require_connection()
        return self.cm.get_num_replicas(name, self._given_or_current(name, version))

    def set_num_replicas(
        self, name: str, num_replicas: int, version: object = None, *, timeout_s: float = SCALE_WITHIN_S
    ) -> None:
        """Start or drain replicas of a version, and return when every query frontend has `num_replicas` ready.

        Without a version, of the current one. Raises: InvalidSpec; ClipperException: it is not registered, has no container,
        or its replicas do not become ready within `timeout_s`, and why; `num_replicas` stay wanted.
        """
        check_count(num_replicas)
        deadline = time.monotonic() + timeout_s
        number = self._given_or_current(name, version)
        model = self.get_model_info(name, number)
        if model is None:
            raise ClipperException(f"Cannot add container for non-registered model {name}:{number}")
        if model["container_name"] == CONTAINERLESS_MODEL_IMAGE:
            raise ClipperException(
                f"Model {name}:{number} is a containerless model: it was registered without an image, so no replicas of "
                "it can be started"
            )
        self.cm.set_num_replicas(name, number, model["input_type"], model["container_name"], num_replicas)
        self._await_replicas(name, number, num_replicas, deadline=deadline)

    def stop_models(self, model_names: Sequence[str]) -> None:
        """Stop and unregister every version of these models; names that nothing is registered under are passed over.

        One name may be given as a text, as Clipper's notebooks do."""
        names = _each(model_names)
        self._stop_versions(lambda model: model["model_name"] in names)

    def stop_versioned_models(self, model_versions_dict: Mapping[str, Sequence[object]]) -> None:
        """Stop and unregister these versions, given as name → versions, also current ones.

        Raises: AdminRefused: one of them is not registered; nothing is stopped then.
        """
        wanted = {name: list(dict.fromkeys(map(str, _each(some)))) for name, some in model_versions_dict.items()}
        known = set(self.get_all_models())
        for name, versions in wanted.items():
            for number in versions:
                if f"{name}:{number}" not in known:  # refused in admin's words, before anything is stopped
                    self._admin.call("delete_versioned_model", model_name=name, model_version=number)
        self._stop_and_unregister(wanted)

    def stop_inactive_model_versions(self, model_names: Sequence[str]) -> None:
        """Stop and unregister every version of these models that is not current. One name may be given as a text."""
        names = _each(model_names)
        self._stop_versions(lambda model: model["model_name"] in names and not model["is_current_version"])

    def stop_all_model_containers(self) -> None:
        """Stop all replicas and unregister all models."""
        models = self._versions_where(lambda _: True)
        self.cm.stop_all_model_containers()
        self._unregister(models)

    def _await_replicas(self, name: str, version: str, wanted: int, *, deadline: float) -> None:
        while True:
            reports = self._admin.frontends().reports
            known = (row for report in reports for row in report["versions"])
            uid = next((row["uid"] for row in known if (row["model"], row["version"]) == (name, version)), "")
            ready = ready_replicas(uid, len(reports), reports)
            show(f"{name}:{version}", f"{ready} of {wanted} replicas ready")
            if reports and ready == wanted:
                return
            failure = self.cm.model_failure(name, version) if ready < wanted else None
            if failure is not None or time.monotonic() > deadline:
                cause = failure.cause if failure is not None else "nothing says why"
                tail = f"\n{failure.log_tail}" if failure is not None and failure.log_tail else ""
                raise ClipperException(
                    f"{ready} of {wanted} replicas of {name}:{version} are ready: {cause}.{tail}",
                    hint=failure.hint if failure is not None else "See how it is: clipper-nomad status",
                )
            time.sleep(LOOK_EVERY_S)

    def _given_or_current(self, name: str, version: object) -> str:
        return self.get_current_model_version(name) if version is None else str(version)

    def _versions_where(self, condition: Callable[[Json], bool]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for model in filter(condition, self.get_all_models(verbose=True)):
            found.setdefault(model["model_name"], []).append(model["model_version"])
        return found

    def _stop_versions(self, condition: Callable[[Json], bool]) -> None:
        self._stop_and_unregister(self._versions_where(condition))

    def _stop_and_unregister(self, models: Mapping[str, Sequence[str]]) -> None:
        self.cm.stop_models(models)
        self._unregister(models)

    def _unregister(self, models: Mapping[str, Sequence[str]]) -> None:
        for name, versions in models.items():
            for number in versions:
                self._admin.call("delete_versioned_model", model_name=name, model_version=number)
                self.logger.info("Model %s:%s was unregistered", name, number)
        self.cm.forget_models(models)


def _each(given: Iterable[object]) -> list[object]:
    """Return a list; one text is one thing, and not its letters."""
    return [given] if isinstance(given, str) else list(given)
