"""Models: what can be had, how it is fetched and checked, where it lies on disk.

    manifest    a model's typed manifest        pack        the packs and the catalogue
    region      a byte range of one file        gguf, onnx  preflight of untrusted model files
    protobuf    the wire format, both ways      e5          one model's conversion to ONNX
    progress    what a long step reports        sources/    where bytes come from
    partial     one file on its way in          store       the content-addressed store
    pull        manifest → store                add         a file from disk → store

A pull: `load_pack` → `pull_pack` → each missing file through a `Fetcher` into a `Partial` (hashed as it
grows) → verified, synced and renamed into `blobs/` → preflight → the record in `installed/`.

This room imports nothing else of Hearth's and prints nothing.
"""
