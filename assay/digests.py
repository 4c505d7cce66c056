"""Names for JSON content: equal content has the same one, in every process and on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(content: Any) -> str:
    """A name for JSON content, the same for equal content."""
    return short_digest(canonical(content))


def canonical(content: Any) -> str:
    """JSON content as text, the same for equal content."""
    return json.dumps(content, sort_keys=True, default=list)


def short_digest(text: str) -> str:
    """The first 16 digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
