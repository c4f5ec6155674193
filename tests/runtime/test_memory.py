"""What is free, in a container too."""

from pathlib import Path

import pytest

from components.runtime import memory


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        ("memory.max", "1000000"),
        ("memory.current", "700000"),
        ("memory.stat", "anon 5\ninactive_file 200000\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.free_bytes() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() > 1_000_000
