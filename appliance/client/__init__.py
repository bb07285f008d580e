"""A typed client of our own API, for the command line and the terminal UI. Knows HTTP, not server rooms.

`http` has the connection, models and what operators do; `knowledge` adds knowledge bases and their files.
"""

from appliance.client.answer import RemoteError
from appliance.client.http import Client

__all__ = ["Client", "RemoteError"]
