"""What every store of a cluster is told, wherever its container runs: lines of redis.conf. Pure."""

from __future__ import annotations

DURABLE = (
    "appendonly yes",
    "appendfsync always",  # a write that admin answered is on disk
    'save ""',  # the append-only file is the copy on disk; snapshots would cost memory twice
    "maxmemory-policy noeviction",
    "tcp-keepalive 5",
)
