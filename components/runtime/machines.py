"""Which one this is of several machines that carry out one training together."""

from components.core.record import Record


class Machine(Record):
    """`number` of `of`, from 0: the first one leads. They meet at an address of the first, tcp://HOST:PORT."""

    number: int = 0
    of: int = 1
    meeting: str = ""

    @property
    def leads(self) -> bool:
        return self.number == 0

    @property
    def text(self) -> str:
        return f"machine {self.number + 1} of {self.of}"


ALONE = Machine()
