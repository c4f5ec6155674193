"""Why a graph is not admitted: the check that says no, and what it saw."""

from components.core.records import AdmissionCheck


class Refused(Exception):
    """Ends the examination: every later check would only repeat it."""

    def __init__(self, check: str, text: str) -> None:
        self.check = AdmissionCheck(check=check, passed=False, text=" ".join(text.split())[:300])
        super().__init__(text)
