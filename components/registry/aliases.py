"""Whether a hand that set the alias `champion` on another version in MLflow is followed, as a team has settled it:

follow   the alias is the truth: ledger and channel follow it, and the entry says what the gates said
proved   it is followed where the evidence holds, else it is put back
undo     it is put back: promotions alone make champions

The evidence holds for a version that was champion before (a way back), and for one that every gate passed beside the champion of
now, with the tag that promotion requires. What cannot be served is always put back (state.py: foreign).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.core.records import Bundle, LedgerEntry, Release
from components.registry.approval import RequiredTag

Moves = Literal["follow", "proved", "undo"]


def proved_beside(bundle: Bundle, champion: str | None) -> bool:
    """Whether it was proved beside this champion, by its bundle's digest (None: there is none); a student is proved beside its
    teacher."""
    return bundle.gates.champion == (bundle.lineage.teacher or champion)


@dataclass(frozen=True)
class Judge:
    """What a team has settled, and where the evidence of a version is: its bundle's record, and its tags in MLflow."""

    moves: Moves = "follow"
    tag: RequiredTag | None = None
    bundle_of: Callable[[str], Bundle | None] = lambda sha256: None
    tags_of: Callable[[str, int], Mapping[str, str]] = lambda model, version: {}

    def refusal(self, release: Release, entries: Sequence[LedgerEntry]) -> str:
        """Why a hand that made this version champion is undone; empty where it is followed. `entries`: the model's ledger."""
        if self.moves == "follow":
            return ""
        if self.moves == "undo":
            return "which no promotion made champion"
        return self.lacks(release, entries)

    def lacks(self, release: Release, entries: Sequence[LedgerEntry]) -> str:
        """What the evidence of a version lacks to be champion after what the ledger says; empty where it holds."""
        if was_champion(release, entries):
            return ""
        bundle = self.bundle_of(release.bundle_sha256)
        if bundle is None:
            return "whose proof cannot be read"
        if bundle.gates.verdict != "pass":
            return f"whose gates say {bundle.gates.verdict}"
        if not proved_beside(bundle, entries[-1].to_bundle if entries else None):
            return "which was proved beside another champion than the one that is champion now"
        if self.lacks_tag(release):
            assert self.tag is not None
            return f"which lacks the tag {self.tag.text}"
        return ""

    def lacks_tag(self, release: Release) -> bool:
        """Whether a version lacks the tag that promotion requires."""
        return self.tag is not None and not self.tag.is_on(self.tags_of(release.model, release.version))

    def evidence(self, release: Release) -> dict[str, Any]:
        """What the ledger keeps of a version that a hand made champion: what its gates said, beside which bundle, and the tag."""
        bundle = self.bundle_of(release.bundle_sha256)
        gates = {} if bundle is None else {"verdict": bundle.gates.verdict, "beside": bundle.gates.champion}
        return gates | self.approval(release)

    def approval(self, release: Release) -> dict[str, Any]:
        """What the ledger keeps of the tag that promotion requires."""
        if self.tag is None:
            return {}
        return {"approved": {self.tag.name: self.tags_of(release.model, release.version).get(self.tag.name)}}


FOLLOW = Judge()


def was_champion(release: Release, entries: Sequence[LedgerEntry]) -> bool:
    """Whether the ledger made its bundle champion before."""
    return any(entry.to_bundle == release.bundle_sha256 for entry in entries)
