"""One screen a file, imported when first gone to. A screen shows what it is told and calls the client."""
