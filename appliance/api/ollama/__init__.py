"""/api, as Ollama's own client types it: chat, generate, embeddings, and a look at the models.

schemas      what requests may say, and what becomes of each parameter
translate    a request to what a generator is asked
replies      answers, whole and as lines of JSON
generating   /api/chat and /api/generate
embedding    /api/embed and /api/embeddings
catalogue    /api/tags, /api/show, /api/ps, /api/version
operations   the paths as `routes` lists them
"""
