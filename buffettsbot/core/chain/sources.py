"""What the blockchain says of a transaction, whoever was asked.

A source turns its answer into a `ChainTransaction`, or says honestly that it does not know
(`SourceUnavailable`). `Chain` asks the sources in their order until enough of them are definite.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from buffettsbot.core.chain.transaction import Answer, ChainTransaction, Silence

ASK_SECONDS = 14.0
ROUNDS = 3
LONGEST_WAIT = 3.0  # for a throttled source, while somebody waits for the answer


class SourceUnavailable(Exception):
    """The source does not know now. `retry_after`: seconds until asking again makes sense."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after = retry_after


class Source(Protocol):
    """Somebody who can be asked about a transaction."""

    name: str

    def look_up(self, transaction_hash: str, *, deadline: float) -> ChainTransaction:
        """Answer before `deadline` (a `time.monotonic` instant), or raise SourceUnavailable."""
        ...


def _ignore(source: str, outcome: str, seconds: float) -> None:
    """The observer for those who need none."""


@dataclass
class Chain:
    """The sources in the order in which they are asked, and how many of them must be definite.

    `observe(source, outcome, seconds)` is told of every question: outcome is "answered" or
    "silent".
    """

    sources: Sequence[Source]
    quorum: int = 1
    ask_seconds: float = ASK_SECONDS
    observe: Callable[[str, str, float], None] = field(default=_ignore)

    def look_up(self, transaction_hash: str) -> tuple[Answer, ...]:
        """Ask until `quorum` sources are definite; return every source's last answer, in order.

        A source that could not say is asked again, up to three times within the deadline.
        """
        deadline = time.monotonic() + self.ask_seconds
        answers: dict[str, Answer] = {}
        waiting: Sequence[Source] = self.sources
        for round_number in range(ROUNDS):
            again = []
            for source in waiting:
                answer, retry_after = self._ask(source, transaction_hash, deadline)
                answers[source.name] = answer
                if self._enough(answers):
                    return tuple(answers.values())
                left = min(LONGEST_WAIT, deadline - time.monotonic())
                if isinstance(answer, Silence) and retry_after <= left:
                    again.append((source, retry_after))
            if not again or round_number == ROUNDS - 1:
                break
            pause = max(min(wait for _, wait in again), 0.2 * 2**round_number)
            pause *= random.uniform(1, 1.5)  # noqa: S311 -- jitter, not a secret
            if time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
            waiting = [source for source, _ in again]
        return tuple(answers.values())

    def _ask(self, source: Source, transaction_hash: str, deadline: float) -> tuple[Answer, float]:
        started = time.monotonic()
        try:
            answer: Answer = source.look_up(transaction_hash, deadline=deadline)
            retry_after = 0.0
        except SourceUnavailable as silence:
            answer, retry_after = Silence(source.name, silence.why), silence.retry_after
        outcome = "silent" if isinstance(answer, Silence) else "answered"
        self.observe(source.name, outcome, time.monotonic() - started)
        return answer, retry_after

    def _enough(self, answers: Mapping[str, Answer]) -> bool:
        definite = [a for a in answers.values() if isinstance(a, ChainTransaction) and a.definite]
        return len(definite) >= self.quorum
