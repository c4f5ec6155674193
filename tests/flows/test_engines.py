"""Which engine carries out the job of a command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import SettingsError
from components.core.record import Record
from components.pipeline import stages
from components.pipeline.backends import Backends
from components.pipeline.order import Stage
from components.pipeline.production import Call
from flows import engines
from flows.settings import Settings


def unasked(made: object) -> Any:
    pytest.fail(f"how {made} ends is no matter of this engine's")


@pytest.mark.parametrize(("name", "noted"), [("process", None), ("aloud", "seal\n")])
def test_the_engine_that_is_named_runs_the_stages_whichever_server_is_named_besides(
    name: str, noted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Record()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(
        engines, "__path__", [*engines.__path__, str(Path(__file__).parents[1] / "drop_in" / "flows" / "engines")]
    )
    monkeypatch.setattr(stages, "seal", lambda *records: made)

    def work(call: Call) -> Sequence[Any]:
        return [call(Stage("seal", takes=()), [])]

    assert engines.run(name, engines.Job("distil", "digits/1", work, unasked), Backends(Settings(home=tmp_path))) == [made]
    stages_txt = tmp_path / "stages.txt"
    assert (stages_txt.read_text() if stages_txt.exists() else None) == noted


def test_an_engine_that_is_not_here_is_refused(tmp_path: Path) -> None:
    job = engines.Job("produce", "digits/1", lambda call: pytest.fail(f"{call} was made"), unasked)
    with pytest.raises(SettingsError, match="GENWRIGHT_ENGINE: nope; allowed: prefect, process"):
        engines.run("nope", job, Backends(Settings(home=tmp_path)))
