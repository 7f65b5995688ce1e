"""How every process logs: one line for each event, its fields after it, on stderr. A traceback follows its line.

Code of others that logs through Python's root logger comes out in the same form, warnings and above.
"""

from __future__ import annotations

import json
import logging
import time

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SAFE_PUNCTUATION = frozenset("._-:/,+@%")


class EventFormatter(logging.Formatter):
    """2026-11-23T09:30:00.123Z INFO model is ready model=iris version=1."""

    converter = staticmethod(time.gmtime)  # UTC: logs of several machines are read side by side
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the event and its fields as one line."""
        fields = [f"{name}={_word(value)}" for name, value in vars(record).items() if name not in _STANDARD_FIELDS]
        event = super().formatMessage(record).replace("\n", "\\n")
        return " ".join([event, *fields])


def log_to_stderr(*packages: str) -> None:
    """Send every log record of this process to stderr: those of `packages` from INFO, others from WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for package in packages:
        logging.getLogger(package).setLevel(logging.INFO)


def _word(value: object) -> str:
    text = str(value)
    if text and all(letter.isalnum() or letter in _SAFE_PUNCTUATION for letter in text):
        return text
    return json.dumps(text, ensure_ascii=False)
