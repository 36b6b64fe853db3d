"""How many contexts one client has made and not deleted, against its `max_contexts`."""

from __future__ import annotations

from forebay.errors import ForebayError
from forebay.record import Record

MAKES, REMOVES = "mcp.create_context", "mcp.delete_context"


class Made:
    """Contexts by their ids, and by their task's where that is all that is known of them so far."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._ids: set[str] = set()

    def check(self) -> None:
        if self._most is not None and len(self._ids) >= self._most:
            raise ForebayError(f"this client has made {self._most} contexts, its `max_contexts`", code="context_limit")

    def add(self, made: Record) -> None:
        """A context, or the task that will make it."""
        self._ids.add(made.id)
        self.hear(made)

    def remove(self, context_id: str, told: Record) -> None:
        """A context that is gone, or that the task `told` will remove: until then it counts."""
        if told.get("type") == REMOVES:
            self.hear(told)
        else:
            self._ids.discard(context_id)

    def hear(self, task: Record) -> None:
        """What became of a task: what one of ours made counts in its place, and what one removed counts no longer."""
        if task.get("type") == REMOVES and task.status == "completed":
            self._ids.discard(task.context_id)
        if task.get("type") != MAKES or task.id not in self._ids:
            return
        if task.status == "completed":
            self._ids.add(task.output.id)
        if task.status in ("completed", "failed", "cancelled", "dead"):
            self._ids.discard(task.id)
