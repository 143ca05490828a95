"""No file that is tracked holds a key, a token or a password."""

import re
import shutil
import subprocess

import pytest

from rds_lib.core import paths

SIGNS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY" + "-----",
    "AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.",
    "password in an address": r"\b[a-z]+://[^/\s:@'\"{}]+:[^/\s:@'\"{}]+@",
    "password": r"(?i)\b(password|passwd|secret|api_?key|access_?token)\s*[:=]\s*['\"][^'\"\s{}$]{8,}['\"]",
}
FOUND = {name: re.compile(sign) for name, sign in SIGNS.items()}


def secrets_in(text):
    return [name for name, sign in FOUND.items() if sign.search(text)]


@pytest.mark.skipif(not (paths.ROOT / ".git").exists() or not shutil.which("git"), reason="no clone of its own")
def test_tracked_files_hold_no_secret():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=paths.ROOT, check=True, capture_output=True, text=True)
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = paths.ROOT / name
        content = path.read_bytes() if path.is_file() and path.stat().st_size < 2**22 else b""
        if b"\0" not in content[:4096] and (kinds := secrets_in(content.decode("utf-8", "replace"))):
            found[name] = kinds
    assert found == {}


@pytest.mark.parametrize(
    "name, parts",
    [
        ("private key", ("-----BEGIN RSA PRIVATE", " KEY-----")),
        ("AWS key", ("AKIA", "IOSFODNN7EXAMPLE")),
        ("GitHub token", ("ghp_", "a1" * 18)),
        ("Hugging Face token", ("hf_", "a1" * 17)),
        ("Slack token", ("xoxb-", "123456789012")),
        ("Google key", ("AIza", "a" * 35)),
        ("PyPI token", ("pypi-", "a1" * 26)),
        ("web token", ("eyJ" + "a" * 16, ".eyJ" + "a" * 16 + ".x")),
        ("password in an address", ("https://user:", "word@host")),
        ("password", ("pass", "word = 'correct-horse'")),
    ],
)
def test_each_sign_is_known(name, parts):
    assert secrets_in("x = " + "".join(parts)) == [name]
