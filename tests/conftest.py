"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

pytest_plugins = ["tests.cluster.fixtures"]  # Docker and the rig: the contract's tests run there too

# A shell starts what it runs in the background with SIGINT ignored, and every child inherits that: the tests of Ctrl-C would
# then press it in vain. With a handler here, children start with the default again.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine makes any example slow: how long one takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
