"""The rows of `log_chunks`: what steps wrote, masked, compressed, by offset in the raw output."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, func, select

from leeroy.db.tables import log_chunks

_INSERT = log_chunks.insert()
_END = select(func.max(log_chunks.c.stop)).where(log_chunks.c.step_id == sa.bindparam("step"))
_FAST = 1  # level: a log is written once and read rarely


@dataclass(frozen=True)
class Chunk:
    """
    A stretch of a step's output.

    `start` and `stop` count bytes of the raw output.  `data` is masked, so its
    length may differ.  Where a chunk does not start at the one before's
    `stop`, the bytes between were dropped (`max_log`).
    """

    start: int
    stop: int
    data: bytes


def pack(data: bytes) -> bytes:
    """*data* as it is stored; done outside the transaction, for it takes time."""
    return zlib.compress(data, _FAST)


def add(conn: Connection, step_id: int, start: int, stop: int, packed: bytes) -> None:
    """Store a stretch of output; `packed` comes from `pack`."""
    row = {"step_id": step_id, "start": start, "stop": stop, "data": packed}
    conn.execute(_INSERT, row)


def end(conn: Connection, step_id: int) -> int:
    """How much of the raw output is stored (or known to be dropped)."""
    return int(conn.execute(_END, {"step": step_id}).scalar() or 0)


def trim(conn: Connection, step_id: int, head: int, tail_from: int) -> None:
    """Drop what lies wholly between the kept head and the kept tail."""
    conn.execute(
        sa.delete(log_chunks).where(
            log_chunks.c.step_id == step_id,
            log_chunks.c.start >= head,
            log_chunks.c.stop <= tail_from,
        )
    )


def cut(conn: Connection, step_id: int, head: int, tail_from: int) -> None:
    """
    Drop what lies between the kept head and the kept tail, to the byte.

    Only a stretch in which something is masked stays whole: nobody knows where to cut it.
    """
    trim(conn, step_id, head, tail_from)
    its = log_chunks.c.step_id == step_id
    reaching = select(log_chunks.c.start, log_chunks.c.stop, log_chunks.c.data).where(
        its, log_chunks.c.start < tail_from, log_chunks.c.stop > head
    )
    for start, stop, packed in conn.execute(reaching).all():  # two at most
        data = zlib.decompress(packed)
        if len(data) != stop - start:
            continue
        conn.execute(sa.delete(log_chunks).where(its, log_chunks.c.start == start))
        if start < head:
            add(conn, step_id, start, head, pack(data[: head - start]))
        if stop > tail_from:
            add(conn, step_id, tail_from, stop, pack(data[tail_from - start :]))


def read(conn: Connection, step_id: int, start: int = 0, limit: int = 256) -> list[Chunk]:
    """At most *limit* chunks of a step, from the one that starts at or after *start*."""
    statement = (
        select(log_chunks.c.start, log_chunks.c.stop, log_chunks.c.data)
        .where(log_chunks.c.step_id == step_id, log_chunks.c.start >= start)
        .order_by(log_chunks.c.start)
        .limit(limit)
    )
    return [Chunk(a, b, zlib.decompress(data)) for a, b, data in conn.execute(statement)]


def tail(conn: Connection, step_id: int, size: int) -> bytes:
    """The last *size* bytes of a step's log."""
    statement = (
        select(log_chunks.c.data)
        .where(log_chunks.c.step_id == step_id)
        .order_by(log_chunks.c.start.desc())
    )
    parts: list[bytes] = []
    got = 0
    for packed in conn.execute(statement).scalars():
        parts.append(zlib.decompress(packed))
        got += len(parts[-1])
        if got >= size:
            break
    return b"".join(reversed(parts))[-size:]


def text(chunks: list[Chunk], before: int = 0) -> Iterator[bytes]:
    """The log as people read it: a line stands where bytes were dropped.  *before*: read so far."""
    at = before
    for chunk in chunks:
        if chunk.start > at:
            missing = chunk.start - at
            yield f"\n[… {missing} bytes dropped: the log is larger than max_log …]\n".encode()
        yield chunk.data
        at = chunk.stop
