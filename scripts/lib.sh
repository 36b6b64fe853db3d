# Shared by the scripts here; meant to be sourced. Where things lie, and how to say what went wrong.
# shellcheck shell=bash

FOREBAY_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# A folder that outlives one checkout: where somebody made it, build output and tools are kept there and shared.
if [[ -d "${HOME:-/nonexistent}/.cache/forebay" ]]; then
    FOREBAY_CACHE="$HOME/.cache/forebay"
else
    FOREBAY_CACHE=""
fi

# The virtual environment with Python packages and the tools that are no Debian packages.
FOREBAY_VENV="${FOREBAY_VENV:-${FOREBAY_CACHE:+$FOREBAY_CACHE/venv}}"
FOREBAY_VENV="${FOREBAY_VENV:-$FOREBAY_ROOT/.venv}"

# Build output: what the environment says, else the shared folder, else ./target.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${FOREBAY_CACHE:+$FOREBAY_CACHE/target}}"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$FOREBAY_ROOT/target}"

PATH="$FOREBAY_VENV/bin:$PATH"
export FOREBAY_ROOT FOREBAY_VENV CARGO_TARGET_DIR PATH

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# The llvm-profdata that reads what this rustc's LLVM counts: rustup's own, or any since LLVM 19, where the format is from.
llvm_profdata() {
    local one version
    for one in "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata "$(command -v llvm-profdata)" \
        /usr/lib/llvm-*/bin/llvm-profdata; do
        [[ -x $one ]] || continue
        version="$("$one" --version | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p')"
        ((${version:-0} >= 19)) || continue
        printf '%s\n' "$one"
        return
    done
    return 1
}
