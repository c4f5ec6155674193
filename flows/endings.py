"""How a flow run ends in Prefect: a state with a name and a sentence, and an artifact that holds the rest of it."""

import re
from contextlib import suppress

from prefect.artifacts import create_markdown_artifact
from prefect.states import Cancelled, Completed, Failed, State

from components.pipeline.endings import Ending
from components.pipeline.notices import notices_of
from components.pipeline.summary import markdown
from flows.events import emit
from flows.settings import load_backends

TYPES = {"Cancelled": Cancelled, "Failed": Failed}  # any other is Completed: a gate's no is no crash, and is not tried again


def key_of(title: str) -> str:
    """The key of an artifact, with all that Prefect allows in one."""
    return f"genwright-{re.sub('[^a-z0-9]+', '-', title.lower())}"


def state_of(title: str, ending: Ending) -> State[None]:
    """The state of a flow run that ended so. Within the flow: its page is put there."""
    title = ending.run.brief.name if ending.run is not None else title.partition("/")[0]
    with suppress(Exception):  # what ended stays as it ended, with or without its page
        create_markdown_artifact(markdown(ending, load_backends(), title=title), key=key_of(title), description=ending.sentence)
    emit(notices_of(ending, load_backends()))
    return TYPES.get(ending.name, Completed)(name=ending.name, message=ending.sentence)
