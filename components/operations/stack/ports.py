"""Ports of this machine."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from components.operations.stack.stack import HOST


def is_taken(port: int) -> bool:
    """Whether something listens there already."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended leaves it so
        try:
            one.bind((HOST, port))
        except OSError:
            return True
    return False


def taken_by(port: int) -> str:
    """The program that listens there, where this user may see it, for an error line."""
    try:
        listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
        pid = next((each.pid for each in listening if each.laddr and each.laddr.port == port), None)
        return f" by {psutil.Process(pid).name()}, process {pid}" if pid else ""
    except psutil.Error:
        return ""


def free_ports(count: int) -> list[int]:
    """Some that nobody has now."""
    with _bound(count) as ports:
        return ports


@contextmanager
def _bound(count: int) -> Iterator[list[int]]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        yield [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
