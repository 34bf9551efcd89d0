"""A key for compiled functions kept on disk that follows all of their source.

numba keeps a compiled function until the file it stands in changes; a change in
another file, whose functions it calls, goes unnoticed.  But the values that a
function closes over are part of numba's key, so an entry point that closes over
this digest is compiled anew whenever one of the files has changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType


def source_digest(*sources: ModuleType | str) -> str:
    """A digest of the source of modules, or of files given by their paths."""
    digest = hashlib.sha256()
    for source in sources:
        path = source if isinstance(source, str) else source.__file__
        assert path is not None
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
