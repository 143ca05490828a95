"""Work that is done once: found where it is whole, done again where it was damaged, one run at a time."""

import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.work import finished
from rds_lib.work.finished import LIST, check_whole, once, sealed


@pytest.fixture
def work(tmp_path):
    """``work()`` does it once in ``folder`` and returns how often it was done so far."""
    done = []

    def make():
        done.append(1)
        (tmp_path / "run" / "part").mkdir(parents=True, exist_ok=True)
        for name, text in (("weights", "tensors"), ("log.csv", "step\n0\n"), ("part/log.csv", "step\n1\n")):
            (tmp_path / "run" / name).write_text(text)

    def work():
        path = once(tmp_path / "run", "weights", make)
        assert path == tmp_path / "run" / "weights" and path.read_text() == "tensors"
        return len(done)

    work.folder = tmp_path / "run"
    return work


def test_finished_work_is_not_done_again(work):
    assert work() == work() == 1
    assert sorted(path.name for path in work.folder.iterdir()) == [LIST, "log.csv", "part", "weights"]
    assert [path.name for path in work.folder.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["weights", "log.csv", "part/log.csv", LIST])
@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "gone"])
def test_what_was_damaged_since_is_made_again_and_named(work, name, damage, caplog):
    work()
    file, whole = work.folder / name, (work.folder / name).read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": whole[:-2], "emptied": b"", "changed": whole.replace(b"s", b"S")}[damage])
    assert work() == 2 and file.read_bytes() == whole
    assert work() == 2
    assert name == LIST or f"run/{name}: is not as it was finished; made again" in caplog.text


def test_work_that_writes_nothing_is_not_finished(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights"):
        once(tmp_path / "run", "weights", lambda: None)
    assert not (tmp_path / "run").exists()


def test_work_that_was_cut_short_is_not_finished(work, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finished, "write_json", killed)
        work()
    (work.folder / ".tmp-0123").write_text("half a state")
    assert work() == 2 and not list(tmp_path.rglob(".tmp-*"))


def test_under_torchrun_every_process_takes_part_and_the_first_looks_after_the_folder(work, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert work() == 1 and not (work.folder / LIST).exists()
    monkeypatch.setenv("RANK", "0")
    assert work() == 2 and (work.folder / LIST).exists()


def test_a_sealed_folder_tells_what_was_cut_changed_or_removed_in_it(tmp_path):
    for name in ("table.csv", "masks/0.png", "masks/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("whole")
    check_whole(tmp_path)  # of which nobody said what it held
    with sealed(tmp_path):
        pass
    check_whole(tmp_path)
    (tmp_path / "masks" / "1.png").write_text("who")
    (tmp_path / "masks" / "2.png").write_text("a file of somebody's own")
    for inner in ("", "masks", "masks/1.png"):
        with pytest.raises(RDSInputError, match=r"masks/1.png: is not as its stage left it"):
            check_whole(tmp_path, inner)
    for inner in ("table.csv", "masks/0.png", "mask"):
        check_whole(tmp_path, inner)
    (tmp_path / "table.csv").unlink()
    with pytest.raises(RDSInputError, match=r"table.csv"):
        check_whole(tmp_path, "table.csv")


def test_a_folder_whose_writing_failed_is_not_sealed(tmp_path):
    with sealed(tmp_path):
        (tmp_path / "table.csv").write_text("whole")
    with pytest.raises(KeyboardInterrupt), sealed(tmp_path):
        (tmp_path / "table.csv").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / LIST).exists()
