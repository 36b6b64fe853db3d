"""JSON objects whose members can be read as attributes too."""

from __future__ import annotations

import json
from typing import Any


class Record(dict[str, Any]):
    """A JSON object as the gateway sent it: `record["id"]` and `record.id` are the same, and `"id" in record` says
    whether it is there. Nothing is left out, renamed or added. What has the name of one of a dictionary's methods
    (`items`) is read as `record["items"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} in it; there are {', '.join(self) or 'no members'}") from None


def parse(text: str | bytes) -> Any:
    """What `json.loads` gives, with a `Record` for each object."""
    return json.loads(text, object_hook=Record)
