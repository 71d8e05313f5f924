"""Content hashes of our code: exec properties that let the cache see changes (TFX looks at names only)."""

import hashlib
import importlib.util
import pathlib
from functools import cache


@cache
def hash_modules(*names: str) -> str:
    """SHA-256 (first 16 hex digits) over the Python sources of modules and, for packages, of all below them."""
    digest = hashlib.sha256()
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name!r} is no importable module with a source file.")
        origin = pathlib.Path(spec.origin)
        files = sorted(origin.parent.rglob("*")) if spec.submodule_search_locations else [origin]
        for file in files:
            if file.suffix in {".py", ".html"}:
                digest.update(file.relative_to(origin.parent).as_posix().encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
