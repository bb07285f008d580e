"""/v1/responses and /v1/conversations, as the openai SDK types them.

schemas    what a request may say
items      a conversation's items as clients send, keep and get them
turns      items to the messages of a prompt
translate  a request to what a generator is asked
context    the items that came before: of earlier responses, of a conversation
replies    the response object and the items of its output
events     a generation's events to the stream's events
searching  file_search: passages before the model speaks
running    one response from its request to its last event
compaction a long conversation as its summary
keeping    responses in the archive
background responses that outlive their request
endpoints, conversations   the handlers
"""
