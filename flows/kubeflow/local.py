"""A pipeline on this machine, by KFP's runner of processes."""

import contextlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

from kfp import local

from components.core.errors import RunError


def run(pipeline: Any, folder: Path) -> str:
    """What its last step said. What the steps print goes to standard error; KFP's files to the folder.

    Raises RunError with the step that failed.
    """
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder))
    logging.getLogger().setLevel(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            task = pipeline()
        except RuntimeError as error:
            said = re.sub(r"\x1b\[\d+m", "", str(error))  # KFP colours it
            raise RunError(f"kubeflow run-local: {said}", do="what the step said stands above") from error
    line: str = task.outputs["Output"]
    return line
