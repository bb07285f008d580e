"""What no standard has and many programs ask for: Cohere's and TEI's rerank, vLLM's score and tokenizer, and
llama-server's look at itself.

schemas      what requests may say, and what becomes of each parameter
ranking      /v2/rerank, /rerank, /v1/score
tokens       /tokenize, /detokenize, /apply-template
server       /props, /slots, /health
operations   the paths as `routes` lists them
"""
