from __future__ import annotations

import base64
import hashlib

import pytest

from tfllv.serve import security


def test_the_page_s_own_scripts_are_allowed_by_their_hash_and_no_others():
    page = b"<style>a{}</style><script type='module'>run()</script><script src='/static/a.js'></script>"
    policy = security.page_policy(page)
    for content in (b"a{}", b"run()"):
        assert base64.b64encode(hashlib.sha256(content).digest()).decode() in policy
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("header", [None, "", "secret", "Basic secret", "Bearer", "Bearer other", "Bearer sécret"])
def test_a_wrong_token_is_refused(header, toy):
    with pytest.raises(toy.RefusalError) as caught:
        security.check_token(header, "secret")
    assert caught.value.status == 401
    assert caught.value.headers()["WWW-Authenticate"] == "Bearer"


def test_the_right_token_or_none_asked_for_passes():
    security.check_token("Bearer secret", "secret")
    security.check_token("bearer  secret ", "secret")
    security.check_token(None, None)
