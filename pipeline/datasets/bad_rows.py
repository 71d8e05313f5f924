"""What happens to rows that cannot be read: the run fails at the first, or they are skipped and counted."""

from typing import Literal, get_args

from pipeline.errors import UserError

Policy = Literal["fail", "skip"]
POLICIES: tuple[str, ...] = get_args(Policy)
MAX_SHOWN = 5


class BadRows:
    """The rows that were skipped: how many, and what was wrong with the first five.

    Args:
        policy: `data.on_bad_rows`: fail at the first bad row, or skip it.
    """

    def __init__(self, policy: str = "fail"):
        self.policy = policy
        self.count = 0
        self.messages: list[str] = []

    def reject(self, message: str) -> None:
        """Counts a bad row; raises UserError(message) where the first one ends the run."""
        if self.policy == "fail":
            raise UserError(f"{message} Or leave such rows out: --set data.on_bad_rows=skip.")
        self.count += 1
        if len(self.messages) < MAX_SHOWN:
            self.messages.append(message)

    def add(self, later: "BadRows") -> None:
        """Takes in the bad rows of a part that was read elsewhere."""
        self.count += later.count
        self.messages = (self.messages + later.messages)[:MAX_SHOWN]

    def check(self, source: str, num_rows: int) -> None:
        """Raises UserError if more rows were bad than good: then it is not the rows that are wrong."""
        if self.count > num_rows:
            raise UserError(
                f"{source}: {self.count} rows are bad and {num_rows} are good: is it the right reader, label or file? "
                f"The first: {self.messages[0]}"
            )
