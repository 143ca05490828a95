"""Files that lie: one kind of input after another, and the one error that each of them ends in.

``docs/bad_input.md`` shows these tables. After a change: ``python tests/test_bad_input.py``.
"""

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rds_lib.core import artifacts, paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data.checkpoints import read_checkpoint
from rds_lib.data.datasets import read_dataset
from rds_lib.data.images import read_frame, read_mask, save_palette_png
from rds_lib.metrics.masks import score_masks
from rds_lib.model.sam2 import MINI_WEIGHTS, build_model
from rds_lib.pipeline import notebook
from rds_lib.pipeline.params import load_params
from rds_lib.routing.build import MINI_RDS, build_rds_video_predictor
from rds_lib.routing.weights import load_rds

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bad_input.md"
NAN, DEEP, LONG = float("nan"), 5000, "9" * 5000


@dataclass(frozen=True)
class Kind:
    """One kind of input: ``act`` is given an empty folder and a case's value, and should raise."""

    name: str
    file: str  # that the message names
    act: Callable
    cases: list[tuple]  # what it is in words, the value, and words of the message

    @property
    def slug(self) -> str:
        return re.sub(r"\W+", "-", self.name.lower())


def _words(value) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:8]}... ({len(text)} characters)"


def make_file(path, content) -> None:
    """Write text or bytes, or have a function make what lies at a path."""
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)


# --- weights ---


def read_rds_with(folder, change):
    """An RDS file, ours but for one value of its header, or for the whole header as text."""
    with safe_open(MINI_RDS, framework="pt") as file:
        meta = json.loads(file.metadata()["rds"])
    if isinstance(change, tuple):
        *inside, last = change[0].split(".")
        (meta[inside[0]] if inside else meta)[last] = change[1]
    path = folder / "r.safetensors"
    save_file(load_file(MINI_RDS), path, metadata={"rds": change if isinstance(change, str) else json.dumps(meta)})
    load_rds(path)


def of_header(key, *values, says=None):
    return [(f"`{key}` is `{_words(value)}`", (key, value), says or f"{key} = ") for value in values]


RDS = [
    ("header is a JSON list", "[1, 2]", "format is [1, 2]"),
    ("header is no JSON", "{", "not a readable RDS file"),
    ("header is nested 100,000 deep", "[" * 100_000, "not a readable RDS file"),
    ("a number of 5,000 digits", f'{{"format": {LONG}}}', "not a readable RDS file"),
    *of_header("alpha", NAN, float("inf"), -4, "8", None, True),
    *of_header("alpha", 1e6, says="1000 times the rank"),
    *of_header("rank", -1, 2.5, "4", None, 10**9),
    *of_header("rank", 0, says="rank = 0, alpha"),
    *of_header("blocks", None, "0"),
    *of_header("blocks", [-1], [10**9], says="blocks.0 = "),
    *of_header("blocks", [0, 0], says="each block once"),
    *of_header("budgets", [0], [NAN], ["a"], says="budgets.0 = "),
    *of_header("taus", {"0.4": 5}, {"0.4": "half"}, {"0.4": None}, {"0.4": NAN}, says="taus.0.4 = "),
    *of_header("taus", {"x": 0.5}, {"nan": 0.5}, {"5": 0.5}, says="taus: budget "),
    *of_header("config_file", 3, None),
    *of_header("format", "rds/2", [1], says="format is "),
    *of_header("router", 3, "x", []),
    *of_header("router.embed_dim", 10**9, 0, "16", 1.5, None),
    *of_header("router.embed_dim", 32, says="other shape: router."),
    *of_header("router.depth", 10**9, 0),
    *of_header("router.always_on", [100], says="must be some of its 48 blocks"),
    *of_header("router.always_on", ["a"], [-1], says="router.always_on.0 = "),
    *of_header("router.image_size", 10**9, 0, "128"),
    *of_header("router.hidden", 10**9, 0, None),
    *of_header("router.budget", 5, NAN),
    *of_header("router.logit_spread", 0, NAN, 1e30, True),
    *of_header("router.normalise", "yes", 3),
    *of_header("router.token_stride", 10**6),
    *of_header("router.strange", 3),
]


