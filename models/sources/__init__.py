"""Where a model's bytes come from: a directory or stick, a model hub, the package registry, a conversion.

Every source appends to a `Partial`; none of them is trusted, since the store checks the hash.
"""
