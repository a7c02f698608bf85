"""Starts a command as systemd starts a service with socket units: listening sockets from descriptor 3 on, and what they
are in the environment.

    activate.py [--twice] NAME=KIND:COUNT... -- COMMAND...

KIND is v4, v6, unix, udp or connection. COUNT sockets share one address by SO_REUSEPORT. With --twice the sockets stay
open here, TERM is passed on, and once the command has ended it is started again with the same sockets.
"""

import os
import signal
import socket
import sys

# Held until the command has them.
kept = []


def tcp(family, host, count):
    made, port = [], 0
    for _ in range(count):
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((host, port))
        port = one.getsockname()[1]
        one.listen(128)
        made.append(one)
    return made


def make(kind, count):
    if kind == "v4":
        return tcp(socket.AF_INET, "127.0.0.1", count)
    if kind == "v6":
        return tcp(socket.AF_INET6, "::1", count)
    if kind == "udp":
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        return [one]
    if kind == "unix":
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind("passed.sock")
        one.listen(8)
        return [one]
    if kind == "connection":
        listener = tcp(socket.AF_INET, "127.0.0.1", 1)[0]
        one = socket.create_connection(listener.getsockname())
        kept.append(listener)
        return [one]
    sys.exit(f"unknown kind {kind}")


def start(made, names, command):
    # First out of the way: the numbers that they have may be numbers that they get.
    high = [os.dup(one.fileno()) if one.fileno() >= 100 else duplicate_above(one.fileno()) for one in made]
    for number, descriptor in enumerate(high, 3):
        os.dup2(descriptor, number, inheritable=True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=":".join(names))
    os.execvp(command[0], command)


def duplicate_above(descriptor):
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)


def main():
    arguments = sys.argv[1:]
    twice = arguments[0] == "--twice"
    split = arguments.index("--")
    command = arguments[split + 1 :]
    made, names = [], []
    for told in arguments[1 if twice else 0 : split]:
        name, rest = told.split("=")
        kind, count = rest.split(":")
        sockets = make(kind, int(count))
        made += sockets
        names += [name] * len(sockets)
    if not twice:
        start(made, names, command)
    for _ in range(2):
        child = os.fork()
        if child == 0:
            start(made, names, command)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(os.waitstatus_to_exitcode(status))


main()
