"""A whole home in one file, made while it is in use, and put back: data, settings, keys, logs."""
