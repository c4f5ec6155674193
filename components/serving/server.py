"""The process: a socket, signals, and uvicorn around the application."""

import asyncio
import errno
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import uvicorn

from components.core.errors import ServingError
from components.serving.app import PROMPT, Service
from components.serving.connection import Connection, Server
from components.serving.following import Source
from components.serving.limits import Limits
from components.serving.log import Log, Passed

BACKLOG = 2048
OTHER_FILES = 64


def serve(
    sources: Sequence[Source],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: Sequence[bytes] = (),
    limits: Limits | None = None,
    log: Log | None = None,
    find: Callable[[], Sequence[Source]] | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve what the sources name until SIGTERM or SIGINT; then finish the requests under way and return.

    `find` gives sources of models that may come later. `port` 0 takes a free one. `tokens` are SHA-256 digests of those that are
    let in. `announce` is given the greeting when requests are answered (default: standard error). Raises ServingError when the
    address cannot be had, BundleError when a bundle is not what it says.
    """
    limits, log = limits or Limits(), log or Log()
    listener = listen(host, port)  # before the models are loaded: a busy port is told at once
    try:
        service = Service(tokens=tokens, limits=limits, log=log)
        for source in sources:
            service.add(source)
        if find is not None:
            service.gather(find)
        config = uvicorn.Config(
            service.app,
            http=partial(Connection, limits=replace(limits, connections=min(limits.connections, connections_left()))),  # type: ignore[arg-type]
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=math.ceil(max(limits.drain_s, limits.answer_s)),
            timeout_keep_alive=limits.keep_alive_s,
        )
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(Passed(log))
        logger.propagate = False
        lines = greeting(service, host=host, port=listener.getsockname()[1], token=bool(tokens))
        server = Server(config, service, lambda: (announce or to_stderr)(lines))
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop where there is one
            runner.run(server.until_told(listener))
    finally:
        listener.close()


def connections_left() -> int:
    """How many connections this process has file descriptors for, beside those for files, channels and logs."""
    if os.name != "posix":
        return 512
    import resource

    return max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ServingError with one line that names the address and what to do."""
    if not 0 <= port < 2**16:
        raise ServingError(f"port {port}", allowed="0 to 65535, 0 for any free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)[0]
        # asyncio turns Nagle's algorithm off only where the protocol is named; else each reply on a kept connection takes 40 ms.
        listener = socket.socket(family, kind, protocol)
    except (socket.gaierror, UnicodeError) as error:
        raise ServingError(
            f"host {host!r}: {getattr(error, 'strerror', None) or error}", do="name an address of this machine, such as 127.0.0.1"
        ) from error
    try:
        if os.name == "posix":  # a port that a stopped server has just left is free; elsewhere the option would share a busy one
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            do = f"choose another with --port, or stop what uses it (lsof -i :{port})"
            raise ServingError(f"port {port} of {host} is taken", do=do) from error
        if error.errno == errno.EACCES:
            raise ServingError(f"port {port} of {host} is not allowed to this user", do="choose one above 1023") from error
        raise ServingError(f"{host}:{port}: {os.strerror(error.errno or 0)}", do="name an address of this machine") from error
    return listener


def greeting(service: Service, *, host: str, port: int, token: bool) -> str:
    """What is served, where, and a command to try."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    served = [*service.models]
    if not served:
        return f"serving on {url} what has a champion, and what will have one"
    names = ", ".join(f"{each.model} v{each.version} (bundle {each.engine.sha256[:12]})" for each in served)
    header = " -H 'Authorization: Bearer TOKEN'" if token else ""
    which = f'"model": "{served[0].model}", ' if len(served) > 1 else ""
    which += f'"prompt": "{PROMPT}", ' if served[0].texts else ""
    return (
        f"serving {names} on {url}\n"
        f'try: curl{header} -o {served[0].model}.png -d \'{{{which}"count": 16, "format": "grid"}}\' {url}/v1/generate'
    )


def to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
