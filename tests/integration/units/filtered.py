"""Runs a command under the system call filter of a systemd unit, as systemd would install it: the sets are expanded by
systemd's own tool, the numbers come from the kernel's header. x86-64 alone.

    filtered.py UNIT COMMAND...
"""

import ctypes
import os
import re
import struct
import subprocess
import sys

HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
ALLOW, EPERM = 0x7FFF0000, 0x00050000 | 1
ARCH_X86_64 = 0xC000003E


def members(name):
    """The calls of a set, its sets expanded."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    found = set()
    for line in lines:
        if line and not line.startswith("#"):
            found |= members(line)
    return found


def allowed(unit):
    calls = set()
    for line in open(unit):
        if line.startswith("SystemCallFilter="):
            names = line.split("=", 1)[1].strip()
            gone = names.startswith("~")
            for name in names.lstrip("~").split():
                calls = calls - members(name) if gone else calls | members(name)
    return calls


def program(calls):
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", open(HEADER).read()))
    # Load the architecture; another one is refused. Then the number, and a jump over one answer for each call.
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, ARCH_X86_64), (0x06, 0, 0, EPERM), (0x20, 0, 0, 0)]
    for call in sorted(calls & numbers.keys()):
        code += [(0x15, 0, 1, int(numbers[call])), (0x06, 0, 0, ALLOW)]
    code.append((0x06, 0, 0, EPERM))
    return b"".join(struct.pack("HBBI", *statement) for statement in code), len(code)


def main():
    unit, command = sys.argv[1], sys.argv[2:]
    code, count = program(allowed(unit))
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    prog = Program(count, ctypes.addressof(buffer))
    no_new_privs, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privs, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, ctypes.byref(prog), 0, 0):
        sys.exit(f"no filter: errno {ctypes.get_errno()}")
    # mount is in no set that the unit allows.
    if libc.mount(None, b"/nonexistent", None, 0, None) != -1 or ctypes.get_errno() != 1:
        sys.exit("the filter lets mount through")
    os.execvp(command[0], command)


main()
