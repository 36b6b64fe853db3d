"""The base class as it is, against the gateway of `FOREBAY_URL`: a model `qwen-mcp`, a provider `postgres-db` and the
tool `web_search`."""

from forebay.testing import MCPTestSuite


class TestMCPIntegration(MCPTestSuite):
    """Three tests, and one more by the same client."""

    def test_no_such_model(self) -> None:
        answer = self.client.post("/v1/chat/completions", {"model": "no-such", "messages": []})
        assert answer.status_code == 404
        assert answer.json()["error"]["forebay_code"] == "unknown_model"
