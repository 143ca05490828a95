"""The catalogue: entries that make sense, and addresses that stand nowhere else."""

import re
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from rds_lib.core import paths
from rds_lib.supplies.catalogue import FILE, read_catalogue, shown_address, supply
from rds_lib.supplies.splits import CHECKED

CATALOGUE = read_catalogue()


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_makes_sense(entry):
    assert entry.layout in CHECKED and "JPEGImages" in entry.shape and entry.licence and entry.title
    assert all(urlsplit(url).scheme == "https" for url in (entry.home, *entry.addresses))
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert bool(entry.addresses) != bool(entry.needs)


def test_every_layout_has_an_entry():
    assert sorted(CATALOGUE) == sorted(CHECKED)


def test_a_link_of_ones_own_is_kept_without_its_key():
    assert shown_address("https://me:" + "word@host:8/a/b.zip?key=1#top") == "https://host:8/a/b.zip"
    entry = supply("sav", urls=["https://host.example/x%20y.tar?key=1"])
    assert entry.archive == "x y.tar" and entry.sha256 is None


@pytest.mark.skipif(not (paths.ROOT / ".git").exists() or not shutil.which("git"), reason="no clone of its own")
def test_no_other_file_names_the_hosts():
    hosts = {urlsplit(url).hostname for entry in CATALOGUE.values() for url in (entry.home, *entry.addresses)}
    found = [part for host in sorted(hosts) for part in ("-e", host)]
    done = subprocess.run(["git", "grep", "-lFI", *found], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [FILE.relative_to(paths.ROOT).as_posix()]
