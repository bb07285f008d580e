"""Parts that several screens use. They know nothing of the server."""
