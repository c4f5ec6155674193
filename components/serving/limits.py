"""What the server allows itself and its clients."""

import math
from dataclasses import dataclass

from components.core.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. Times in seconds, sizes in bytes, counts in items."""

    count: int = 256  # of one request
    queued: int = 512  # waiting for the model, over all requests
    body_bytes: int = 32 << 20  # of an infer request, which holds noise
    asked_bytes: int = 64 << 10  # of one for people, which holds words and seeds
    characters: int = 2048  # of one prompt; an encoder reads far less
    embeddings_bytes: int = 64 << 20  # kept of each model's prompts, for who asks for them again
    body_s: float = 30.0  # to receive one request
    head_bytes: int = 32 << 10  # of its first line and headers
    head_s: float = 10.0  # to receive those, from the connection's opening or the head's first byte
    keep_alive_s: int = 75  # between two requests: longer than balancers commonly keep a connection, so that they, not we, end it
    connections: int = 4096  # open at once; no more than there are file descriptors for
    answer_s: float = 60.0  # from its place in the queue to its items
    stuck_s: float = 60.0  # of one run of the model, after which the server is not ready
    linger_s: float = 0.002  # a batch that is not full waits this long for requests that are just arriving
    look_s: float = 2.0  # from one look at a channel to the next
    retry_s: float = 60.0  # from a bundle that was refused to another try of it
    notice_s: float = 1.0  # when told to stop: not ready, and still answering, so that balancers look elsewhere first
    drain_s: float = 60.0  # then for the requests under way, and no less than answer_s

    def __post_init__(self) -> None:
        """Raises InputError for a deadline that never comes."""
        if not math.isfinite(self.answer_s):
            raise InputError(f"--deadline-s {self.answer_s}", allowed="seconds, above 0")
