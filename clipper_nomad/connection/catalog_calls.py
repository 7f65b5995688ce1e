"""What a connection asks of the catalog and changes in it: apps, links, models, replicas. Clipper's methods.

The base of ClipperConnection, apart because it concerns the admin service alone: nothing here starts or stops anything.
Every method raises UnconnectedException before there is a connection, AdminRefused with Clipper's text when the admin
service says no, and AdminUnreachable.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from clipper_nomad.admin.client import AdminClient, NewVersion
from clipper_nomad.errors import ClipperException, UnconnectedException

Json = dict[str, Any]  # the forms are in docs/behaviour.md, "JSON"


class CatalogCalls:
    """Apps, links, models and replicas of one cluster."""

    def __init__(self, admin: AdminClient, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self.connected = False
        self.logger = logger
        self._admin_client = admin

    def _require_connection(self) -> None:
        if not self.connected:
            raise UnconnectedException

    @property
    def _admin(self) -> AdminClient:
        self._require_connection()
        return self._admin_client

    # --- apps ---

    def register_application(
        self,
        name: str,
        input_type: str,
        default_output: str,
        slo_micros: int,
        *,
        slo_policy: str | None = None,
        timeout_micros: int | None = None,
    ) -> None:
        """Register an app. `slo_micros`: the latency it promises, in microseconds.

        `slo_policy`: what a query gets past the SLO: the answer all the same, marked late (`late`, the default), the
        default output (`default`, as in Clipper), or 504 (`error`). `timeout_micros`: how long a query is waited for; by
        default ten times the SLO, at least 10 s and at most 60 s, but never shorter than the SLO.
        """
        self._admin.add_app(
            name,
            input_type=input_type,
            default_output=default_output,
            slo_micros=slo_micros,
            slo_policy=slo_policy,
            timeout_micros=timeout_micros,
        )
        self.logger.info("Application %s was successfully registered", name)

    def unregister_application(self, name: str) -> None:
        """Delete an app and its links. Models stay."""
        self._admin.call("delete_app", name=name)
        self.logger.info("Application %s was successfully deleted", name)

    def delete_application(self, name: str) -> None:
        """Do `unregister_application`, Clipper's newer name for it."""
        warnings.warn("delete_application is deprecated; use unregister_application", DeprecationWarning, stacklevel=2)
        self.unregister_application(name)

    def get_all_apps(self, verbose: bool = False) -> list[Any]:  # noqa: FBT001, FBT002  # Clipper's signature
        """Return the names of all apps, or with `verbose` what `get_app_info` returns of each."""
        found: list[Any] = self._admin.get("get_all_applications", verbose=verbose)
        return found

    def get_app_info(self, name: str) -> Json | None:
        """Return name, input_type, default_output, latency_slo_micros and linked_models; None: there is no such app."""
        return self._known(self._admin.get("get_application", name=name), f"Application {name} is not registered")

    # --- links ---

    def link_model_to_app(self, app_name: str, model_name: str) -> None:
        """Let an app's queries be answered by the current version of a model. An app has at most one link."""
        self._admin.call("add_model_links", app_name=app_name, model_names=[model_name])
        self.logger.info("Model %s is now linked to application %s", model_name, app_name)

    def unlink_model_from_app(self, app_name: str, model_name: str) -> None:
        """End a link; the app answers its default output then."""
        self._admin.call("delete_model_links", app_name=app_name, model_names=[model_name])
        self.logger.info("Model %s is no longer linked to application %s", model_name, app_name)

    def get_linked_models(self, app_name: str) -> list[str]:
        """Return the names of the models that an app is linked to."""
        found: list[str] = self._admin.get("get_linked_models", app_name=app_name)
        return found

    # --- models ---

    def register_model(
        self,
        name: str,
        version: object,
        input_type: str,
        image: str | None = None,
        labels: Sequence[str] | None = None,
        batch_size: int = -1,
    ) -> None:
        """Register a version, which becomes current, without starting anything for it: a container of RPC version 3 that
        dials `cm.get_rpc_addr()` serves it.
        """
        new = NewVersion(
            name=name,
            version=str(version),
            input_type=input_type,
            image=image,
            labels=labels or (),
            batch_size=batch_size,
            legacy=True,
        )
        self._admin.add_version(new)
        self.logger.info("Successfully registered model %s:%s", name, version)

    def get_all_models(self, verbose: bool = False) -> list[Any]:  # noqa: FBT001, FBT002  # Clipper's signature
        """Return "name:version" of all versions, or with `verbose` what `get_model_info` returns of each."""
        found: list[Any] = self._admin.get("get_all_models", verbose=verbose)
        return found

    def get_model_info(self, name: str, version: object) -> Json | None:
        """Return what is registered of a version, and whether it is current; None: there is no such version."""
        found = self._admin.get("get_model", model_name=name, model_version=str(version))
        return self._known(found, f"Model {name}:{version} is not registered")

    def get_current_model_version(self, name: str) -> str:
        """Return which version answers queries. Raises: ClipperException: none does."""
        for model in self.get_all_models(verbose=True):
            if model["model_name"] == name and model["is_current_version"]:
                return str(model["model_version"])
        raise ClipperException(f"No versions of model {name} registered with Clipper")

    # --- replicas ---

    def get_all_model_replicas(self, verbose: bool = False) -> list[Any]:  # noqa: FBT001, FBT002  # Clipper's
        """Return "name:version:replica_id" of all live replicas, or with `verbose` a dict of each."""
        found: list[Any] = self._admin.get("get_all_containers", verbose=verbose)
        return found

    def get_model_replica_info(self, name: str, version: object, replica_id: int) -> Json | None:
        """Return what is known of a live replica; None: there is no such one."""
        found = self._admin.get("get_container", model_name=name, model_version=str(version), replica_id=replica_id)
        return self._known(found, f"Model {name}:{version} has no replica {replica_id}")

    def feedback(self, app_name: str | None = None, *, most: int = 100) -> list[Json]:
        """Return what users said of predictions (POST /<app>/update), the newest first, of one app or of all."""
        return self._admin.feedback(app_name, most=most)

    def frontends(self) -> list[Json]:
        """Return what each query frontend says of itself: catalog, replicas, versions, apps."""
        return [dict(report) for report in self._admin.frontends().reports]

    def _known(self, found: Json, otherwise: str) -> Json | None:
        if found:
            return found
        self.logger.warning(otherwise)
        return None
