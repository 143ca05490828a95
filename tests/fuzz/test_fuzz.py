"""Files drawn at random: whatever a file holds, its reader works or raises one RDSInputError.

``RDS_FUZZ=5000 pytest tests/fuzz`` draws more of each kind than the few that every run draws.
"""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image

from rds_lib.core import artifacts, paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data.checkpoints import read_checkpoint, read_rds
from rds_lib.data.images import list_frames, read_frame, read_mask, save_palette_png
from rds_lib.data.layouts import Location, read_index
from rds_lib.data.names import in_time_order
from rds_lib.evaluation.recordings import ROUTE, _check_routes
from rds_lib.metrics.files import _meta_objects
from rds_lib.pipeline.params import load_params
from rds_lib.routing.build import MINI_RDS
from rds_lib.routing.weights import load_rds

settings.register_profile(
    "bounded",
    max_examples=int(os.environ.get("RDS_FUZZ", "40")),
    deadline=None,
    derandomize="RDS_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("bounded")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=9)
    | st.just("9" * 5000)
)
_NESTED = lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
VALUES = st.recursive(SCALARS, _NESTED)
SMOKE = (paths.PARAMS / "smoke.yaml").read_bytes()


def works_or_is_refused(act, *arguments, **options):
    """The one property; a warning is no fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return act(*arguments, **options)
        except RDSInputError as error:
            assert str(error)
            return None


@st.composite
def damaged(draw, content: bytes):
    """Bytes of a good file: cut, with some of them replaced, or with others put in."""
    place = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(("cut", "replaced", "put in", "turned", "doubled")))
    if kind == "cut":
        return content[:place]
    if kind == "doubled":
        return content[:place] + content
    extra = draw(st.binary(max_size=8))
    if kind == "turned":
        return content[:place] + bytes(byte ^ 255 for byte in content[place : place + 4]) + content[place + 4 :]
    return content[:place] + extra + content[place + (len(extra) if kind == "replaced" else 0) :]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def picture(kind: str) -> bytes:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"rds-fuzz-{os.getpid()}.{kind}"
    labels = np.zeros((12, 16), np.uint8)
    labels[2:6, 3:9] = 1
    if kind == "png":
        save_palette_png(path, labels)
    else:
        Image.fromarray(np.dstack([labels * 200] * 3)).save(path)
    try:
        return path.read_bytes()
    finally:
        path.unlink()


@pytest.mark.parametrize("suffix, read", [("png", read_mask), ("png", read_frame), ("jpg", read_frame)])
def test_pictures(place, suffix, read):
    good, file = picture(suffix), place / f"0.{suffix}"

    @given(damaged(good) | st.binary(max_size=64))
    def check(content):
        file.write_bytes(content)
        works_or_is_refused(read, file)

    check()


@given(st.lists(st.text(min_size=1, max_size=12), max_size=8))
@example(["1", "01"])
@example(["²", "9" * 5000])
def test_names_of_frames(names):
    works_or_is_refused(in_time_order, names, "folder")


def test_folders_of_frames(tmp_path):
    stems = st.text(st.sampled_from("0123456789.,_-ab²٣ "), min_size=1, max_size=8)

    @given(st.lists(st.tuples(stems, st.sampled_from((".jpg", ".png", ".JPG", ".txt", ""))), max_size=6))
    def check(names):
        for file in tmp_path.iterdir():
            file.unlink()
        for stem, suffix in names:
            if f"{stem}{suffix}" not in (".", ".."):
                (tmp_path / f"{stem}{suffix}").touch()
        works_or_is_refused(list_frames, tmp_path)

    check()


META = st.fixed_dictionaries(
    {"videos": VALUES | st.dictionaries(st.text(max_size=5), VALUES, max_size=3)}
    | {"videos": st.fixed_dictionaries({"v": st.fixed_dictionaries({"objects": st.dictionaries(st.text(), VALUES)})})}
)


@given(VALUES | META)
def test_meta_json(place, content):
    path = place / "meta.json"
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    works_or_is_refused(read_index, Location(place, place, path))
    meta = works_or_is_refused(artifacts.read_json, path, schema=None)
    if meta is not None:
        works_or_is_refused(_meta_objects, meta, path, "v")


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_lists_of_sequences(place, content):
    path = place / "val.txt"
    path.write_bytes(content)
    works_or_is_refused(read_index, Location(place, place, path))


@given(damaged(SMOKE))
@settings(max_examples=max(8, settings().max_examples // 5))  # the parser takes a tenth of a second
def test_profiles(place, content):
    path = place / "p.yaml"
    path.write_bytes(content)
    works_or_is_refused(load_params, path=path)


@given(st.sampled_from(("seed", "steps", "budgets", "config", "lr", "phases", "datasets")), VALUES)
@settings(max_examples=max(8, settings().max_examples // 5))
def test_values_of_a_profile(place, key, value):
    lines = SMOKE.decode().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"  {key}:"))
    lines[at] = f"  {key}: {json.dumps(value)}"
    path = place / "p.yaml"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    works_or_is_refused(load_params, path=path)


@given(VALUES)
def test_numbers_of_a_stage(place, content):
    path = place / "n.json"
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    works_or_is_refused(artifacts.read_json, path)


def test_arrays_of_a_stage(place):
    path = place / "a.npz"
    artifacts.write_npz(path, w=np.arange(6.0))

    @given(damaged(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        works_or_is_refused(artifacts.read_npz, path)

    check()


@given(st.binary(max_size=80) | damaged(f"{','.join(ROUTE)}\n0,0,True,0.5,routed\n1,1,False,0.2,routed\n".encode()))
def test_route_tables(place, content):
    path = place / "routes.csv"
    path.write_bytes(content)
    table = works_or_is_refused(artifacts.read_table, path, columns=ROUTE)
    if table is not None:
        works_or_is_refused(_check_routes, table, path, 2, 2)


@pytest.fixture(scope="module")
def rds_bytes():
    return MINI_RDS.read_bytes()


@settings(max_examples=max(8, settings().max_examples // 3))
@given(st.data())
def test_headers_of_rds_files(place, rds_bytes, data):
    length = int.from_bytes(rds_bytes[:8], "little")
    head = json.loads(rds_bytes[8 : 8 + length])
    meta = json.loads(head["__metadata__"]["rds"])
    inside = data.draw(st.sampled_from((meta, meta["router"])))
    inside[data.draw(st.sampled_from(sorted(inside)) | st.text(max_size=6))] = data.draw(VALUES)
    head["__metadata__"]["rds"] = json.dumps(meta)
    text = json.dumps(head).encode("utf-8", "surrogatepass")
    path = place / "r.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + rds_bytes[8 + length :])
    works_or_is_refused(load_rds, path)


@given(st.data())
def test_headers_of_checkpoints(place, data):
    good = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    text = data.draw(damaged(good) | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
    length = data.draw(st.just(len(text)) | st.integers(0, 2**64 - 1))
    path = place / "c.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text + bytes(8))
    works_or_is_refused(read_checkpoint, path)
    works_or_is_refused(read_rds, path)


def test_checkpoints_of_torch(place):
    import torch

    path = place / "c.pt"
    torch.save({"model": {"a": torch.zeros(2)}}, path)

    @given(damaged(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        works_or_is_refused(read_checkpoint, path)

    check()
