"""One file over HTTP, gone on with where it broke off: after dropped connections, and by a later run.

Sources: RFC 9110, section 14 (ranges) and 13.1.5 (``If-Range``).
"""

import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from rds_lib.supplies.catalogue import shown_address
from rds_lib.supplies.part import Part, Version

TRIES = 5  # in a row that bring nothing new
MOST_TRIES = 200  # in all
MOST_RESTARTS = 2  # from the first byte, because the server has another file than it had
LONGEST_PAUSE = 60.0  # seconds
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 2**18  # bytes
PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that pass


class Mishap(Exception):
    """A try that failed: why, whether another one may help, and how many seconds the server asks to wait."""

    def __init__(self, why: str, *, again: bool = True, wait: float = 0.0):
        super().__init__(why)
        self.again, self.wait = again, wait


class _Redirects(HTTPRedirectHandler):
    """Redirects as they come, but never from https to an address that anybody on the way may change."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https:" if req.full_url.startswith("https:") else ("https:", "http:")):
            raise Mishap("redirects from https to an address without, or to another kind", again=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    address: str,
    part: Part,
    *,
    size: int | None = None,
    verified: bool = False,
    pause: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Fill a part with all bytes of an address, trying again after pauses of 1, 2, 4, ... s.

    Parameters
    ----------
    size : int, optional
        Bytes of the file, where they are known; a server that announces others is not asked again.
    verified : bool
        The file's hash is known and will be compared: then a part is gone on with even where the server gives
        neither ETag nor date.

    Raises
    ------
    Mishap
        If the address does not have the file, or the connection broke ``TRIES`` times without a new byte.
    """
    failures = restarts = 0
    for _ in range(MOST_TRIES):
        before = part.size
        try:
            return _transfer(address, part, size, verified)
        except Mishap as mishap:
            last = mishap
        failures = 1 if part.size > before else failures + 1
        if isinstance(last, _Stale):
            part.remove()
            restarts += 1
        if not last.again or failures >= TRIES or restarts > MOST_RESTARTS:
            raise last
        wait = min(max(last.wait, 2.0 ** (failures - 1)), LONGEST_PAUSE)
        say(f"{shown_address(address)}: {last}; trying again in {wait:g} s, from byte {part.size}")
        pause(wait)
    raise Mishap(f"broke off {MOST_TRIES} times")


def _transfer(address, part, size, verified):
    """One request, and what it brings."""
    known = part.version(shown_address(address))
    can_go_on = known is not None and part.size > 0 and (verified or bool(known.validator))
    start = part.size if can_go_on else 0
    if can_go_on and part.size == known.total and size in (None, known.total):
        return
    answer = _ask(address, start, known)
    if answer is None:
        return
    with answer:
        version, start = _placed(answer, start, known)
        if size is not None and version.total not in (None, size):
            part.remove()
            raise Mishap(f"announces {version.total} bytes, but the file has {size}", again=False)
        if start == 0:
            part.begin(shown_address(address), version)
        _pour(answer, part, version.total if version.total is not None else size)


def _ask(address, start, known):
    """The answer of a server; None where there is nothing after what we have."""
    headers = {"User-Agent": "rds-companion", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        with _network():
            return build_opener(_Redirects).open(Request(address, headers=headers), timeout=TIMEOUT)
    except _Refused as refusal:
        answer = refusal.answer
    if answer.code == 416 and start:
        if known.total is None and answer.headers.get("Content-Range") == f"bytes */{start}":
            return None
        raise _Stale(f"has nothing from byte {start} on")
    wait = answer.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0.0
    raise Mishap(f"answers {answer.code} {answer.reason}", again=answer.code in PASSING, wait=seconds)


class _Stale(Mishap):
    """What was begun is of no use."""


class _Refused(Exception):
    """An answer other than 200 and 206."""

    def __init__(self, answer: HTTPError):
        super().__init__(answer.code)
        self.answer = answer


@contextmanager
def _network() -> Iterator[None]:
    """Turn what goes wrong on the way into a `Mishap`; errors of the disk lie outside, and stay what they are."""
    try:
        yield
    except HTTPError as answer:
        answer.close()
        raise _Refused(answer) from answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise Mishap(f"its certificate is not good ({reason.verify_message})", again=False) from error
        raise Mishap(f"cannot be reached ({reason or type(error).__name__})") from error


def _placed(answer, start, known):
    """The version that comes, and the byte that it comes from: ``start``, or 0 where the server begins anew."""
    kind = answer.headers.get_content_type()
    if kind == "text/html":
        raise Mishap("sends a web page instead of the file", again=False)
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Mishap(f"sends the file coded as {answer.headers['Content-Encoding'][:40]}", again=False)
    version = _version(answer.headers, answer.status)
    if answer.status == 200:
        return version, 0
    first = re.match(r"bytes (\d{1,18})-", answer.headers.get("Content-Range", ""))
    if answer.status != 206 or not start or first is None or int(first[1]) != start or not version.is_same(known):
        raise _Stale(f"answers {answer.status} with another part of the file, or with another file")
    return version, start


def _version(headers: Mapping, status: int) -> Version:
    text = headers.get("Content-Length", "")
    if status == 206:
        text = headers.get("Content-Range", "").rpartition("/")[2]
    total = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
    return Version(headers.get("ETag", ""), headers.get("Last-Modified", ""), total)


def _pour(answer, part, total):
    """Write what comes to the end of the part; it must end at ``total`` bytes, where that is known."""
    with part.open() as file, _bar(part, total) as bar:
        done = part.size
        while total is None or done <= total:
            with _network():
                chunk = answer.read1(CHUNK)
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    if total is not None and done < total:
        raise Mishap(f"broke off after {done} of {total} bytes")
    if total is not None and done > total:
        raise _Stale(f"sends more than the {total} bytes of the file")


def _bar(part, total):
    return tqdm(
        total=total, initial=part.size, desc=part.path.stem, unit="B", unit_scale=True, leave=False, disable=None
    )
