"""The settings of the tools that this server runs for a model. Types, bounds and defaults only.

The section `tools` of `schema`. A token is never a setting: a server names the environment variable that
holds it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

KiB = 1024

Label = Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
Url = Annotated[str, Meta(pattern=r"\Ahttps?://[^\s/?#@]+(/[^\s?#]*)?\Z", max_length=2048)]
Variable = Annotated[str, Meta(pattern=r"\A([A-Za-z_][A-Za-z0-9_]{0,127})?\Z")]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class HttpAddress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address that the tool local_http may ask, with everything below its path."""

    url: Annotated[Url, Meta(description="its beginning; the host is an IP address or localhost")]
    methods: Annotated[
        tuple[Literal["GET", "POST", "PUT", "DELETE"], ...],
        Meta(min_length=1, description="what may be done"),
    ] = ("GET",)


class McpServer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server of the Model Context Protocol: a command that speaks it, or an address."""

    name: Annotated[Label, Meta(description="what requests call it: `server_label`")]
    command: Annotated[
        tuple[str, ...], Meta(max_length=64, description="the program and its arguments; started when needed")
    ] = ()
    url: Annotated[
        str, Meta(max_length=2048, description="the address of a server that speaks streamable HTTP")
    ] = ""
    environment: Annotated[
        tuple[Variable, ...],
        Meta(max_length=64, description="names of variables that the command gets of ours, beside PATH"),
    ] = ()
    token_variable: Annotated[
        Variable, Meta(description="environment variable with the bearer token for the address")
    ] = ""
    seconds: Annotated[Seconds, Meta(description="how long one call may take")] = 30.0


class Tools(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tools that the server runs for a model: calculator, local_http, and those of MCP servers."""

    enabled: Annotated[
        tuple[Label, ...],
        Meta(
            max_length=128,
            description="what requests without a key may use: calculator, local_http, names of MCP servers",
        ),
    ] = ()
    http: Annotated[
        tuple[HttpAddress, ...], Meta(max_length=64, description="the addresses that local_http may ask")
    ] = ()
    servers: Annotated[
        tuple[McpServer, ...], Meta(max_length=32, description="MCP servers whose tools may be used")
    ] = ()
    seconds: Annotated[Seconds, Meta(description="how long a call of a built-in tool may take")] = 10.0
    output_bytes: Annotated[
        int,
        Meta(ge=256, le=16 * 1024 * KiB, description="most of a tool's answer that is shown to the model"),
    ] = 16 * KiB
    calls: Annotated[
        int, Meta(ge=1, le=1024, description="most calls of one response; a request may ask for fewer")
    ] = 16

    @property
    def needs_sockets(self) -> bool:
        """Whether they open network sockets in the server's own process."""
        return bool(self.http) or any(server.url for server in self.servers)
