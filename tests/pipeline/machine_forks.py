"""One machine of the tests: runs `genwright` in forks of a process that has imported everything once.

Each line of standard input is a request in JSON, answered by one line: {"arguments", "log", "environment"} starts a command and
gives its process id; {"wait": id} gives how it ended; {"list": path} names the files of a folder, or the error's name.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import boto3  # noqa: F401 - loaded here, once
import dvc.repo  # noqa: F401
import mlflow  # noqa: F401
import onnx  # noqa: F401
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import torch  # noqa: F401

import components.pipeline.proof  # noqa: F401
import flows.cli.app  # noqa: F401
from flows.__main__ import main


def start(request: dict[str, Any]) -> dict[str, Any]:
    pid = os.fork()
    if pid:
        return {"pid": pid}
    code = 70
    try:
        os.setsid()
        os.environ.update(request["environment"])
        for descriptor, name in ((0, os.devnull), (1, f"{request['log']}.out"), (2, f"{request['log']}.err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        sys.argv = ["genwright", *request["arguments"]]
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(request: dict[str, Any]) -> dict[str, Any]:
    return {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}


def look(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"names": sorted(path.name for path in Path(request["list"]).iterdir())}
    except OSError as error:
        return {"error": type(error).__name__}


def serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = wait(request) if "wait" in request else look(request) if "list" in request else start(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
