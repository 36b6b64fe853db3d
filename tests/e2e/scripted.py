"""An OpenAI-compatible backend that answers by script, as unkindly as a test wants it.

What no small real model does reliably, a call of a tool above all, is written down here; what breaks on the way breaks
on a real socket. It notes every request, and when its client went away.
"""

from __future__ import annotations

import collections
import dataclasses
import http.server
import json
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import Heard

# What a backend says that is never asked anything else.
GREETING = "Hello from the script."
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ENDLESS_SECONDS = 0.02


@dataclasses.dataclass
class Message:
    """What the model says: words, calls of tools, or both. Whether it is streamed is the request's choice."""

    text: str | None = None
    calls: tuple[tuple[str, Any], ...] = ()
    # Into how many pieces the arguments of a call, or the words, are cut in a stream.
    pieces: int = 3
    # Whether the arguments are a JSON string within a JSON string, as some engines send them.
    doubly: bool = False
    # Whether the pieces of parallel calls come by turns, instead of one call after the other.
    woven: bool = False

    @property
    def finish(self) -> str:
        return "tool_calls" if self.calls else "stop"

    def tool_calls(self) -> list[dict[str, Any]]:
        made = []
        for number, (name, arguments) in enumerate(self.calls):
            # Text is sent as it is, so that a script can say what is no JSON.
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            text = json.dumps(text) if self.doubly else text
            made.append({"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": text}})
        return made

    def whole(self, model: Any) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = self.tool_calls()
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return envelope("chat.completion", model) | {"choices": [choice], "usage": USAGE}

    def chunks(self, model: Any) -> Iterator[dict[str, Any]]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return envelope("chat.completion.chunk", model) | {"choices": [choice]}

        yield chunk({"role": "assistant", "content": ""})
        for piece in cut(self.text or "", self.pieces):
            yield chunk({"content": piece})
        for call in self.call_deltas():
            yield chunk({"tool_calls": [call]})
        yield chunk({}, self.finish)
        yield envelope("chat.completion.chunk", model) | {"choices": [], "usage": USAGE}

    def call_deltas(self) -> Iterator[dict[str, Any]]:
        """Each call by its name first, then its arguments in pieces."""
        rests = []
        for index, call in enumerate(self.tool_calls()):
            first = {"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
            pieces = cut(call["function"]["arguments"], self.pieces)
            rests.append([first, *({"index": index, "function": {"arguments": piece}} for piece in pieces)])
        if self.woven:
            for turn in range(max(map(len, rests), default=0)):
                yield from (rest[turn] for rest in rests if turn < len(rest))
        else:
            for rest in rests:
                yield from rest


def envelope(kind: str, model: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-scripted", "object": kind, "created": 1, "model": model}


def cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]


class Wire:
    """The answer to one request, written by hand."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler, body: Any, gone: queue.Queue[float]) -> None:
        self.handler, self.body, self.gone = handler, body, gone
        self.streamed = bool(body.get("stream"))

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def whole(self, body: bytes, status: int = 200, announced: int | None = None, **headers: str) -> None:
        length = {"Content-Type": "application/json", "Content-Length": str(announced or len(body))}
        self.head(status, length | headers)
        self.handler.wfile.write(body)

    def begin(self) -> None:
        self.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

    def raw(self, data: bytes) -> None:
        """One chunk of the transfer, which need not be one event."""
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, data: Any) -> None:
        self.raw(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

    def named(self, data: dict[str, Any]) -> None:
        """One event as Anthropic's API writes it."""
        self.raw(f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode())

    def end(self) -> None:
        self.event("[DONE]")
        self.handler.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """The connection breaks, as that of a killed process does."""
        self.handler.close_connection = True
        self.handler.wfile.flush()
        self.handler.connection.shutdown(socket.SHUT_RDWR)

    def left(self, seconds: float) -> bool:
        """Waits so long for the client to go; notes when it did."""
        readable, _, _ = select.select([self.handler.connection], [], [], seconds)
        if not readable:
            return False
        try:
            went = self.handler.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            went = True
        if went:
            self.gone.put(time.monotonic())
            self.handler.close_connection = True
        return went


Reply = Callable[[Wire], None]


def say(text: str = GREETING, **how: Any) -> Reply:
    return message(Message(text, **how))


def call(*calls: tuple[str, Any], text: str | None = None, **how: Any) -> Reply:
    """The model calls tools: pairs of a name and arguments, an object or the very text."""
    return message(Message(text, calls, **how))


def message(said: Message) -> Reply:
    def reply(wire: Wire) -> None:
        if not wire.streamed:
            wire.whole(json.dumps(said.whole(wire.body.get("model"))).encode())
            return
        wire.begin()
        for chunk in said.chunks(wire.body.get("model")):
            wire.event(chunk)
        wire.end()

    return reply


def claude(*calls: tuple[str, Any], text: str | None = None) -> Reply:
    """The same in Anthropic's API: words, then calls of tools."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text is not None else []
    for number, (name, arguments) in enumerate(calls):
        blocks.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": arguments})
    usage = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": USAGE["completion_tokens"]}
    about = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": "by-script"}
    ended = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}

    def reply(wire: Wire) -> None:
        if not wire.streamed:
            wire.whole(json.dumps(about | ended | {"content": blocks, "usage": usage}).encode())
            return
        wire.begin()
        begun = about | {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage | {"output_tokens": 1},
        }
        wire.named({"type": "message_start", "message": begun})
        wire.named({"type": "ping"})
        for index, block in enumerate(blocks):
            key, kind = ("text", "text_delta") if block["type"] == "text" else ("partial_json", "input_json_delta")
            said = block["text"] if key == "text" else json.dumps(block["input"])
            empty = block | ({"text": ""} if key == "text" else {"input": {}})
            wire.named({"type": "content_block_start", "index": index, "content_block": empty})
            for piece in cut(said, 3):
                delta = {"type": kind, key: piece}
                wire.named({"type": "content_block_delta", "index": index, "delta": delta})
            wire.named({"type": "content_block_stop", "index": index})
        wire.named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}})
        wire.named({"type": "message_stop"})
        wire.handler.wfile.write(b"0\r\n\r\n")

    return reply


def exactly(answer: dict[str, Any]) -> Reply:
    """This JSON, whatever was asked."""
    return lambda wire: wire.whole(json.dumps(answer).encode())


def echo_results(wire: Wire) -> None:
    """The model says what the tools told it, each result on a line; so a test sees what it was given."""
    results = [m["content"] for m in wire.body["messages"] if m["role"] == "tool"]
    texts = [text if isinstance(text, str) else "".join(part["text"] for part in text) for text in results]
    message(Message("\n".join(texts) or "no results"))(wire)


def refuse(status: int, text: str = "the script refuses", **headers: str) -> Reply:
    error = {"error": {"message": text, "type": "server_error", "code": None}}
    return lambda wire: wire.whole(json.dumps(error).encode(), status, **headers)


def error_inside(wire: Wire) -> None:
    """200, and an error where the answer belongs."""
    error = {"error": {"message": "the script broke inside", "type": "server_error"}}
    if not wire.streamed:
        wire.whole(json.dumps(error).encode())
        return
    wire.begin()
    wire.event(next(Message("begun").chunks(wire.body.get("model"))))
    wire.event(error)
    wire.end()


def truncated(wire: Wire) -> None:
    """JSON that breaks off, in an answer that is complete as far as HTTP goes."""
    text = json.dumps(Message("cut").whole(wire.body.get("model"))).encode()
    if not wire.streamed:
        wire.whole(text[: len(text) // 2])
        return
    wire.begin()
    chunks = list(Message("one two three").chunks(wire.body.get("model")))
    wire.event(chunks[1])
    wire.event(json.dumps(chunks[2])[:40])
    wire.handler.wfile.write(b"0\r\n\r\n")


def cut_short(wire: Wire) -> None:
    """Less than was announced, then the connection breaks."""
    text = json.dumps(Message("cut").whole(wire.body.get("model"))).encode()
    wire.whole(text[: len(text) // 2], announced=len(text))
    wire.reset()


def dies(after: int = 2) -> Reply:
    """The connection breaks after so many events."""

    def reply(wire: Wire) -> None:
        wire.begin()
        for chunk in list(Message("one two three four").chunks(wire.body.get("model")))[:after]:
            wire.event(chunk)
        wire.reset()

    return reply


def trickles(seconds: float, times: int) -> Reply:
    """One event in so many seconds; each arrives in two parts, the second of which completes it."""

    def reply(wire: Wire) -> None:
        wire.begin()
        chunks = list(Message("x" * times, pieces=times).chunks(wire.body.get("model")))
        for chunk in chunks:
            if wire.left(seconds):
                return
            data = f"data: {json.dumps(chunk)}\n\n".encode()
            wire.raw(data[:20])
            wire.raw(data[20:])
        wire.end()

    return reply


def endless(wire: Wire) -> None:
    """Words without end, until the client goes."""
    wire.begin()
    chunk = list(Message("and on ", pieces=1).chunks(wire.body.get("model")))[1]
    while not wire.left(ENDLESS_SECONDS):
        try:
            wire.event(chunk)
        except OSError:
            wire.gone.put(time.monotonic())
            return


def silent(wire: Wire) -> None:
    """Not a word, until the client goes."""
    while not wire.left(1.0):
        pass


class Scripted:
    """Answers its requests by the script, in turn; when that is over, it greets."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.gone: queue.Queue[float] = queue.Queue()
        self.script: collections.deque[Reply] = collections.deque()
        self.finally_: Reply = say()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                # What a probe for health asks, or whoever lists models.
                text = json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}).encode()
                Wire(self, {}, backend.gone).whole(text)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
                headers = {k.lower(): v for k, v in self.headers.items()}
                backend.heard.append(Heard(self.path, headers, body))
                try:
                    reply = backend.script.popleft()
                except IndexError:
                    reply = backend.finally_
                try:
                    reply(Wire(self, body, backend.gone))
                except OSError:
                    backend.gone.put(time.monotonic())
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def will(self, *replies: Reply) -> None:
        """Begins anew: forgets what was heard and what is left of the script before."""
        self.heard.clear()
        self.script.clear()
        self.script.extend(replies)
        while not self.gone.empty():
            self.gone.get_nowait()

    @property
    def bodies(self) -> list[Any]:
        return [heard.body for heard in self.heard]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