def read_checkpoint_with(folder, make):
    path = folder / "weights.pt"
    content = make(folder)
    if isinstance(content, Path):
        path = content
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    read_checkpoint(path)


def packed(folder):
    torch.save({"model": {"a": torch.zeros(9)}}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "weights.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(folder / "plain.pt") as plain:
            for name in plain.namelist():
                archive.writestr(name, plain.read(name))
        archive.writestr("plain/data/9", bytes(10**6))
    return folder / "weights.pt"


def raw_safetensors(header, data=b""):
    def make(folder):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = folder / "weights.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        return path

    return make


def wide(shape, end=4):
    return {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}


def pipe(folder, name="weights.pt"):
    os.mkfifo(folder / name)
    return folder / name


def _longer(folder):
    (folder / "weights.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    return folder / "weights.safetensors"


class Code:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def cut(save, name, share):
    """A file of weights that ends too early."""

    def make(folder):
        save({"a": torch.zeros(999)}, folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])
        return folder / name

    return make


def save_pt(state, path, **options):
    torch.save({"model": state}, path, **options)


def save_old(state, path):
    save_pt(state, path, _use_new_zipfile_serialization=False)


def older(content):
    """As torch saved before it wrote archives."""

    def make(folder):
        torch.save(content, folder / "weights.pt", _use_new_zipfile_serialization=False)
        return folder / "weights.pt"

    return make


def named(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def misnamed(folder):
    save_file({"a": torch.zeros(9)}, folder / "weights.pt")
    return folder / "weights.pt"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
OPTIMISER = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 3}
NOT_RUN, WEB_PAGE, NO_MODEL = (
    "asks for code beside tensors, which was not run",
    "is a web page",
    "has no 'model', it has",
)
ODD = "expected a name with a dense tensor of floats"
UNREAD = "could not be read as weights"
CHECKPOINT = [
    ("a value that is a number", lambda _: {"model": {"a": 3}}, ODD),
    ("a value that is nothing", lambda _: {"model": {"a": None}}, ODD),
    ("a name that is a number", lambda _: {"model": {3: torch.zeros(1)}}, ODD),
    ("a mapping inside the mapping", lambda _: {"model": {"a": {"b": torch.zeros(1)}}}, ODD),
    ("whole numbers for weights", lambda _: {"model": {"a": torch.zeros(2, dtype=torch.int64)}}, ODD),
    ("complex weights", lambda _: {"model": {"a": torch.zeros(2, dtype=torch.complex64)}}, ODD),
    ("a sparse tensor", lambda _: {"model": {"a": torch.eye(2).to_sparse()}}, ODD),
    ("a tensor without data", lambda _: {"model": {"a": torch.zeros(2, device="meta")}}, ODD),
    ("10^12 entries made of one", lambda _: {"model": {"a": torch.zeros(1).expand(10**12)}}, ODD),
    ("`model` is a list", lambda _: {"model": [1, 2]}, "'model' is list"),
    ("`model` is a tensor", lambda _: {"model": torch.zeros(3)}, "'model' is Tensor"),
    ("no `model`", lambda _: {"state_dict": {}}, f"{NO_MODEL} state_dict (1)"),
    ("a state dict that lies bare", lambda _: {"a.weight": torch.zeros(1)}, f"{NO_MODEL} a.weight (1)"),
    ("an optimiser's state alone", lambda _: OPTIMISER, f"{NO_MODEL} optimizer, epoch (2)"),
    ("a list", lambda _: [1, 2], "holds no mapping"),
    ("an empty file", lambda _: b"", "is empty"),
    ("a web page", lambda _: b"<html>", WEB_PAGE),
    ("a web page with a doctype", lambda _: b"\n<!DOCTYPE html><html>", WEB_PAGE),
    ("a pointer of Git LFS", lambda _: POINTER, "is a pointer of Git LFS, and not the file"),
    ("the first half of an archive", cut(save_pt, "weights.pt", 0.5), "is cut short, at "),
    ("the first half of an older file", cut(save_old, "weights.pt", 0.5), "or cut short"),
    ("a picture", lambda _: b"\x89PNG\r\n\x1a\n" + bytes(99), UNREAD),
    ("a safetensors file named .pt", misnamed, "is a safetensors file by its content"),
    ("a bare pickle", lambda _: b"\x80\x04N.", "is a bare pickle"),
    ("a pickle that would run a command", lambda _: b"cos\nsystem\n(S'touch ran'\ntR.", f"{NOT_RUN} (os.system)"),
    ("an archive that would run a command", lambda _: {"model": {"a": Code()}}, f"{NOT_RUN} (posix.mkdir)"),
    ("the same beside good weights", lambda _: {"model": {}, "x": Code()}, f"{NOT_RUN} (posix.mkdir)"),
    ("an older file that would run one", older({"model": {}, "x": Code()}), f"{NOT_RUN} (posix.mkdir)"),
    ("numbers of numpy's beside the weights", lambda _: {"model": {}, "x": np.float64(3)}, f"{NOT_RUN} (numpy."),
    ("an archive that unpacks to more than it is", packed, "unpacks to"),
    ("a named pipe", pipe, "is no file with weights"),
    ("a device that never ends", lambda _: Path("/dev/zero"), "is no file with weights"),
    ("a folder", lambda folder: folder, "is no file with weights"),
    ("safetensors: header is a list", raw_safetensors([1]), UNREAD),
    ("safetensors: a width of 10^9", raw_safetensors(wide([10**9, 10**9]), bytes(4)), UNREAD),
    ("safetensors: a negative width", raw_safetensors(wide([-1]), bytes(4)), UNREAD),
    ("safetensors: a width of 400 digits", raw_safetensors(b'{"a":{"shape":[' + b"9" * 400 + b"]}}"), UNREAD),
    ("safetensors: header nested 5,000 deep", raw_safetensors(b'{"a":' + b"[" * DEEP), UNREAD),
    ("safetensors: an empty file", named("weights.safetensors", b""), "is empty"),
    ("safetensors: a web page", named("weights.safetensors", b"<!doctype html>" + bytes(99)), WEB_PAGE),
    ("safetensors: a pickle", named("weights.safetensors", b"\x80\x04N." + bytes(99)), "is a bare pickle"),
    ("safetensors: a pointer of Git LFS", named("weights.safetensors", POINTER), "is a pointer of Git LFS"),
    ("safetensors: the first half", cut(save_file, "weights.safetensors", 0.5), "is cut short, 2034 of 4068 bytes"),
    ("safetensors: a part of the header", cut(save_file, "weights.safetensors", 0.01), "is cut short, 40 of 72 bytes"),
    ("safetensors: a header longer than the file", _longer, "a header of"),
    ("safetensors: a million entries", raw_safetensors(b"{" + b" " * 2**23 + b"}"), "a header of"),
]


def build_misfit(folder, case):
    """A model of one config with a checkpoint that was made for another."""
    config, make = case
    path = folder / "weights.safetensors"
    save_file(make(), path)
    build_model(config, path)


def encoder(width, depth, second):
    """As much of a SAM2 as tells its size: its patches, one tensor a block, and what SAM2.1 has beside."""
    state = {f"image_encoder.trunk.blocks.{n}.norm1.weight": torch.zeros(1) for n in range(depth)}
    state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(width, 3, 7, 7)
    return state | ({"no_obj_embed_spatial": torch.zeros(1, 64)} if second else {})


def of_transformers():
    return {"vision_encoder.backbone.patch_embed.projection.weight": torch.zeros(96, 3, 7, 7)}


TINY, SMALL, BASE, LARGE = (f"configs/sam2.1/sam2.1_hiera_{size}.yaml" for size in ("t", "s", "b+", "l"))
MISFIT = [
    ("small, for config large", (LARGE, lambda: encoder(96, 16, True)), f"its tensors are those of {SMALL!r}"),
    ("large, for config base-plus", (BASE, lambda: encoder(144, 48, True)), f"its tensors are those of {LARGE!r}"),
    ("base-plus, for config mini", ("mini", lambda: encoder(112, 24, True)), f"its tensors are those of {BASE!r}"),
    (
        "SAM2's tiny, for SAM2.1's",
        (TINY, lambda: encoder(96, 12, False)),
        "are those of 'configs/sam2/sam2_hiera_t.yaml'",
    ),
    ("our mini, for config tiny", (TINY, lambda: load_file(MINI_WEIGHTS)), "its tensors are those of 'mini'"),
    ("a SAM2 of no known size", (TINY, lambda: encoder(97, 12, True)), "does not fit: missing: "),
    ("a part of the right size", (TINY, lambda: encoder(96, 12, True)), "does not fit: missing: "),
    (
        "as transformers has it",
        (LARGE, of_transformers),
        "SAM2's own beside it, sam2.1_hiera_large.pt, or the id facebook/sam2.1-hiera-large",
    ),
    (
        "the same, for our mini",
        ("mini", of_transformers),
        "in the format of transformers; give SAM2's own beside it, the .pt file",
    ),
]


def build_from_hub(folder, case):
    build_rds_video_predictor(*case, device="cpu")


HUB = [
    (
        "an id that SAM2 does not have",
        ("facebook/sam2.1-hiera-huge",),
        "is no id of SAM2's on the hub; choose one of facebook/sam2-",
    ),
    (
        "the same for a checkpoint",
        (LARGE, "facebook/sam3"),
        "does not exist; give the path of a .pt or .safetensors file, or an id",
    ),
    (
        "an id of another config",
        (SMALL, "facebook/sam2.1-hiera-large"),
        f"is of config {LARGE!r}, and the config given is {SMALL!r}",
    ),
    ("SAM2's id with SAM2.1's config", (LARGE, "facebook/sam2-hiera-large"), f"and the config given is {LARGE!r}"),
    (
        "two ids",
        ("facebook/sam2.1-hiera-small", "facebook/sam2.1-hiera-large"),
        "the config given is 'facebook/sam2.1-hiera-small'",
    ),
]


# --- budgets ---


def build_with(folder, budget):
    """A predictor; what is timed for it goes into the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        build_rds_video_predictor("mini", budget=budget, device="cpu")


NO_SHARE, NO_BUDGET = "give a number in (0, 1]", 'give a share in (0, 1] such as 0.6, or a text: "30 blocks"'
BUDGET = [
    *((f"`{_words(_)}`", _, NO_SHARE) for _ in (0, -0.4, 1.5, NAN, True, [0.4], "1.5", "0", "9" * 400)),
    *(
        (f"`{_words(_)}`", _, NO_BUDGET)
        for _ in ("", "many", "30 layers", "40 s", "-3 ms", "nan ms", "1.2.3 ms", "٣ ms")
    ),
    *((f"`{_words(_)}`", _, "of blocks above 0") for _ in ("0 blocks", "2.5 blocks")),
    *((f"`{_words(_)}`", _, "of ms above 0") for _ in ("0 ms", "1e999 ms")),
    *((f"`{_words(_)}`", _, "runs 5 blocks (always on) to 48 (all)") for _ in ("4 blocks", "49 blocks")),
    ("`0.01 GMACs`", "0.01 GMACs", "take 0.0539 GMACs (always on alone) to 0.387 GMACs (all) a frame"),
    ("`1e-3 ms`", "1e-3 ms", "patch embedding, router, blocks and neck take"),
    ("`0.3`", 0.3, "this router serves 0.4 to 1"),
]

# --- data sets ---

FRAMES = ["00000", "00001", "00002"]


def tree(folder, meta):
    """Three frames in YouTube-VOS's layout, with a ``meta.json``."""
    for number, stem in enumerate(FRAMES):
        frame, mask = (folder / "valid" / name / "v" for name in ("JPEGImages", "Annotations"))
        for place in (frame, mask):
            place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (90 * number, 0, 0)).save(frame / f"{stem}.jpg")
        labels = np.zeros((24, 32), np.uint8)
        labels[3:9, 3:9] = 1
        save_palette_png(mask / f"{stem}.png", labels)
    text = meta if isinstance(meta, str) else json.dumps(meta)
    (folder / "valid" / "meta.json").write_text(text, encoding="utf-8")
    return folder


