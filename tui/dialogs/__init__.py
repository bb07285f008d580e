"""Questions that a screen asks, each with its answer as a value."""
