#!/usr/bin/env bash
# Talks to the MCP endpoint for plain JSON-RPC clients from the shell, with curl alone.
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: scripts/test-mcp.sh METHOD [NAME [JSON]]

  scripts/test-mcp.sh initialize
  scripts/test-mcp.sh tools/list
  scripts/test-mcp.sh tools/call calculator '{"expression":"6 * 7"}'
  scripts/test-mcp.sh tools/call list_gpu_instances '{"provider":"all"}'
  scripts/test-mcp.sh resources/list
  scripts/test-mcp.sh resources/read forebay://status

Environment:
  FOREBAY_URL   where the gateway is            (default: http://127.0.0.1:8080, or where `make up` put it)
  FOREBAY_KEY   an API key or a token           (default: the admin key of FOREBAY_DATA)
  FOREBAY_DATA  the gateway's data directory    (default: .forebay/data, as `make up` makes it)

The answer goes to standard output. Exit code: 0 for a result, 1 for an error or a tool's `isError`, 2 for wrong usage,
4 where no gateway answers.
TEXT
    exit 2
}

demo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.forebay"
if [[ -z ${FOREBAY_URL:-} && -s $demo/gateway.port ]]; then
    FOREBAY_URL="http://127.0.0.1:$(<"$demo/gateway.port")"
fi
url="${FOREBAY_URL:-http://127.0.0.1:8080}"
admin_key="${FOREBAY_DATA:-$demo/data}/admin.key"

# An argument as a JSON string. Names and URIs here are printable ASCII; anything else is wrong usage anyway.
quoted() {
    [[ $1 =~ ^[[:print:]]+$ ]] || usage
    local text="${1//\\/\\\\}"
    printf '"%s"' "${text//\"/\\\"}"
}

params() {
    case "$1" in
    initialize | tools/list | resources/list | ping)
        [[ $# -eq 1 ]] || usage
        echo '{}'
        ;;
    tools/call)
        [[ $# -eq 2 || $# -eq 3 ]] || usage
        local none='{}'
        printf '{"name":%s,"arguments":%s}' "$(quoted "$2")" "${3:-$none}"
        ;;
    resources/read)
        [[ $# -eq 2 ]] || usage
        printf '{"uri":%s}' "$(quoted "$2")"
        ;;
    *) usage ;;
    esac
}

# Prints the answer indented; fails where it is an error, or a result that says that the tool failed.
show() {
    python3 -c '
import json, sys
text = sys.stdin.read()
try:
    answer = json.loads(text)
except ValueError:
    sys.exit(f"error: the gateway answered something that is no JSON: {text[:200]}")
print(json.dumps(answer, indent=2, ensure_ascii=False))
sys.exit("error" in answer or bool(answer.get("result", {}).get("isError")))
'
}

main() {
    [[ $# -ge 1 ]] || usage
    local body answer
    body="$(params "$@")"
    if [[ -z ${FOREBAY_KEY:-} ]]; then
        [[ -r $admin_key ]] || {
            echo "error: set FOREBAY_KEY, or FOREBAY_DATA to the gateway's data directory ($admin_key cannot be read)" >&2
            exit 2
        }
        FOREBAY_KEY="$(<"$admin_key")"
    fi
    # The key goes in by standard input, so that it stands in no list of processes.
    answer="$(printf 'header = "Authorization: Bearer %s"\n' "$FOREBAY_KEY" |
        curl --silent --show-error --max-time 120 --config - --header 'Content-Type: application/json' \
            --data-binary "{\"jsonrpc\":\"2.0\",\"method\":\"$1\",\"params\":$body,\"id\":1}" "$url/api/v1/mcp")" || {
        echo "error: no gateway answers at $url; is it running? (make up, or forebay serve)" >&2
        exit 4
    }
    printf '%s' "$answer" | show
}

main "$@"