def read_tree(folder, meta):
    read_dataset(tree(folder, meta), layout="ytvos")


def score_tree(folder, meta):
    tree(folder, meta)
    score_masks(folder / "valid", folder / "valid" / "Annotations", protocol="ytvos")


def entry(frames=FRAMES, obj="1", name="v", **more):
    return {"videos": {name: {"objects": {obj: {"category": "cat", "frames": frames, **more}}}}}


EXPECTED, PLAIN, NO_SEQUENCE = 'expected {"videos":', "expected the plain name of a file", "does not describe sequence"
META_READ = [
    *((f"object named `{_}`", entry(obj=_), EXPECTED) for _ in ("x", "-1", "1.5", "", " 1", "1_0", "٣", "²")),
    ("object named by 5,000 digits", entry(obj=LONG), EXPECTED),
    ("two names of one object", {"videos": {"v": {"objects": {"1": {}, "01": {}}}}}, EXPECTED),
    ("objects in a list", {"videos": {"v": {"objects": ["1"]}}}, EXPECTED),
    ("objects are a text", {"videos": {"v": {"objects": "1"}}}, EXPECTED),
    ("objects are a number", {"videos": {"v": {"objects": 3}}}, EXPECTED),
    ("a video is a number", {"videos": {"v": 3}}, EXPECTED),
    ("videos in a list", {"videos": ["v"]}, EXPECTED),
    ("videos are a number", {"videos": 3}, EXPECTED),
    ("no videos", {}, EXPECTED),
    ("a list", "[1]", "found list"),
    ("pairs in a list", json.dumps([["videos", {}]]), "found list"),
    ("a number", "3", "found int"),
    ("an empty file", "", "cannot be read"),
    ("nested 100,000 deep", "[" * 100_000, "cannot be read"),
    ("a number of 5,000 digits", f'{{"videos": {LONG}}}', "cannot be read"),
    ("not a number", '{"videos": NaN}', "cannot be read"),
    *((f"sequence named `{_words(_)}`", entry(name=_), PLAIN) for _ in ("../v", "/etc", ".", "v" * 300, "a/b", "v\0")),
]
META_SCORE = [
    *(
        (f"frames are `{_words(value)}`", entry(value), NO_SEQUENCE)
        for value in (3, "00000", None, {}, [], [3], [None], [["00000"]], [True], [""], ["."], ["a\0"])
    ),
    *((f"a frame is `{value}`", entry([value]), NO_SEQUENCE) for value in ("../../../secret", "/etc/passwd", "x/y")),
    ("a frame named by 5,000 digits", entry([LONG]), NO_SEQUENCE),
    ("a frame twice", entry(["00000", "00000"]), "the same frame"),
    ("a frame under two names", entry(["0", "00"]), "the same frame"),
    ("a frame that is not there", entry(["00000", "99999"]), "99999.png is missing; meta.json"),
    ("an object is a number", {"videos": {"v": {"objects": {"1": 3}}}}, NO_SEQUENCE),
    ("an object is a list", {"videos": {"v": {"objects": {"1": [3]}}}}, NO_SEQUENCE),
    ("an object without frames", {"videos": {"v": {"objects": {"1": {}}}}}, NO_SEQUENCE),
    ("`seen` is a text", entry(seen="no"), NO_SEQUENCE),
]


