"""Hypothesis strategies for damaged bytes and documents."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

DEEP = 20
_DEEPER = "deeper"  # becomes brackets in the text of a document, more than can be written

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(
        ["", "0", "NaN", "a" * 5000, "../../evil", "\x00", "\ud800", "1e999", "http://[", "EPSG:32608", _DEEPER]
    )
)


@st.composite
def values(draw: st.DrawFn) -> Any:
    """Any JSON value; sometimes nested deeply."""
    value = draw(
        st.recursive(
            SCALARS,
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=8,
        )
    )
    if draw(st.integers(0, 40)) == 0:
        for _ in range(DEEP):
            value = [value]
    return value


@st.composite
def documents(draw: st.DrawFn, bases: Sequence[Any]) -> Any:
    """A base with a few members replaced, removed, renamed or taken from elsewhere."""
    document = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 4))):
        holder, key = _member(draw, document)
        if holder is None:
            return draw(values())
        change = draw(st.integers(0, 4))
        if change == 0:
            del holder[key]
        elif change == 1:
            source, other = _member(draw, document)
            holder[key] = copy.deepcopy(source[other]) if source is not None else None
        elif change == 2 and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = holder.pop(key)
        else:
            holder[key] = draw(values())
    return document


def _member(draw: st.DrawFn, document: Any) -> tuple[Any, Any]:
    """A random container within a document, and the key of one of its members."""
    holder, key, current = None, None, document
    while isinstance(current, dict | list) and current and (holder is None or draw(st.integers(0, 3))):
        holder = current
        key = draw(st.sampled_from(sorted(current)) if isinstance(current, dict) else st.integers(0, len(current) - 1))
        current = current[key]
    return holder, key


@st.composite
def texts(draw: st.DrawFn, bases: Sequence[Any]) -> bytes:
    """A document as JSON, sometimes with damaged bytes."""
    content = json.dumps(draw(documents(bases))).encode()
    content = content.replace(f'"{_DEEPER}"'.encode(), b"[" * 100_000 + b"]" * 100_000)
    return draw(damaged(content)) if draw(st.integers(0, 3)) == 0 else content


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some overwritten, inserted, removed or repeated."""
    buffer = bytearray(content)
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(buffer)))
        length = draw(st.integers(0, 64))
        change = draw(st.integers(0, 5))
        if change == 0:
            del buffer[start : start + length]
        elif change == 1:
            del buffer[start:]
        elif change == 2:
            buffer[start:start] = buffer[start : start + length] * draw(st.integers(1, 50))
        elif change == 3:
            buffer[start:start] = draw(st.binary(max_size=64))
        else:
            part = draw(
                st.binary(max_size=16) | st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff"])
            )
            buffer[start : start + len(part)] = part
    return bytes(buffer)
