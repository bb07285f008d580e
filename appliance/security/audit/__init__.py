"""The audit log: an append-only chain of lines that shows what was done to it."""
