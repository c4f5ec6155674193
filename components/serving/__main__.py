"""`python -m components.serving BUNDLE`: serve one bundle in a folder. Needs nothing that a registry or a store would.

Tokens are let in as `genwright serve` lets them in, by GENWRIGHT_TOKEN and GENWRIGHT_TOKEN_SHA256, and by --token-sha256.
"""

import argparse
import hashlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from components.core.errors import BundleError, GenwrightError
from components.serving.app import fixed
from components.serving.engine import Engine
from components.serving.limits import Limits
from components.serving.log import Log
from components.serving.server import serve
from components.serving.tokens import digests_of

Number = TypeVar("Number", int, float)


def digest(given: str) -> bytes:
    """The 32 bytes of a SHA-256 in hexadecimal."""
    if len(found := bytes.fromhex(given)) != hashlib.sha256().digest_size:
        raise ValueError
    return found


def above(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """A number above zero."""

    def read(given: str) -> Number:
        if not 0 < (number := kind(given)) < math.inf:
            raise ValueError
        return number

    read.__name__ = "number above zero"
    return read


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m components.serving", description="Serve one bundle.")
    parser.add_argument("bundle", type=Path, help="the folder of a sealed bundle")
    parser.add_argument("--model", help="its name; by default the one that the bundle has")
    parser.add_argument("--version", default="1")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--token-sha256", action="append", default=[], type=digest, help="of a token that is let in")
    parser.add_argument("--deadline-s", type=above(float), default=Limits.answer_s, help="from the queue to an answer, else 503")
    parser.add_argument("--queue", type=above(int), default=Limits.queued, help="items that may wait; more are a 429")
    parser.add_argument("--log", choices=("text", "json"), default="json")
    given = parser.parse_args()
    limits = Limits(answer_s=given.deadline_s, queued=given.queue)
    try:
        known = digests_of(os.environ.get("GENWRIGHT_TOKEN") or None, os.environ.get("GENWRIGHT_TOKEN_SHA256") or None)
        engine = Engine.load(given.bundle, threads=given.threads, device=given.device)
        sealed = engine.bundle.admission
        if sealed is not None and sealed.verdict == "fail":
            raise BundleError(f"{given.bundle}: is not admitted: {sealed.refusal}", do="serve another one")
        source = fixed(given.model or engine.bundle.model, given.version, engine)
        tokens = (*known, *given.token_sha256)
        serve([source], host=given.host, port=given.port, tokens=tokens, limits=limits, log=Log(given.log))
    except GenwrightError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