def read_list(folder, content):
    tree(folder, entry())
    shutil.move(folder / "valid" / "JPEGImages", folder / "JPEGImages" / "480p")
    shutil.move(folder / "valid" / "Annotations", folder / "Annotations" / "480p")
    path = folder / "ImageSets" / "2017" / "val.txt"
    path.parent.mkdir(parents=True)
    make_file(path, content)
    read_dataset(folder, layout="davis2017")


LIST = [
    ("an empty file", b"", "names no sequence"),
    ("blank lines", b"\n\n", "names no sequence"),
    ("bytes that are no text", b"\xff\xfe\xfa", "cannot be read"),
    ("a path out of the root", b"../v", PLAIN),
    ("an absolute path", b"/etc", PLAIN),
    ("a zero byte", b"v\0\n", PLAIN),
    ("a line of a million letters", b"v" * 10**6, PLAIN),
    ("a sequence that is not there", b"w\n", "lack a folder"),
    ("100,000 sequences that are not there", b"\n".join(b"%d" % i for i in range(10**5)), "lack a folder"),
    ("a named pipe", os.mkfifo, "missing"),
    ("a folder", os.mkdir, "missing"),
    ("a device that never ends", lambda path: path.symlink_to("/dev/zero"), "missing"),
]


def read_conditions(folder, text):
    tree(folder, entry())
    (folder / "valid" / "Annotations" / "v" / "conditions.csv").write_text(f"frame_idx,condition,strength\n{text}")
    read_dataset(folder, layout="ytvos")[0].conditions()


