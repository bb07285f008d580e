"""/v1/messages, as the anthropic SDK types it.

schemas      what a request may say, and what becomes of each parameter
translate    a request to what a generator is asked
replies      messages, and the writer of a stream's events
endpoints    the handlers, and the paths as `routes` lists them
"""
