"""The library's heart: ClipperConnection, with Clipper's methods and ours. Synchronous; knows no Nomad and no process.

clipper_connection.py   ClipperConnection: start or find a cluster, deploy, predict
replica_calls.py        its base: versions made current, scaled, stopped
catalog_calls.py        its base: apps, links, models, replicas, as the admin service knows them
deployment.py           the deploy that is whole or not at all       readiness.py   its policy (pure)
prediction.py           asking an app over HTTP                      inputs.py      values → JSON inputs (pure)
trial.py                a function tried here on a query, without a cluster
deployed_app.py         what `deploy` returns     clipper_names.py   constants that Clipper's users import
"""

from __future__ import annotations

from clipper_nomad.connection.clipper_connection import ClipperConnection

__all__ = ["ClipperConnection"]
