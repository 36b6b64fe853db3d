# Shared by scripts/up and scripts/down; meant to be sourced after lib.sh. What the demo consists of.
# shellcheck shell=bash

DEMO="$FOREBAY_ROOT/.forebay"
FOREBAY="$CARGO_TARGET_DIR/release/forebay"
STOP_SECONDS_MAX=40

# The ports of a demo that was set up before stay what they were, unless somebody says otherwise.
remembered() {
    if [[ -s $DEMO/$1.port ]]; then
        cat "$DEMO/$1.port"
    else
        printf '%s' "$2"
    fi
}
PORT="${FOREBAY_PORT:-$(remembered gateway 8080)}"
ENGINE_PORT="${FOREBAY_ENGINE_PORT:-$(remembered engine 8081)}"
URL="http://127.0.0.1:$PORT"
export PORT ENGINE_PORT URL FOREBAY

# running NAME : whether the process that was started under this name is still that process.
running() {
    local pid
    [[ -s $DEMO/$1.pid ]] || return 1
    pid="$(<"$DEMO/$1.pid")"
    # It may end between the two commands, which is no news.
    { tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "FOREBAY_DEMO=$DEMO/$1"; } 2>/dev/null
}

# background NAME COMMAND... : starts it, apart from this terminal, with a log of its own.
background() {
    local name="$1"
    shift
    rm -f "$DEMO/$name.pid"
    # shellcheck disable=SC2016  # The inner shell expands these.
    FOREBAY_DEMO="$DEMO/$name" setsid --fork sh -c 'echo $$ >"$0.pid"; exec "$@"' "$DEMO/$name" "$@" \
        >"$DEMO/$name.log" 2>&1 </dev/null
    for _ in $(seq 100); do
        [[ -s $DEMO/$name.pid ]] && return
        sleep 0.02
    done
    die "the $name could not be started; see $DEMO/$name.log"
}

# stop NAME : asks it to stop and waits; what does not stop in time is ended.
stop() {
    local pid until=$((SECONDS + STOP_SECONDS_MAX))
    if running "$1"; then
        pid="$(<"$DEMO/$1.pid")"
        kill -TERM "$pid" 2>/dev/null || true
        while running "$1"; do
            if ((SECONDS >= until)); then
                say "the $1 did not stop within $STOP_SECONDS_MAX s and is ended now"
                kill -KILL "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.1
        done
    fi
    rm -f "$DEMO/$1.pid"
}
