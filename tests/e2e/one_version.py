"""An MCP server that speaks one version of the protocol and no other: `python one_version.py VERSION [PORT]`.

Without a port it speaks over standard input and output; with one over HTTP, as that version has it (2024-11-05:
HTTP+SSE). It knows nothing of other versions and refuses what a server of its time would, so that a gateway that
mixes up two of them is found out. Its tools say which version was spoken, and which process it is.
"""

from __future__ import annotations

import http.server
import itertools
import json
import os
import queue
import sys
from typing import Any

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
MODERN = "2026-07-28"
NAMESPACE = "io.modelcontextprotocol/"
INFO = {"name": "one-version", "version": "1"}
WAIT_SECONDS_MAX = 300


class RefusedError(Exception):
    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class Server:
    """What is asked and answered, whatever carries it."""

    def __init__(self, version: str) -> None:
        self.version = version
        schema = {"type": "object", "properties": {}}
        self.tools = [{"name": name, "description": f"{name}.", "inputSchema": schema} for name in ("version", "pid")]

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The response to a request; none to anything else."""
        if "method" not in message or "id" not in message:
            return None
        about = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            return about | {"result": self.result(message["method"], message.get("params", {}))}
        except RefusedError as refused:
            return about | {"error": refused.error}

    def result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        modern = self.version == MODERN
        meta = params.get("_meta", {})
        said = meta.get(NAMESPACE + "protocolVersion")
        if modern and said != self.version:
            raise RefusedError(-32022, "Unsupported protocol version", supported=[self.version], requested=said)
        if modern and NAMESPACE + "clientCapabilities" not in meta:
            raise RefusedError(-32602, "The client's capabilities are missing")
        answers = {"tools/list": self.listed, "tools/call": self.called}
        answers |= {"server/discover": self.discovered} if modern else {"initialize": self.opened, "ping": dict}
        if method not in answers:
            raise RefusedError(-32601, "Method not found")
        if said is not None and not modern:
            raise RefusedError(-32602, f"A server of {self.version} was told of {said}")
        takes_params = method == "tools/call"
        result = answers[method](params) if takes_params else answers[method]()
        return result | ({"resultType": "complete"} if modern else {})

    def opened(self) -> dict[str, Any]:
        return {"protocolVersion": self.version, "capabilities": {"tools": {}}, "serverInfo": INFO}

    def discovered(self) -> dict[str, Any]:
        about = {"supportedVersions": [self.version], "capabilities": {"tools": {}}}
        return about | {"ttlMs": 0, "cacheScope": "public", "_meta": {NAMESPACE + "serverInfo": INFO}}

    def listed(self) -> dict[str, Any]:
        return {"tools": self.tools} | ({"ttlMs": 0, "cacheScope": "public"} if self.version == MODERN else {})

    def called(self, params: dict[str, Any]) -> dict[str, Any]:
        words = {"version": f"spoken: {self.version}", "pid": str(os.getpid())}
        if params.get("name") not in words:
            raise RefusedError(-32602, "Unknown tool")
        return {"content": [{"type": "text", "text": words[params["name"]]}]}


class Handler(http.server.BaseHTTPRequestHandler):
    """Streamable HTTP, with sessions where the version has them."""

    protocol_version = "HTTP/1.1"
    server: Listening

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        fault = self.fault(message)
        if fault is not None:
            status, code, words = fault
            error = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": words}}
            return self.send(status, error)
        answer = self.server.mcp.answer(message)
        if answer is None:
            return self.send(202, None)
        opens = message["method"] == "initialize"
        self.send(200, answer, {"Mcp-Session-Id": self.server.open()} if opens else {})

    def fault(self, message: dict[str, Any]) -> tuple[int, int, str] | None:
        """What the headers have wrong, as that version has it."""
        version, said = self.server.mcp.version, self.headers.get("MCP-Protocol-Version")
        method = message.get("method")
        if version == MODERN:
            named = message.get("params", {}).get("name")
            if said != version or self.headers.get("Mcp-Method") != method or self.headers.get("Mcp-Name") != named:
                return 400, -32020, "The headers do not fit the body"
            return None
        if method == "initialize":
            return None
        session = self.headers.get("Mcp-Session-Id")
        if session is None:
            return 400, -32000, "Bad Request: Server not initialized"
        if session not in self.server.sessions:
            return 404, -32001, "Session not found"
        if said != version and (said is not None or version > "2025-03-26"):
            return 400, -32000, f"Bad Request: Unsupported protocol version {said}"
        return None

    def do_GET(self) -> None:
        self.send(405, None)

    def do_DELETE(self) -> None:
        self.server.sessions.discard(self.headers.get("Mcp-Session-Id", ""))
        self.send(200, None)

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class SseHandler(Handler):
    """HTTP+SSE of 2024-11-05: a stream that says where to post, and carries the answers."""

    def do_GET(self) -> None:
        if self.path != "/sse":
            return self.send(404, None)
        session = self.server.open()
        answers = self.server.streams[session] = queue.Queue()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.event("endpoint", f"/messages?session={session}")
        while True:
            self.event("message", json.dumps(answers.get(timeout=WAIT_SECONDS_MAX)))

    def event(self, name: str, data: str) -> None:
        self.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())
        self.wfile.flush()

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        path, _, session = self.path.partition("?session=")
        if path != "/messages" or session not in self.server.streams:
            return self.send(404, None)
        self.send(202, None)
        answer = self.server.mcp.answer(message)
        if answer is not None:
            self.server.streams[session].put(answer)


class Listening(http.server.ThreadingHTTPServer):
    """The server and the sessions that are open at it."""

    daemon_threads = True

    def __init__(self, mcp: Server, port: int) -> None:
        super().__init__(("127.0.0.1", port), SseHandler if mcp.version == VERSIONS[0] else Handler)
        self.mcp, self.numbers = mcp, itertools.count(1)
        self.sessions: set[str] = set()
        self.streams: dict[str, queue.Queue[Any]] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked may be gone before the answer, which is no fault to tell of; any other is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def open(self) -> str:
        session = f"s{next(self.numbers)}"
        self.sessions.add(session)
        return session


def main(version: str, port: str | None = None, *_: str) -> None:
    assert version in VERSIONS
    mcp = Server(version)
    if port is not None and port.isdigit():
        Listening(mcp, int(port)).serve_forever()
    for line in sys.stdin:
        answer = mcp.answer(json.loads(line))
        if answer is not None:
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