CONDITIONS = [
    ("no rows", "", "0 rows"),
    ("words for frames", "a,x,0\nb,x,0\nc,x,0\n", "one for each frame"),
    ("not a number", "0,x,0\n1,x,\n2,x,0\n", "no number from 0 to 1"),
    ("a strength in words", "0,x,0\n1,x,much\n2,x,0\n", "no number from 0 to 1"),
    ("a strength of 5", "0,x,0\n1,x,5\n2,x,inf\n", "no number from 0 to 1"),
]


def read_picture(folder, make):
    path = folder / "0.png"
    make(path)
    read_frame(path)


def read_prompt(folder, make):
    path = folder / "0.png"
    make(path)
    read_mask(path)


ENDLESS = [
    ("a named pipe", os.mkfifo, "is no file with a picture"),
    ("a device that never ends", lambda path: path.symlink_to("/dev/zero"), "is no file with a picture"),
    ("a folder", os.mkdir, "is no file with a picture"),
    ("a link to itself", lambda path: path.symlink_to(path), "cannot be read"),
    ("nothing", lambda path: None, "cannot be read"),
    ("an empty file", lambda path: path.write_bytes(b""), "the file is empty"),
]

# --- profiles ---


def read_profile(folder, change):
    """The smoke profile with the line of one key replaced, or another text."""
    text = (paths.PARAMS / "smoke.yaml").read_text()
    if isinstance(change, tuple):
        key, value = change
        text, count = re.subn(rf"(?m)^  {key}:.*$", lambda _: f"  {key}: {value}", text, count=1)
        assert count == 1
    path = folder / "p.yaml"
    make_file(path, text if isinstance(change, tuple) else change)
    load_params(path=path)


