"""The resumable state of a run in one file: safetensors and JSON, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from components.core.errors import RunError
from components.core.files import write_whole

FORMAT = 1


def flatten(prefix: str, tree: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split nested dicts into tensors by path and the JSON-able rest: {'a': {'b': t}} -> {'prefix/a/b': t}, {}."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}/{key}"
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu().contiguous()
        elif isinstance(value, dict):
            inner, others = flatten(path, value)
            tensors |= inner
            rest |= others
        else:
            rest[path] = value
    return tensors, rest


def unflatten(prefix: str, tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[Any, Any]:
    """The inverse of `flatten`; integer keys come back as integers, as optimizers want them."""
    tree: dict[str | int, Any] = {}
    for path, value in [*tensors.items(), *rest.items()]:
        if path.startswith(f"{prefix}/"):
            *parents, leaf = path.removeprefix(f"{prefix}/").split("/")
            node: dict[str | int, Any] = tree
            for parent in parents:
                node = node.setdefault(_key(parent), {})
            node[_key(leaf)] = value
    return tree


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the whole state as one file: tensors, and the rest as JSON in the header."""
    tensors, rest = flatten("", state)
    write_whole(path, save(tensors, metadata={"state": json.dumps({"format": FORMAT, "rest": rest})}))


def load_state(path: Path) -> dict[str, Any] | None:
    """Read what `save_state` wrote, or None when there is nothing. Raises RunError when the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            rest = json.loads(file.metadata()["state"])["rest"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise RunError(
            f"{path}: the saved training state is damaged ({error})", do="delete it to train from the start"
        ) from error
    return unflatten("", tensors, rest)


def saved_step(path: Path) -> int:
    """The step of a saved state, from its header; -1 where there is none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()["state"])["rest"]["/run/step"])
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return -1


def rng_state(rng: torch.Generator) -> dict[str, Tensor]:
    """The generators a step may draw from: ours, and torch's own, which dropout uses."""
    state = {"own": rng.get_state(), "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(rng: torch.Generator, state: dict[str, Tensor]) -> None:
    """Put the generators back where `rng_state` found them."""
    rng.set_state(state["own"])
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _key(part: str) -> str | int:
    return int(part) if part.isdigit() else part
