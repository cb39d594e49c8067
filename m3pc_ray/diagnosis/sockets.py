"""Which addresses processes listen on, read from /proc as the kernel tells it."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"
_PROC = Path("/proc")


@dataclass(frozen=True)
class ListeningSocket:
    """A TCP socket that accepts connections."""

    address: str
    """Local address: `127.0.0.1`, `::1`; `0.0.0.0` and `::` are every interface."""
    port: int
    process: str
    """Name of the process that holds it."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.address).is_loopback


def listening(pids: Iterable[int]) -> list[ListeningSocket]:
    """TCP sockets of these processes that accept connections; processes that are gone or not ours count as having none.

    Raises OSError on a system without /proc/net/tcp.
    """
    holders: dict[str, str] = {}
    for pid in pids:
        try:
            name = (_PROC / str(pid) / "comm").read_text().strip()
            for entry in (_PROC / str(pid) / "fd").iterdir():
                target = os.readlink(entry)
                if target.startswith("socket:["):
                    holders[target[8:-1]] = name
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        path = _PROC / "net" / table
        if table == "tcp6" and not path.exists():  # a kernel without IPv6
            continue
        for line in path.read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTENING and columns[9] in holders:
                address, _, port = columns[1].partition(":")
                found.append(ListeningSocket(_address(address), int(port, 16), holders[columns[9]]))
    return found


def descendants(pid: int | None = None) -> list[int]:
    """The process `pid` (default: this one) and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    family = [os.getpid() if pid is None else pid]
    for member in family:
        family += children.get(member, [])
    return family


def _address(text: str) -> str:
    """Of the kernel's hexadecimal form: 32-bit words in the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
