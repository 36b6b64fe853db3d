"""Forebay for Python: chats with context and tools of the gateway, and a base class for tests of a running one."""

from forebay.client import Client
from forebay.errors import ForebayError
from forebay.record import Record

__all__ = ["Client", "ForebayError", "Record"]
__version__ = "0.1.0"