YAML, WRONG = "cannot be read as YAML", "must be"
BOMB = "[&a [1, 2], " + ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi")) + "]"
PROFILE = [
    ("a list nested 5,000 deep", "a: " + "[" * DEEP + "]" * DEEP, "nested too deep"),
    ("a mapping nested 5,000 deep", "{a: " * DEEP + "1" + "}" * DEEP, "nested too deep"),
    ("an object of Python's", "a: !!python/object/apply:os.system [id]", YAML),
    ("an unknown tag", "a: !foo 3", YAML),
    ("two documents", "a: 1\n---\nb: 1\n", YAML),
    ("a zero byte", "a: \0", YAML),
    ("an empty file", "", "a mapping of keys"),
    ("a list", "- a", "a mapping of keys"),
    ("`seed` is a list of lists, 2 * 9^8 numbers in all", ("seed", BOMB), WRONG),
    ("a list that holds itself", "model: &a [*a]", "model"),
    ("a key that is a number", "1: 2", "is missing"),
    ("a name of its own", "profile: ../../x", "named after its file"),
    *(
        (f"`seed` is `{_words(value)[1:-1]}`", ("seed", value), WRONG)
        for value in ("2020-01-01", "9" * 400, "-1", "1e3", ".nan", "yes", "~", "[1]", "{a: 1}", "0x" + "f" * DEEP)
    ),
    ("`seed` has 5,000 digits", ("seed", LONG), YAML),
    ("`seed` is the 45th of a month", ("seed", "2020-13-45"), YAML),
    *((f"`logit_spread` is `{_}`", ("logit_spread", _), WRONG) for _ in (".nan", "-.inf", "1e400", "true")),
    *((f"`budgets` is `{_}`", ("budgets", _), WRONG) for _ in ("[.nan]", "[0.4, x]", "{}", "[[0.4]]")),
    ("`config` is a date", ("config", "2020-01-01"), WRONG),
    ("a named pipe", os.mkfifo, "it is no file"),
    ("a device that never ends", lambda path: path.symlink_to("/dev/zero"), "it is no file"),
    ("a folder", os.mkdir, "it is no file"),
]

