"""The entry point of `genwright` and of `python -m flows`: signals are caught before anything that takes time is imported, and
what the system frees at once is not freed by Python before."""

import atexit
import contextlib
import logging
import os
import sys

from components.runtime.interruption import WATCH


def main() -> None:
    WATCH.arm()
    ended: list[int] = []
    atexit.register(_leave, ended)  # the first that is registered is the last that is called
    from flows.cli.app import main as run

    try:
        run()
    except SystemExit as end:
        if isinstance(end.code, int):
            ended.append(end.code)
        raise


def _leave(ended: list[int]) -> None:
    """End here, once threads and exit handlers are done: to take apart torch, MLflow and Prefect takes Python half a second."""
    if not ended:
        return  # as Python ends after an error that nobody caught
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it any more
            stream.flush()
    os._exit(ended[0])


if __name__ == "__main__":
    main()
