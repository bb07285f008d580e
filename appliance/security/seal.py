"""A process that can open no network socket any more, whatever library in it tries: the kernel refuses.

A seccomp filter over all threads: `socket` is allowed for Unix sockets and for netlink (what the kernel says
of its interfaces) only, and where tools need it for TCP, so that still nothing but TCP leaves; io_uring,
which could open sockets past the filter, is refused as a whole. Sockets that are open already go on working.
It lasts for the process and all that it starts, for good.

Source of the layouts: linux/seccomp.h, linux/filter.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import platform
import struct
import sys
from typing import NamedTuple

log = logging.getLogger("hearth.security")

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCKET_TYPES = 1, 0xF  # the type, and the bits that it is in: the others are flags
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT, SECOND_ARGUMENT_AT = 0, 4, 16, 24  # offsets in struct seccomp_data
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
X32_BIT = 0x40000000
IO_URING_SETUP = 425


class _Machine(NamedTuple):
    audit_arch: int
    socket: int
    seccomp: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 41, 317), "aarch64": _Machine(0xC00000B7, 198, 277)}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def seal(*, allows_tcp: bool = False) -> bool:
    """From now on no network socket, or none but TCP's; False where the kernel or processor has no such
    filter. To which address a TCP socket is connected the filter cannot see."""
    machine = _MACHINES.get(platform.machine()) if sys.platform == "linux" else None
    if machine is None:
        return False
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in _filter(machine, allows_tcp))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    failed = libc.syscall(
        machine.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(program)
    )
    if failed:
        log.info("the kernel takes no seccomp filter (%s); the guard in Python stands alone", failed)
    return not failed


def _filter(machine: _Machine, allows_tcp: bool) -> list[tuple[int, int, int, int]]:
    """Instructions of classic BPF: code, steps to jump when true, when false, operand."""
    tcp = [
        (JUMP_EQUAL, 1, 0, AF_INET),  # → its type
        (JUMP_EQUAL, 0, 4, AF_INET6),  # no → refuse
        (LOAD, 0, 0, SECOND_ARGUMENT_AT),
        (AND, 0, 0, SOCKET_TYPES),
        (JUMP_EQUAL, 0, 1, SOCK_STREAM),  # no → refuse
    ]
    more = len(tcp) if allows_tcp else 0
    return [
        (LOAD, 0, 0, ARCH_AT),
        (JUMP_EQUAL, 0, 8 + more, machine.audit_arch),  # another calling convention → refuse
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_AT_LEAST, 6 + more, 0, X32_BIT),  # → refuse
        (JUMP_EQUAL, 5 + more, 0, IO_URING_SETUP),  # → refuse
        (JUMP_EQUAL, 0, 3 + more, machine.socket),  # anything else → allow
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_EQUAL, 1 + more, 0, AF_UNIX),  # → allow
        (JUMP_EQUAL, more, 0 if allows_tcp else 1, AF_NETLINK),  # → allow; no → TCP's, or refuse
        *(tcp if allows_tcp else []),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
