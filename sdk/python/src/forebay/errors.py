"""What goes wrong, with the gateway's own code and hint."""

from __future__ import annotations

import json
from typing import Any

import httpx


class ForebayError(Exception):
    """The gateway refused, failed, or broke off its answer."""

    def __init__(
        self, message: str, *, code: str | None = None, status: int | None = None, task_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        # The stable code of `docs/errors`, such as `unknown_model`; none where no gateway spoke.
        self.code = code
        # The HTTP status; none where the answer had begun.
        self.status = status
        # The task that it is about, where there is one: it may still go on, and `tasks.wait` finds out.
        self.task_id = task_id

    @classmethod
    def of(cls, status: int, content: bytes, task_id: str | None = None) -> ForebayError:
        """From an answer that is an error, whatever it holds."""
        try:
            return cls.read(json.loads(content), status, task_id)
        except ValueError:
            return cls.read(None, status, task_id)

    @classmethod
    def read(cls, body: Any, status: int | None = None, task_id: str | None = None) -> ForebayError:
        """From an error as OpenAI's API has it, or a problem document."""
        told = body if isinstance(body, dict) else {}
        error = told.get("error")
        if isinstance(error, dict):
            return cls(str(error.get("message")), code=error.get("forebay_code"), status=status, task_id=task_id)
        if "detail" in told:
            words = " ".join(str(told[part]) for part in ("detail", "hint") if told.get(part))
            return cls(words, code=told.get("code"), status=status, task_id=task_id)
        return cls(f"what answers with HTTP {status} is no gateway: check the address", status=status, task_id=task_id)


def unreachable(fault: httpx.HTTPError) -> ForebayError:
    """No answer came, or not all of it."""
    if isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout):
        return ForebayError(f"the gateway cannot be reached: {fault}", code="unreachable")
    if isinstance(fault, httpx.TimeoutException):
        return ForebayError("the gateway did not answer in time", code="timed_out")
    return ForebayError(f"the answer broke off before its end: {fault}", code="upstream_truncated")
