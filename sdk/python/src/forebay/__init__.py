"""Forebay for Python: chats with context and tools of the gateway, contexts, tasks, and a base class for tests."""

from forebay.aio import AsyncClient
from forebay.client import Client
from forebay.errors import ForebayError
from forebay.record import Record
from forebay.retry import Retry

__all__ = ["AsyncClient", "Client", "ForebayError", "Record", "Retry"]
__version__ = "0.1.0"
