"""HTTP connections of the library that neither threads nor forked processes share. Used by both clients."""

from __future__ import annotations

import os
import threading

import requests


class HttpSessions(threading.local):
    """One session for each thread, and a new one after a fork: two processes on one connection mix up answers."""

    def __init__(self) -> None:
        self._made_by = 0
        self._session = requests.Session()

    def current(self) -> requests.Session:
        """Return the session of this thread in this process."""
        if self._made_by != os.getpid():
            self._made_by = os.getpid()
            self._session = requests.Session()
            self._session.trust_env = False  # no proxy in between, no .netrc that would replace the token
        return self._session
