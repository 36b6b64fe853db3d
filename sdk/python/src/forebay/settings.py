"""Where a client finds its gateway, from arguments, the environment, or the section `mcp` of a configuration."""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.errors import ForebayError
from forebay.retry import Retry

# A model may take its time; the gateway's own limits are below this.
TIMEOUT_S = 3600.0
KEYS = ("enabled", "server_url", "api_version", "max_contexts", "timeout", "requests_per_minute")
UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Settings:
    url: str
    key: str = field(repr=False)
    timeout: float = TIMEOUT_S
    # This client makes no more contexts than that (those that it deleted do not count); the gateway has its own limit.
    max_contexts: int | None = None
    requests_per_minute: float | None = None
    retry: Retry = field(default_factory=Retry)

    @classmethod
    def of(cls, url: str | None = None, key: str | None = None, **more: Any) -> Settings:
        """Address and key are those of `FOREBAY_URL` and `FOREBAY_KEY` where they are left out."""
        url = url or os.environ.get("FOREBAY_URL") or "http://127.0.0.1:8080"
        key = key or os.environ.get("FOREBAY_KEY")
        if not key:
            raise ForebayError("there is no key: give one, or set FOREBAY_KEY", code="missing_credentials")
        return cls(url.rstrip("/").removesuffix("/v1"), key, **more)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | os.PathLike[str], key: str | None = None) -> Settings:
        """From `{"mcp": {…}}`, the section alone, or the path of a YAML file (which needs PyYAML)."""
        section = config if isinstance(config, Mapping) else _load(pathlib.Path(config))
        section = section.get("mcp", section)
        if not isinstance(section, Mapping):
            raise _wrong("`mcp` is no section: it holds nothing, or no keys")
        wrong = [name for name in section if name not in KEYS]
        if wrong:
            raise _wrong(f"`{wrong[0]}` is no key of `mcp`; there are {', '.join(KEYS)}")
        if section.get("enabled", True) is not True:
            raise _wrong("`mcp.enabled` is not true, so there is no client")
        if section.get("api_version", "v1") != "v1":
            raise _wrong("`mcp.api_version` is `v1`")
        url = section.get("server_url")
        if url is not None and not isinstance(url, str):
            raise _wrong("`mcp.server_url` is an address")
        most = section.get("max_contexts")
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise _wrong("`mcp.max_contexts` is a number above 0")
        pace = section.get("requests_per_minute")
        is_number = isinstance(pace, int | float) and not isinstance(pace, bool)
        if pace is not None and not (is_number and 0 < pace < math.inf):
            raise _wrong("`mcp.requests_per_minute` is a number above 0")
        timeout = seconds(section["timeout"]) if "timeout" in section else TIMEOUT_S
        more = {"timeout": timeout, "max_contexts": most, "requests_per_minute": pace}
        return cls.of(url, key, **more)


def seconds(text: str | float) -> float:
    """`"60s"`, `"2m"`, `"500ms"`, or a number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", str(text).strip())
    if not found or float(found[1]) == 0:
        raise _wrong(f"{text!r} is no time: write `60s`, `2m` or a number of seconds")
    return float(found[1]) * UNITS[found[2]]


def _load(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as missing:
        raise _wrong("a YAML file needs PyYAML: pip install forebay[yaml]") from missing
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise _wrong(f"{path} cannot be read: {fault}") from fault
    if not isinstance(told, Mapping):
        raise _wrong(f"{path} holds no settings")
    return told


def _wrong(words: str) -> ForebayError:
    return ForebayError(words, code="invalid_config")
