"""How a run ended, as an orchestrator's page shows it."""

import base64
import re
from io import BytesIO
from pathlib import Path

from PIL import Image

from components.pipeline.backends import Backends
from components.pipeline.endings import Ending, judged
from components.pipeline.run import Produced
from components.pipeline.summary import PICTURE_BYTES, PICTURE_PIXELS, markdown
from flows.settings import Settings


def produced(home: Path) -> Produced:
    (path,) = (home / "store" / "runs" / "digits").glob("*/promote.json")
    return Produced.read(path)


def test_it_holds_what_was_made_and_where_it_is(home: Path) -> None:
    backends = Backends(Settings(home=home, tracking_uri="http://mlflow:5000/"))
    known = produced(home)
    ending = judged(None, known)
    assert (ending.name, ending.error) == ("Promoted", None)
    text = markdown(ending, backends, title="digits")
    assert text.startswith("# digits: Promoted\n\ndigits version 1 was produced and promoted\n")
    assert "## Gates: pass" in text
    assert all(f"| {gate.gate} | pass |" in text for gate in known.gates.gates)
    assert "[http://mlflow:5000/#/models/digits/versions/1](http://mlflow:5000/#/models/digits/versions/1)" in text
    assert f"{backends.store.uri}/artifacts/{known.page.sha256}/" in text
    (picture,) = re.findall(r"!\[samples\]\(data:image/png;base64,([^)]+)\)", text)
    assert len(picture) < 1.4 * PICTURE_BYTES
    assert max(Image.open(BytesIO(base64.b64decode(picture))).size) <= PICTURE_PIXELS


def test_a_refusal_says_which_gate(home: Path) -> None:
    known = produced(home)
    first, *others = known.gates.gates
    failed = first.model_copy(update={"verdict": "fail", "text": "0.9 | 0.1"})
    report = known.gates.model_copy(update={"verdict": "fail", "gates": (failed, *others)})
    ending = judged(None, known.model_copy(update={"gates": report, "promoted": False}))
    assert ending.name == "Refused"
    assert ending.sentence == str(ending.error)
    text = markdown(ending, Backends(Settings(home=home)), title="digits")
    assert f"| {first.gate} | fail | 0.9 \\| 0.1 |" in text


def test_what_there_is_nothing_of_is_left_out(tmp_path: Path) -> None:
    text = markdown(Ending("Failed", "brief: no such file"), Backends(Settings(home=tmp_path)), title="digits")
    assert text == "# digits: Failed\n\nbrief: no such file"
