"""Says when the machine's way out has come back: the kernel tells of every new default route."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable

log = logging.getLogger(__name__)

_GROUPS = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE (linux/rtnetlink.h)
_NEW_ROUTE = 24  # RTM_NEWROUTE
_HEADER = struct.Struct("=IHHII")
_DESTINATION_LENGTH = _HEADER.size + 1  # rtm_dst_len, the second byte of struct rtmsg


def listen() -> socket.socket | None:
    """A socket that hears of routes; None where the kernel does not let us."""
    try:
        hearing = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError as exc:
        log.info("a network that returns will not be noticed: %s", exc)
        return None
    try:
        hearing.bind((0, _GROUPS))
    except OSError as exc:
        hearing.close()
        log.info("a network that returns will not be noticed: %s", exc)
        return None
    return hearing


def hear(hearing: socket.socket, returned: Callable[[], None]) -> None:
    """Call *returned* at every new default route, until the socket is shut down."""
    while True:
        try:
            heard = hearing.recv(65536)
        except OSError as exc:
            if exc.errno == 105:  # ENOBUFS: some were lost, and one may have been it
                returned()
                continue
            return
        if not heard:
            return
        if is_way_out(heard):
            returned()


def is_way_out(heard: bytes) -> bool:
    """Whether one of the messages is of a new default route."""
    at = 0
    while at + _HEADER.size < len(heard):
        length, kind, *_ = _HEADER.unpack_from(heard, at)
        if length < _HEADER.size:
            return False
        if (
            kind == _NEW_ROUTE
            and length > _DESTINATION_LENGTH
            and heard[at + _DESTINATION_LENGTH] == 0
        ):
            return True
        at += (length + 3) & ~3
    return False
