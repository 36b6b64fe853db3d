"""A pytest base class that tests a running gateway: that it finds context, runs tools, and is well.

    from forebay.testing import MCPTestSuite

    class TestOurGateway(MCPTestSuite):
        model = "qwen"
        providers = ("handbook",)

The gateway is the one of `FOREBAY_URL`, asked with the key of `FOREBAY_KEY`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from forebay.client import Client
from forebay.record import Record


class MCPTestSuite:
    """Three tests, and `self.client` for further ones. What they ask about are attributes of the class."""

    model: ClassVar[str] = "qwen-mcp"
    # Where context is looked for, and what the model is asked about it.
    providers: ClassVar[Sequence[str]] = ("postgres-db",)
    query: ClassVar[str] = "database content"
    question: ClassVar[str] = "What's in the database?"
    # A tool of the gateway, and what makes the model call it.
    tool: ClassVar[str] = "web_search"
    errand: ClassVar[str] = "Search for AI news"
    # What goes into each request beside. A model that calls tools only when it is told to needs
    # `{"tool_choice": "required"}` in `errand_options`.
    options: ClassVar[Mapping[str, Any]] = {}
    errand_options: ClassVar[Mapping[str, Any]] = {}

    client: Client

    @pytest.fixture(autouse=True)
    def _connected(self) -> Iterator[None]:
        with Client() as self.client:
            yield

    def ask(self, question: str, **more: Any) -> Record:
        messages = [{"role": "user", "content": question}]
        return self.client.chat.completions.create(model=self.model, messages=messages, **{**self.options, **more})

    def test_context_retrieval(self) -> None:
        """Each provider was asked, and at least one of them had something for the model."""
        wanted = {"providers": list(self.providers), "query": self.query}
        response = self.ask(self.question, mcp_context=wanted)
        assert response.choices[0].message.content is not None
        asked = {report.provider: report.failure for report in response.forebay.providers}
        assert asked == dict.fromkeys(self.providers), "each provider was asked, and none failed"
        assert response.forebay.context, "something was found"

    def test_tool_execution(self) -> None:
        """The tool runs on the gateway and is reported there; whoever wants to run it gets the call instead."""
        tools = [{"type": "function", "function": {"name": self.tool}}]
        response = self.ask(self.errand, tools=tools, **self.errand_options)
        ran = [(call.name, call.status) for call in response.forebay.tools]
        assert (self.tool, "success") in ran, f"the model did not call it, or it failed: {ran}"
        assert response.choices[0].message.content is not None
        response = self.ask(self.errand, tools=tools, tool_execution="client", **self.errand_options)
        assert "tool_calls" in response.choices[0].message, response.choices[0].message
        assert self.tool in [call.function.name for call in response.choices[0].message.tool_calls]

    def test_mcp_health_check(self) -> None:
        health = self.client.get("/mcp/health")
        assert health.status_code == 200
        assert health.json()["mcp"]["status"] == "healthy"
