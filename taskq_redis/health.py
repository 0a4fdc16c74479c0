"""What an operator should know about how a server is set up."""

from __future__ import annotations

import re
from typing import Final

from taskq.errors import NotSupported, ServerRefused
from taskq_redis.client import Client

OLDEST: Final = (6, 2)


def inspect_server(client: Client) -> list[str]:
    """Return one sentence for each way in which the server keeps less than promised.

    Raises:
        NotSupported: the server is too old, or drops keys when memory is full.
    """
    info = _info(client)
    version = info.get("redis_version", "0")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise NotSupported(f"Redis {version} is too old; taskq needs 6.2 or newer")
    settings = _settings(client)
    sentences = []
    policy = settings.get("maxmemory-policy") or info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        if not client.options.evict_ok:
            raise NotSupported(
                f"the server drops keys when its memory is full (maxmemory-policy {policy}), and "
                "tasks with them; set it to noeviction, or add evict_ok=1 to the URL"
            )
        sentences.append(f"Tasks can vanish when memory is full: maxmemory-policy is {policy}.")
    if info.get("aof_enabled") != "1":
        sentences.append(
            "Tasks sent since the last snapshot are lost if the server dies: appendonly is no."
        )
    elif settings.get("appendfsync", "always") != "always":
        sentences.append(
            "Tasks sent in the last seconds are lost if the server's host dies: "
            f"appendfsync is {settings['appendfsync']}."
        )
    if client.options.tls_insecure:
        sentences.append("Anybody in between can read and change tasks: tls_insecure is set.")
    return sentences


def _info(client: Client) -> dict[str, str]:
    lines = client.command("INFO").decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _settings(client: Client) -> dict[str, str]:
    # Hosted servers often forbid CONFIG; what INFO tells has to do then.
    settings: dict[str, str] = {}
    for name in ("maxmemory-policy", "appendfsync"):
        try:
            answer = client.command("CONFIG", "GET", name)
        except ServerRefused:
            continue
        if answer:
            settings[name] = answer[1].decode()
    return settings
