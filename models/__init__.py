"""Models: what can be had, how it is fetched and checked, where it lies on disk.

    manifest, pack            a model's typed manifest; the packs and the catalogue
    store, partial            the content-addressed store; one file on its way in
    lock, disk                one writer at a time; durable file steps
    pull, add                 catalogue → store; a file or directory from disk → store
    sources/                  where bytes come from, tried in order
    region                    a byte range of one file
    embedded, bundle          what a one-file executable carries; writing one
    library                   store and executable as one source of models
    signed_pack, pack_writer  packs for the stick: reading, checking and making them
    tar, exported_base        the forms they come in: a strict tar, a strict zip of one knowledge base
    signing, trust            Ed25519 signatures; whose are accepted here, and from which version on
    gguf, gguf_reader, ggml   preflight of GGUF files
    onnx, protobuf            preflight of ONNX files
    preflight                 a model's files against its manifest
    onnx_directory            what an ONNX directory holds
    e5, e5_file, onnx_writer  one model's conversion to ONNX
    progress                  what a long step reports

A pull: `load_pack` → `pull_pack` → each missing file through a `Fetcher` into a `Partial` (hashed as it
grows) → verified, synced and renamed into `blobs/` → preflight → the record in `installed/`.

This room imports nothing else of Hearth's and prints nothing.
"""