# --- products between stages ---


def read_product(folder, make):
    path = folder / "product.npz"
    make(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "MOST_UNPACKED", 10**5)
        artifacts.read_npz(path)["w"]


def arrays(**content):
    def make(path):
        with path.open("wb") as file:
            np.savez(file, **content)

    return make


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", bytes(10**6))


def promise(shape):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive, archive.open("w.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})

    return make


SCHEMA, UNREADABLE = "expected 1; delete the file", "cannot be read"
NPZ = [
    ("an array that is missing", arrays(schema=np.int64(1), v=np.ones(2)), "no entry 'w', it has v"),
    ("objects of Python's", arrays(schema=np.int64(1), w=np.array([{}], object)), UNREADABLE),
    *(
        (f"schema version is `{_words(value)}`", arrays(schema=np.array(value), w=np.ones(2)), SCHEMA)
        for value in ([1, 1], "x", 1.5, NAN, [], 10**18, "1")
    ),
    ("no schema version", arrays(w=np.ones(2)), SCHEMA),
    ("an archive that unpacks to more than is allowed", bomb, "unpacks to"),
    ("10^18 numbers promised", promise((10**18, 10)), UNREADABLE),
    ("10^13 numbers promised", promise((10**13,)), UNREADABLE),
    ("a bare array", lambda path: np.save(path.open("wb"), np.ones(2)), UNREADABLE),
    ("an empty file", lambda path: path.write_bytes(b""), UNREADABLE),
    ("a named pipe", os.mkfifo, "it is no file"),
]


def read_json_product(folder, content):
    path = folder / "product.json"
    make_file(path, content)
    artifacts.read_json(path)["blocks"]


JSON = [
    ("an entry that is missing", '{"schema": 1, "block": []}', "no entry 'blocks', it has block"),
    ("a list", "[1]", "found list"),
    ("pairs in a list", '[["schema", 1]]', "found list"),
    ("words of two letters in a list", '["ab", "cd"]', "found list"),
    *((f"schema version is `{_}`", f'{{"schema": {_}}}', SCHEMA) for _ in ('"a"', "[1]", "1.5", "null", "{}")),
    ("schema version is infinite", '{"schema": Infinity}', UNREADABLE),
    ("not a number", '{"schema": 1, "blocks": NaN}', UNREADABLE),
    ("nested a million deep", "[" * 10**6, UNREADABLE),
    ("a number of 5,000 digits", LONG, UNREADABLE),
    ("a named pipe", os.mkfifo, "it is no file"),
    ("a device that never ends", lambda path: path.symlink_to("/dev/zero"), "it is no file"),
]


def read_table_product(folder, content):
    path = folder / "product.csv"
    make_file(path, content)
    artifacts.read_table(path, columns=("a", "b"))


CSV = [
    ("an empty file", b"", UNREADABLE),
    ("a column that is missing", b"a,c\n1,2\n", "no column b"),
    ("a row that is too long", b"a,b\n1,2\n1,2,3,4\n", UNREADABLE),
    ("a quote without an end", b'a,b\n"1,2\n', UNREADABLE),
    ("bytes that are no text", b"\xff\xfe\x00", UNREADABLE),
    ("another encoding", "a,b\né,2\n".encode("latin1"), UNREADABLE),
    ("a named pipe", os.mkfifo, "it is no file"),
    ("a device that never ends", lambda path: path.symlink_to("/dev/zero"), "it is no file"),
]

# --- notebooks ---


def read_notebook(folder, content):
    (folder / "02_importance.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "NOTEBOOKS", folder)
        notebook.parameters(notebook.read("02_importance"))


def read_source(folder, content):
    (folder / "02_importance.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "NOTEBOOKS", folder)
        patch.setattr(paths, "BUILD", folder / "build")
        try:
            notebook.write_source("02_importance")
        finally:
            assert not (folder / "build").exists()


def cells(*found, version=4):
    return json.dumps({"cells": list(found), "metadata": {}, "nbformat": version, "nbformat_minor": 5})


def cell(source, tags=("parameters",)):
    about = {"cell_type": "code", "id": "a", "outputs": [], "execution_count": None}
    return about | {"metadata": {"tags": tags}, "source": source}


NONE = "is no notebook that can be read"
BROKEN = [
    ("no JSON", "hello", NONE),
    ("marks of a merge", "<<<<<<< HEAD\n{}", NONE),
    ("an empty file", "", NONE),
    ("a list", "[]", NONE),
    ("a number", "3", NONE),
    ("no cells", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', NONE),
    ("cells that are numbers", cells(3), NONE),
    ("a cell without a type", cells({}), NONE),
    ("a source that is a number", cells(cell(3)), NONE),
    ("tags that are a number", cells(cell("a = 1", tags=3)), NONE),
    ("nested 100,000 deep", "[" * 100_000, NONE),
    ("bytes that are no text", b"\xff\xfe\xfa", "cannot be read"),
]
NOTEBOOK = [
    *BROKEN,
    ("a version of the format to come", cells(version=99), NONE),
    ("a call among the parameters", cells(cell('a = open("x")')), "is not `name = literal`"),
    ("parameters that are no Python", cells(cell("a = (")), "cannot be read as Python"),
    ("parameters nested 500 deep", cells(cell("a = " + "(" * 500 + ")" * 500)), "cannot be read as Python"),
    ("a zero byte", cells(cell('a = "\0"')), "cannot be read as Python"),
]

KINDS = [
    Kind("RDS file", "r.safetensors", read_rds_with, RDS),
    Kind("Checkpoint", "", read_checkpoint_with, CHECKPOINT),
    Kind("Checkpoint of another model", "weights.safetensors", build_misfit, MISFIT),
    Kind("Id on the hub", "facebook/", build_from_hub, HUB),
    Kind("Budget", "budget is", build_with, BUDGET),
    Kind("meta.json, read", "meta.json", read_tree, META_READ),
    Kind("meta.json, scored", "", score_tree, META_SCORE),
    Kind("List of sequences", "val.txt", read_list, LIST),
    Kind("Conditions of a clip", "conditions.csv", read_conditions, CONDITIONS),
    Kind("Frame", "0.png", read_picture, ENDLESS),
    Kind("Mask", "0.png", read_prompt, ENDLESS),
    Kind("Profile", "p.yaml", read_profile, PROFILE),
    Kind("Arrays of a stage (npz)", "product.npz", read_product, NPZ),
    Kind("Numbers of a stage (JSON)", "product.json", read_json_product, JSON),
    Kind("Table of a stage (CSV)", "product.csv", read_table_product, CSV),
    Kind("Notebook that is run", "", read_notebook, NOTEBOOK),
    Kind("Notebook whose code is read", "02_importance.ipynb", read_source, BROKEN),
]
ALL = [pytest.param(kind, *case[1:], id=f"{kind.slug}: {case[0][:40]}") for kind in KINDS for case in kind.cases]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind, value, says", ALL)
def test_a_file_that_lies_ends_in_one_error_that_names_it(kind, value, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RDSInputError) as caught:
        kind.act(tmp_path, value)
    message = str(caught.value)
    assert says in message and kind.file in message and len(message) < 1500
    assert not (tmp_path / "ran").exists() and not list(tmp_path.rglob(".tmp-*")), "nothing is run or left"


def test_the_page_of_outcomes_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/test_bad_input.py"


def page() -> str:
    """The tables above as Markdown."""
    parts = [
        "# What bad input does",
        "Made from the tables in `tests/test_bad_input.py`, each row of which is a test: the input ends in one "
        "`RDSInputError`\nthat names the file, on the command line in one line and exit code 2. Nothing of a file is "
        "executed, and nothing is\nleft half-written.",
    ]
    for kind in KINDS:
        rows = [f"| {_safe(what)} | {_safe(says)} |" for what, _, says in kind.cases]
        parts.append("\n".join([f"## {kind.name}\n", "| input | the error says |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _safe(text) -> str:
    return text.replace("|", "\\|").replace("\0", "\\0")


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE}\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
