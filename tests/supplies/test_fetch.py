"""A data set from a server that drops, lies, changes or has nothing: the right bytes, or nothing but a begun file."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import Answer
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.supplies import download as downloads, fetch as fetching
from rds_lib.supplies.fetch import RECEIPT, fetch
from rds_lib.work.locks import claim


def sha(content):
    return hashlib.sha256(content).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def run(tmp_path):
    """Fetch into a folder; the pauses and the lines are kept."""

    def go(entry, **options):
        go.pauses, go.lines = [], []
        return fetch(entry, tmp_path / "out", pause=go.pauses.append, say=go.lines.append, **options)

    go.out = tmp_path / "out"
    return go


def test_what_is_fetched_is_unpacked_whole_and_says_where_it_came_from(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive))
    found = run(entry(f"{address}?key=mine", size=len(archive), sha256=sha(archive)))
    assert found == (run.out / "DAVIS", sha(archive), True, 3, 300_007, True)
    assert (found.root / "ImageSets/2017/val.txt").read_text() == "cow\n"
    assert names(run.out) == ["DAVIS"]
    receipt = json.loads((found.root / RECEIPT).read_text())
    assert receipt["address"] == address and receipt["sha256"] == sha(archive) and receipt["checked"] is True
    again = run(entry(address, size=len(archive), sha256=sha(archive)))
    assert again == found._replace(is_new=False) and len(server.asked) == 1


def test_a_kept_archive_is_not_fetched_again(run, server, entry, archive):
    one = entry(server.at("/tiny.zip", Answer(archive)), sha256=sha(archive))
    run(one, keep=True)
    assert (run.out / "tiny.zip").read_bytes() == archive
    (run.out / "DAVIS").rename(run.out / "other")
    assert run(one).is_new and len(server.asked) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_five_dropped_connections_end_with_the_right_file(run, server, entry, archive, seed):
    places = sorted(random.Random(seed).sample(range(1, len(archive)), 5))
    drops = [Answer(archive, cut=end - start) for start, end in zip([0, *places], places)]
    found = run(entry(server.at("/tiny.zip", *drops, Answer(archive)), sha256=sha(archive)))
    assert found.is_checked and run.pauses == [1] * 5 and len(run.lines) == 5
    assert [asked[1] for asked in server.asked] == [None, *(f"bytes={place}-" for place in places)]
    assert {asked[2] for asked in server.asked[1:]} == {'"one"'}


def test_pauses_grow_and_tries_end_where_nothing_comes(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive, cut=1000), Answer(archive, cut=0))
    with pytest.raises(RDSInputError, match=r"broke off after 1000 of \d+ bytes.*holds 1000 bytes, with which"):
        run(entry(address))
    assert run.pauses == [1, 2, 4, 8] and names(run.out) == ["tiny.zip.part", "tiny.zip.part.json"]
    server.at("/tiny.zip", Answer(archive))
    assert run(entry(address)).is_new and server.asked[-1][1] == "bytes=1000-"


def test_a_busy_server_is_asked_again_when_it_says(run, server, entry, archive):
    busy = Answer(b"", status=503, kind="text/plain", headers={"Retry-After": "7"})
    forever = Answer(b"", status=429, kind="text/plain", headers={"Retry-After": "99999"})
    run(entry(server.at("/tiny.zip", busy, forever, Answer(archive))))
    assert run.pauses == [7, downloads.LONGEST_PAUSE]


@pytest.mark.parametrize("by", [1000, -1000])
def test_a_length_that_is_none_of_the_file_ends_before_it_comes(run, server, entry, archive, by):
    address = server.at("/tiny.zip", Answer(archive, length=len(archive) + by))
    with pytest.raises(RDSInputError, match=rf"announces {len(archive) + by} bytes, but the file has {len(archive)}"):
        run(entry(address, size=len(archive)))
    assert names(run.out) == [] and len(server.asked) == 1


def test_a_length_too_long_without_a_known_one_ends(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive, length=len(archive) + 1000))
    with pytest.raises(RDSInputError, match=f"has nothing from byte {len(archive)} on"):
        run(entry(address, sha256=sha(archive)))
    assert len(server.asked) <= 2 * (downloads.MOST_RESTARTS + 1) and not (run.out / "tiny.zip").exists()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_length_too_short_without_a_known_one_is_no_archive(run, server, entry, archive, is_known):
    address = server.at("/tiny.zip", Answer(archive, length=len(archive) - 1000))
    with pytest.raises(RDSInputError, match="SHA-256 is" if is_known else "is no whole zip or tar archive"):
        run(entry(address, sha256=sha(archive) if is_known else None))
    assert not (run.out / "DAVIS").exists()


def test_a_server_without_ranges_begins_anew(run, server, entry, archive):
    cut = Answer(archive, cut=1000, ranges=False)
    found = run(entry(server.at("/tiny.zip", cut, Answer(archive, ranges=False)), sha256=sha(archive)))
    assert found.is_checked and [asked[1] for asked in server.asked] == [None, "bytes=1000-"]


@pytest.mark.parametrize("listens", [True, False], ids=["that honours If-Range", "that does not"])
def test_a_file_that_changed_in_between_is_fetched_anew(run, server, entry, archive, listens):
    old = Answer(bytes(len(archive)), cut=5000)
    new = Answer(archive, etag='"two"')
    if not listens:  # goes on with the new file although the old one was asked for
        stubborn = Answer(archive[5000:], status=206, etag='"two"')
        stubborn.headers = {"Content-Range": f"bytes 5000-{len(archive) - 1}/{len(archive)}"}
        server.at("/tiny.zip", old, stubborn, new)
    else:
        server.at("/tiny.zip", old, new)
    found = run(entry(f"{server.address}/tiny.zip"))
    assert found.sha256 == sha(archive) and not found.is_checked


@pytest.mark.parametrize("is_known", [True, False])
def test_without_a_version_only_a_known_hash_allows_to_go_on(run, server, entry, archive, is_known):
    answers = Answer(archive, cut=1000, etag=None), Answer(archive, etag=None)
    run(entry(server.at("/tiny.zip", *answers), sha256=sha(archive) if is_known else None))
    assert server.asked[1][1:] == (("bytes=1000-" if is_known else None), None)


def test_an_answer_of_another_range_is_not_appended(run, server, entry, archive):
    wrong = Answer(archive[:500], status=206, headers={"Content-Range": f"bytes 0-499/{len(archive)}"})
    found = run(entry(server.at("/tiny.zip", Answer(archive, cut=1000), wrong, Answer(archive))))
    assert found.sha256 == sha(archive)


def test_a_web_page_or_404_is_no_file_and_the_next_address_is_tried(run, server, entry, archive):
    page = server.at("/page.zip", Answer(b"<html>please accept</html>", kind="text/html"))
    good = server.at("/good.zip", Answer(archive))
    found = run(entry(page, f"{server.address}/gone.zip", good, sha256=sha(archive)))
    assert found.is_new and json.loads((found.root / RECEIPT).read_text())["address"] == good
    assert [asked[0] for asked in server.asked] == ["/page.zip", "/gone.zip", "/good.zip"] and run.pauses == []
    with pytest.raises(RDSInputError, match=r"page.zip sends a web page.*gone.zip answers 404"):
        fetch(entry(page, f"{server.address}/gone.zip"), run.out / "other")
    assert not (run.out / "other").exists()


def test_a_wrong_hash_leaves_nothing_and_a_patched_file_gets_a_second_try(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive))
    with pytest.raises(RDSInputError, match=f"SHA-256 is {sha(archive)}, expected 00"):
        run(entry(address, sha256="0" * 64))
    assert names(run.out) == [] and len(server.asked) == 1
    with pytest.raises(RDSInputError):
        run(entry(server.at("/tiny.zip", Answer(archive, cut=900), Answer(archive, cut=0)), sha256=sha(archive)))
    part = run.out / "tiny.zip.part"
    part.write_bytes(bytes(part.stat().st_size))  # a disk that lost what was written
    server.at("/tiny.zip", Answer(archive))
    assert run(entry(address, sha256=sha(archive))).is_checked and server.asked[-1][1] is None


def test_a_length_of_nobody_is_the_end_of_the_answer(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive, length="none"))
    assert run(entry(address, sha256=sha(archive))).is_checked


def test_more_than_the_file_has_is_not_taken(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive + b"more", length="none"))
    with pytest.raises(RDSInputError, match=f"sends more than the {len(archive)} bytes of the file"):
        run(entry(address, size=len(archive)))
    assert names(run.out) == []


def test_a_disk_that_is_full_in_the_middle_is_no_matter_of_the_server(run, server, entry, archive, monkeypatch):
    monkeypatch.setattr(fetching.Part, "open", lambda self: Path("/dev/full").open("ab"))
    with pytest.raises(OSError) as error:
        run(entry(server.at("/tiny.zip", Answer(archive))))
    assert error.value.errno == errno.ENOSPC and len(server.asked) == 1


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(run, server, entry):
    address = server.at("/tiny.zip", Answer(b"", status=302, headers={"Location": "ftp://127.0.0.1/x.zip"}))
    with pytest.raises(RDSInputError, match="redirects from https to an address without, or to another kind"):
        run(entry(address))


def test_a_full_disk_is_told_before_the_first_byte(run, server, entry, archive, monkeypatch):
    address = server.at("/tiny.zip", Answer(archive))
    with pytest.raises(RDSInputError, match=r"needs 200000.00 GB, and the disk has"):
        run(entry(address, size=10**14))
    assert server.asked == [] and names(run.out) == []


def test_a_note_or_a_part_that_is_none_is_passed_over(run, server, entry, archive):
    run.out.mkdir()
    address = server.at("/tiny.zip", Answer(archive))
    (run.out / "tiny.zip.part").write_bytes(b"something else")
    for note in ("[]", "{", '{"schema": 1, "address": 3}', json.dumps({"schema": 1, "address": address, "total": "x"})):
        (run.out / "tiny.zip.part.json").write_text(note)
        assert run(entry(address, sha256=sha(archive)), keep=False).sha256 == sha(archive)
        assert server.asked[-1][1] is None
        (run.out / "DAVIS").rename(run.out / f"was {len(server.asked)}")
        (run.out / "tiny.zip.part").write_bytes(b"something else")


def test_a_place_that_is_taken_is_left_alone(run, server, entry, archive):
    address = server.at("/tiny.zip", Answer(archive))
    (run.out / "DAVIS").mkdir(parents=True)
    with pytest.raises(RDSInputError, match="is there already, and was not fetched by us"):
        run(entry(address))
    assert server.asked == []
    with pytest.raises(RDSInputError, match="is there already; move it away"):
        run(entry(address, unpacks_to=None))
    assert names(run.out / "DAVIS") == []


def test_an_archive_of_another_hash_is_not_unpacked_or_removed(run, server, entry, archive):
    run.out.mkdir()
    (run.out / "tiny.zip").write_bytes(archive)
    with pytest.raises(RDSInputError, match=f"its SHA-256 is {sha(archive)}, expected 00"):
        run(entry(server.at("/tiny.zip", Answer(archive)), sha256="0" * 64))
    assert names(run.out) == ["tiny.zip"] and server.asked == []


def test_a_second_fetch_at_once_is_refused(run, server, entry, archive):
    run.out.mkdir()
    address = server.at("/tiny.zip", Answer(archive))
    with claim(run.out / "tiny.zip"), pytest.raises(RDSInputError, match="tiny.zip: in use by process"):
        run(entry(address))
    assert server.asked == [] and run(entry(address)).is_new


def command(*arguments):
    return CliRunner().invoke(app, ["data", "fetch", *map(str, arguments)])


def test_the_command_says_the_hash_and_whether_it_was_compared(tmp_path, server, archive):
    address = server.at("/tiny.zip", Answer(archive))
    options = "davis2017", "--url", address, "--out", tmp_path / "out"
    unknown = command(*options, "--sha256", "unknown")
    assert unknown.exit_code == 0 and f"SHA-256 {sha(archive)}, not compared" in unknown.output
    known = command("davis2017", "--url", address, "--out", tmp_path / "two", "--sha256", sha(archive).upper())
    assert known.exit_code == 0 and f"SHA-256 {sha(archive)}, as it should be" in known.output
    wrong = command("davis2017", "--url", address, "--out", tmp_path / "three")  # the catalogue's size holds
    assert wrong.exit_code == 2 and "the file has 832766765" in wrong.output
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cifar"], "data set 'cifar' is not in the catalogue; choose one of davis2017"),
        (["davis2017"], "give the folder to put it in, --out DIR"),
        (["davis2017", "--url", "file:///etc/passwd", "--out", "x"], "expected an address that begins with https://"),
        (["davis2017", "--url", "http://a b", "--out", "x"], "expected an address that begins with https://"),
        (["davis2017", "--url", "http://a:b/", "--out", "x"], "expected an address that begins with https://"),
        (["davis2017", "--sha256", "12", "--out", "x"], "expected 64 hexadecimal digits, or unknown"),
        (["davis2017", "--url", "http://127.0.0.1:9/x.zip", "--out", "x"], "cannot be reached"),
        (["davis2017", "--url", "http://127.0.0.1:9/..%2f.zip", "--out", "x"], "expected the plain name of a file"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(
        fetching, "download", lambda *_, **__: (_ for _ in ()).throw(downloads.Mishap("cannot be reached"))
    )
    result = command(*arguments)
    assert result.exit_code == 2 and message in result.output and names(tmp_path) == []


@pytest.mark.parametrize("name", ["sav", "ytvos", "mose", "lvos"])
def test_a_set_that_needs_a_form_says_where_it_is(name):
    result = command(name)
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert "https://" in result.output and f"--layout {name}" in result.output and "JPEGImages" in result.output


def test_ctrl_c_in_the_middle_is_gone_on_with(tmp_path, server, archive):
    """The server stops in the middle and waits; the command is interrupted there, as by a terminal."""
    slow = Answer(archive, length=len(archive), cut=200_000)
    address = server.at("/tiny.zip", slow)
    server.hold.set()
    line = [
        sys.executable,
        "-m",
        "rds_lib",
        "data",
        "fetch",
        "davis2017",
        "--out",
        str(tmp_path / "out"),
        "--url",
        address,
    ]
    process = subprocess.Popen(
        [*line, "--sha256", sha(archive)], cwd=paths.ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    part = tmp_path / "out" / "tiny.zip.part"
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate()
    server.hold.clear()
    assert process.returncode == 130 and "the same command goes on" in said
    assert names(tmp_path / "out") == ["tiny.zip.part", "tiny.zip.part.json"]
    server.at("/tiny.zip", Answer(archive))
    assert command("davis2017", "--out", tmp_path / "out", "--url", address, "--sha256", sha(archive)).exit_code == 0
    assert server.asked[-1][1] not in (None, "bytes=0-")
