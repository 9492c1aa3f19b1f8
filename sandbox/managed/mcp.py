"""MCP servers of an agent: where one is, and whether they fit the agent's tools."""

from typing import Any
from urllib.parse import urlsplit


def mcp_endpoint(url: str) -> tuple[str, int] | None:
    """Host and port of an MCP server's URL; None when it is none that can be reached."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
            return None
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None


def check_together(tools: list[dict[str, Any]], servers: list[dict[str, Any]]) -> str | None:
    """What is wrong between an agent's tools and its MCP servers, or None."""
    names = [server["name"] for server in servers]
    if len(set(names)) < len(names):
        return "mcp_servers: two have the same name"
    used = {tool["mcp_server_name"] for tool in tools if tool["type"] == "mcp_toolset"}
    for name in sorted(used - set(names)):
        return f"tools: the mcp_toolset {name} has no server of that name in mcp_servers"
    for name in sorted(set(names) - used):
        return f"mcp_servers: no mcp_toolset in tools uses the server {name}"
    custom = [tool["name"] for tool in tools if tool["type"] == "custom"]
    if len(set(custom)) < len(custom):
        return "tools: two custom tools have the same name"
    if sum(tool["type"] == "agent_toolset_20260401" for tool in tools) > 1:
        return "tools: agent_toolset_20260401 is there twice"
    return None
