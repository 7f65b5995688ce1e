"""What a key of the encrypted model channel looks like. Pure. Source: ZeroMQ's RFC 32 (Z85) and RFC 26 (CurveZMQ)."""

from __future__ import annotations

import re

_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")  # Z85 of 32 bytes


def parse_key(text: str) -> bytes:
    """Return the key in a text. Raises: ValueError: it is none; the message does not say what it is."""
    key = text.strip().encode()
    if _KEY.match(key) is None:
        raise ValueError("no CURVE key: 40 characters of Z85 were expected")
    return key


def parse_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys in a text, separated by white space. Raises: ValueError: there is none, or something else too."""
    keys = tuple(dict.fromkeys(map(parse_key, text.split())))
    if not keys:
        raise ValueError("no CURVE key: one was expected at least")
    return keys
