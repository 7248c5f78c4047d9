"""The headers of every answer, and who may ask."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from tfllv.serve.refusals import RefusalError

_SELF = "'self'"
_INLINE = re.compile(rb"<(script|style)(?:\s[^>]*)?>(.*?)</\1>", re.DOTALL | re.IGNORECASE)

# Nothing of one user's may be kept for another, by a browser or by a proxy between.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


def page_policy(page: bytes) -> str:
    """The Content-Security-Policy of the page: what comes from here, and the very scripts and styles it contains.

    Args:
      page: its HTML; the contents of `<script>` and `<style>` are allowed by their SHA-256, `style=` and `onclick=` are
        not.
    """
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for match in _INLINE.finditer(page):
        if match[2].strip():
            digest = base64.b64encode(hashlib.sha256(match[2]).digest()).decode()
            hashes[match[1].lower()].append(f"'sha256-{digest}'")
    script, style = (" ".join([_SELF, *hashes[kind]]) for kind in (b"script", b"style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' blob: data:; connect-src 'self'; "
        "manifest-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def check_token(authorization: str | None, token: str | None) -> None:
    """Compares the `Authorization` header with the server's token, in a time that does not depend on either.

    Raises:
      RefusalError: 401, if a token is asked for and another or none was sent.
    """
    if token is None:
        return
    kind, _, sent = (authorization or "").partition(" ")
    same = hmac.compare_digest(sent.strip().encode("utf-8", "replace"), token.encode())
    if kind.lower() != "bearer" or not same:
        raise RefusalError(401, "unauthorized", "`Authorization: Bearer TOKEN` must carry this server's token.")
