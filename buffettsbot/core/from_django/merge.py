"""Where the original and this system both sold to one customer: which end is right. Pure.

Of what came from the original the later end counts, as the original says; to what was sold here the
original's days are added. Paid days are never lost, and no end ever moves back.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Membership:
    """A membership as it stands. `imported`: bought in the original; `renewed`: the days before
    its start belong to one that was still running."""

    transaction_hash: str
    plan_id: int | None
    start_date: datetime
    end_date: datetime
    duration: int
    expired_at: datetime | None = None
    imported: bool = True
    renewed: bool = False

    @property
    def ended(self) -> datetime:
        """When it ends, or was ended."""
        return min(self.end_date, self.expired_at or self.end_date)


def merged(standing: Membership | None, bought: Membership) -> Membership:
    """Return the membership after a payment in the original that is new here.

    The same object when nothing changes.
    """
    if standing is None or standing.ended <= bought.start_date:
        return bought
    end = bought.end_date
    if not standing.imported:
        begun = bought.start_date if standing.renewed else standing.start_date
        end = standing.ended + max(end - max(begun, bought.start_date), timedelta())
    if end <= standing.ended:
        return standing
    newer = standing.imported and bought.start_date >= standing.start_date
    return replace(bought if newer else standing, end_date=end, expired_at=None)
