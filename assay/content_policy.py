"""The content security policy of pages that need nothing but themselves."""

from __future__ import annotations

import base64
import hashlib


def policy(style: str, script: str | None = None) -> str:
    """What a page may do: use one inline style sheet and at most one inline script, and load nothing at all.

    Args:
        style: the content of the style element, to the letter.
        script: the content of the script element.
    """
    scripts = f"script-src '{fingerprint(script)}'; " if script is not None else ""
    return f"default-src 'none'; style-src '{fingerprint(style)}'; {scripts}base-uri 'none'; form-action 'none'"


def fingerprint(text: str) -> str:
    """How a policy names the one inline text that may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
