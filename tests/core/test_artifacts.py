"""Stage products: written whole or not at all, read back equal, refused when damaged."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

from rds_lib.core import artifacts
from rds_lib.core.errors import RDSInputError

TENSORS = {"router.weight": torch.arange(6.0).reshape(2, 3), "alpha": torch.tensor(0.5)}


def write_one(kind, path):
    if kind == "json":
        artifacts.write_json(path, {"blocks": [0, 2, 8]})
    elif kind == "npz":
        artifacts.write_npz(path, scores=np.arange(4.0))
    elif kind == "csv":
        artifacts.write_table(path, pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25]}))
    else:
        artifacts.write_tensors(path, TENSORS, budget=0.5, blocks=[0, 2])


READERS = {
    "json": artifacts.read_json,
    "npz": artifacts.read_npz,
    "csv": artifacts.read_table,
    "safetensors": artifacts.read_tensors,
}


def test_floats_come_back_as_a_half_and_other_numbers_as_they_are(tmp_path):
    tensors = {"weight": torch.tensor([1 / 3, -2.0]), "count": torch.tensor([2**40 + 1])}
    artifacts.write_tensors(tmp_path / "a.safetensors", tensors)
    found, _ = artifacts.read_tensors(tmp_path / "a.safetensors")
    assert found["weight"].dtype == torch.float32 and found["weight"].tolist() == [0.333251953125, -2.0]
    assert found["count"].equal(tensors["count"])


def test_json_and_npz_come_back_equal(tmp_path):
    write_one("json", tmp_path / "a.json")
    write_one("npz", tmp_path / "a.npz")
    assert artifacts.read_json(tmp_path / "a.json") == {"blocks": [0, 2, 8]}
    arrays = artifacts.read_npz(tmp_path / "a.npz")
    assert list(arrays) == ["scores"] and arrays["scores"].tolist() == [0, 1, 2, 3]


def test_tensors_and_their_metadata_come_back_equal(tmp_path):
    write_one("safetensors", tmp_path / "a.safetensors")
    tensors, metadata = artifacts.read_tensors(tmp_path / "a.safetensors")
    assert metadata == {"budget": 0.5, "blocks": [0, 2]}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_table_names_a_missing_column_and_keeps_the_word_none(tmp_path):
    file = tmp_path / "a.csv"
    artifacts.write_table(file, pd.DataFrame({"reason": ["none", "NA"], "value": [1.5, None]}))
    table = artifacts.read_table(file, columns=["reason"])
    assert table["reason"].tolist() == ["none", "NA"] and table["value"].isna().tolist() == [False, True]
    with pytest.raises(RDSInputError, match=r"a\.csv: no column method; it has reason, value"):
        artifacts.read_table(file, columns=["reason", "method"])


@pytest.mark.parametrize("kind", READERS)
def test_equal_content_gives_equal_bytes(kind, tmp_path):
    first, second = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
    write_one(kind, first)
    write_one(kind, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", READERS)
def test_truncated_or_missing_file_is_an_error_with_its_name(kind, tmp_path):
    file = tmp_path / f"damaged.{kind}"
    with pytest.raises(RDSInputError, match=rf"damaged\.{kind}: cannot be read"):
        READERS[kind](file)
    write_one(kind, file)
    file.write_bytes(file.read_bytes()[:-4] if kind != "csv" else b"")
    with pytest.raises(RDSInputError, match=rf"damaged\.{kind}: cannot be read"):
        READERS[kind](file)


@pytest.mark.parametrize("kind", ["json", "npz", "safetensors"])
def test_another_schema_version_is_refused(kind, tmp_path, monkeypatch):
    file = tmp_path / f"old.{kind}"
    if kind == "json":
        artifacts.write_json(file, {"blocks": []}, schema=99)
    else:
        monkeypatch.setattr(artifacts, "SCHEMA", 99)
        write_one(kind, file)
        monkeypatch.undo()
    with pytest.raises(RDSInputError, match="schema version 99, expected 1"):
        READERS[kind](file)


def test_metrics_file_has_no_schema_key(tmp_path):
    artifacts.write_json(tmp_path / "metrics.json", {"JF": 0.5}, schema=None)
    assert "schema" not in (tmp_path / "metrics.json").read_text()
    assert artifacts.read_json(tmp_path / "metrics.json", schema=None) == {"JF": 0.5}


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "a.json", {"JF": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), artifacts.atomic_write(file) as temporary:
        temporary.write_bytes(b"half of the ne")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_disk_full_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), artifacts.atomic_write(file) as temporary:
        temporary.write_bytes(b"new")
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_readers_see_only_the_old_or_the_new_file(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("old")
    with file.open() as reader:
        with artifacts.atomic_write(file) as temporary:
            assert temporary.suffix == ".csv" and temporary.parent == tmp_path
            temporary.write_text("new")
            assert file.read_text() == "old"
        assert file.read_text() == "new"
        assert reader.read() == "old"
