"""Small data sets of each layout, and ways of breaking them; each with what a check should say of it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
from PIL import Image

from rds_lib.data.images import save_palette_png
from rds_lib.data.writers import write_dataset
from rds_lib.supplies.check import check_dataset

T, H, W = 11, 24, 32
FRAMES = {
    "davis2017": "JPEGImages/480p",
    "sav": "sav_val/JPEGImages_24fps",
    "ytvos": "valid/JPEGImages",
    "mose": "valid/JPEGImages",
    "lvos": "valid/JPEGImages",
}
MASKS = {
    "davis2017": "Annotations/480p",
    "sav": "sav_val/Annotations_6fps",
    "ytvos": "valid/Annotations",
    "mose": "valid/Annotations",
    "lvos": "valid/Annotations",
}
INDEX = {"davis2017": "ImageSets/2017/val.txt", "sav": "sav_val/sav_val.txt", "ytvos": "valid/meta.json"}
INDEX |= {"lvos": "valid/valid_meta.json"}


def make_clip(name):
    """Two rectangles, both in every frame."""
    frames = np.random.default_rng(1).integers(0, 255, (T, H, W, 3), np.uint8)
    masks = np.zeros((T, H, W), np.uint8)
    masks[:, 2:12, 2:14], masks[:, 14:22, 10:30] = 1, 2
    return SimpleNamespace(name=name, frames=frames, masks=masks, categories=("blob", "spider"), conditions=())


def make_set(root, layout):
    clips = [make_clip("ant"), make_clip("cow")]
    if layout in ("mose", "lvos"):
        write_dataset(root / "davis", clips, layout="davis2017")
        (root / "valid").mkdir()
        for kind in ("JPEGImages", "Annotations"):
            (root / "davis" / kind / "480p").rename(root / "valid" / kind)
        shutil.rmtree(root / "davis")
    else:
        write_dataset(root, clips, layout=layout)
    if layout == "lvos":
        span = {"frame_range": {"start": "00000", "end": "00010", "frame_nums": "11"}}
        videos = {name: {"objects": {"1": span, "2": span}} for name in ("ant", "cow")}
        (root / INDEX["lvos"]).write_text(json.dumps({"videos": videos}))


class Set:
    """A copy of a whole set to break."""

    def __init__(self, layout, root):
        self.layout, self.root = layout, root
        self.frames, self.masks = root / FRAMES[layout] / "cow", root / MASKS[layout] / "cow"
        self.index = root / INDEX.get(layout, "none")

    def frame(self, t):
        return self.frames / f"{t:05d}.jpg"

    def mask(self, t):
        return (self.masks / "000" if self.layout == "sav" else self.masks) / f"{t:05d}.png"

    def last_mask(self):
        return sorted(self.mask(0).parent.iterdir())[-1]

    def meta(self, change):
        content = json.loads(self.index.read_text())
        change(content["videos"])
        self.index.write_text(json.dumps(content))

    def object(self, change):
        self.meta(lambda videos: change(videos["cow"]["objects"]["1"]))

    def check(self, **options):
        return check_dataset(self.root, layout=self.layout, **options)


def cut(path, part=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def labels(path, change):
    with Image.open(path) as image:
        content = np.array(image)
    change(content)
    save_palette_png(path, content)


def resized(path, size):
    with Image.open(path) as image:
        small = image.resize(size)
    small.save(path)


def coloured(path):
    with Image.open(path) as image:
        image.convert("RGB").save(path)


def as_jpeg(path, name):
    with Image.open(path) as image:
        image.convert("L").save(path.with_name(name), format="JPEG")
    if name != path.name:
        path.unlink()


def blank(labels):
    labels[:] = 0


def without_two(labels):
    labels[labels == 2] = 0


def with_seven(labels):
    labels[0, 0] = 7


def flipped(path):
    """Bits of the pixels changed, the rest as it was."""
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 8
    content[at : at + 6] = bytes(255 - byte for byte in content[at : at + 6])
    path.write_bytes(bytes(content))


def gone(folder):
    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


ALL = tuple(FRAMES)
FIRST, META = ("davis2017", "mose"), ("ytvos", "lvos")
LISTED, TEXT = ("davis2017", "sav", "ytvos", "lvos"), ("davis2017", "sav")
# what is broken, layouts, how, and of the finding: severity, sequence, ends of its file's path, words
# fmt: off
BROKEN = [
    ("frame that is missing", ("davis2017", "mose", "lvos"), lambda s: gone(s.frame(4)),
     "error: cow: 00004.png: a mask without a frame"),
    ("frames in the middle", ALL, lambda s: [gone(s.frame(t)) for t in (1, 2, 3)],
     "warning: cow: JPEGImages|cow: no frames between 0 and 4"),
    ("no frames", ALL, lambda s: [gone(path) for path in s.frames.iterdir()],
     "error: cow: cow: holds no frames"),
    ("one number twice", ALL, lambda s: shutil.copy(s.frame(3), s.frames / "3.jpg"),
     "error: cow: cow: are the same frame by their names"),
    ("a mask's number twice", ALL, lambda s: shutil.copy(s.mask(0), s.mask(0).with_name("0.png")),
     "error: cow: cow|000: are the same frame by their names"),
    ("a picture of another name", ALL, lambda s: shutil.copy(s.frame(3), s.frames / "cover.jpg"),
     "warning: cow: cow: left out, as not named like"),
    ("frame cut", ALL, lambda s: cut(s.frame(4)),
     "error: cow: 00004.jpg: a damaged image"),
    ("frame without its last bytes", ALL, lambda s: cut(s.frame(4), 0.97),
     "error: cow: 00004.jpg: a damaged image"),
    ("empty frame", ALL, lambda s: s.frame(4).write_bytes(b""),
     "error: cow: 00004.jpg: the file is empty"),
    ("text as frame", ALL, lambda s: s.frame(4).write_text("<html>"),
     "error: cow: 00004.jpg: neither JPEG nor PNG"),
    ("frame of another size", ALL, lambda s: resized(s.frame(4), (16, 16)),
     "error: cow: 00004.jpg: 16x16 px, but the first frame has 32x24"),
    ("first frame of another size", ALL, lambda s: resized(s.frame(0), (16, 16)),
     "error: cow: 00001.jpg: 32x24 px, but the first frame has 16x16"),
    ("mask cut", ALL, lambda s: cut(s.mask(0)),
     "error: cow: 00000.png: a damaged image"),
    ("mask of another size", ALL, lambda s: resized(s.mask(0), (16, 16)),
     "error: cow: 00000.png: 16x16 px, but the frames have 32x24"),
    ("mask with colours", ALL, lambda s: coloured(s.last_mask()),
     "error: cow: 00010.png|00008.png: a mask of mode 'RGB'"),
    ("JPEG mask", ALL, lambda s: as_jpeg(s.mask(0), "00000.jpg"),
     "error: cow: 00000.jpg: coded as JPEG, which blurs labels"),
    ("JPEG named PNG", ALL, lambda s: as_jpeg(s.mask(0), "00000.png"),
     "error: cow: 00000.png: coded as JPEG, which blurs labels"),
    ("mask that is missing", FIRST, lambda s: gone(s.mask(4)),
     "error: cow: cow: no mask for 1 of 11 frames: 00004"),
    ("mask that is missing, LVOS", ("lvos",), lambda s: gone(s.mask(4)),
     "warning: cow: cow: no mask for 1 of 11 frames: 00004"),
    ("first mask alone", FIRST, lambda s: [gone(s.mask(t)) for t in range(1, T)],
     "warning: cow: cow: one frame alone has a mask"),
    ("no masks", ALL, lambda s: [gone(path) for path in s.mask(0).parent.iterdir()],
     "error: cow: cow|000: holds no annotation PNGs"),
    ("empty first mask", FIRST, lambda s: labels(s.mask(0), blank),
     "error: cow: 00000.png: the mask is empty"),
    ("empty first mask, SA-V", ("sav",), lambda s: labels(s.mask(0), blank),
     "warning: cow: 00000.png: empty first masks"),
    ("empty first mask, YouTube-VOS", META, lambda s: labels(s.mask(0), blank),
     "warning: cow: meta.json: begins object 1 at 00000, where the mask does not show it"),
    ("all masks empty", FIRST, lambda s: [labels(path, blank) for path in s.masks.iterdir()],
     "error: cow: 00000.png: the mask is empty"),
    ("all masks empty, SA-V", ("sav",), lambda s: [labels(path, blank) for path in (s.masks / "001").iterdir()],
     "error: cow: 001: no mask shows object 001"),
    ("all masks empty, YouTube-VOS", META, lambda s: [labels(path, blank) for path in s.masks.iterdir()],
     "error: cow: meta.json: names object 1, which no mask shows"),
    ("object that is nowhere", META, lambda s: [labels(path, without_two) for path in s.masks.iterdir()],
     "error: cow: meta.json: names object 2, which no mask shows"),
    ("object of no name", META, lambda s: labels(s.mask(0), with_seven),
     "warning: cow: meta.json: does not name object 7"),
    ("ids with a hole", FIRST, lambda s: labels(s.mask(0), with_seven),
     "warning: cow: 00000.png: shows object 7, but not 3, 4, 5, 6"),
    ("no folder of frames", LISTED, lambda s: gone(s.frames),
     "error: cow: cow: no folder of frames although"),
    ("no folder of masks", LISTED, lambda s: gone(s.masks),
     "error: cow: cow: no folder of masks although"),
    ("no folder of frames, MOSE", ("mose",), lambda s: gone(s.frames),
     "error: cow: cow: no folder of frames"),
    ("no list", ("davis2017", "sav", "ytvos"), lambda s: gone(s.index),
     "error: -: val.txt|meta.json: missing"),
    ("no list, LVOS", ("lvos",), lambda s: gone(s.index),
     "warning: -: valid_meta.json: missing"),
    ("empty list", TEXT, lambda s: s.index.write_text("\n"),
     "error: -: val.txt: names no sequence"),
    ("list with a path", TEXT, lambda s: s.index.write_text("ant\n../cow\n"),
     "error: -: val.txt: expected the plain name"),
    ("name twice", TEXT, lambda s: s.index.write_text("ant\ncow\nant\n"),
     "warning: -: val.txt: names ant more than once"),
    ("folder of no list", TEXT, lambda s: s.index.write_text("ant\n"),
     "warning: -: JPEGImages|480p|24fps: folders of frames that no list names: cow"),
    ("folder of no meta", META, lambda s: s.meta(lambda videos: videos.pop("cow")),
     "warning: -: JPEGImages: folders of frames that no list names: cow"),
    ("meta without objects", META, lambda s: s.meta(lambda videos: videos["cow"].update(objects={})),
     "error: cow: meta.json: names no object of it"),
    ("meta that is none", META, lambda s: s.index.write_text("[1]"),
     "error: -: meta.json: cannot be read"),
    ("meta with a frame too many", ("ytvos",), lambda s: s.object(lambda one: one["frames"].append("00015")),
     "error: cow: meta.json: names frames that are not there: 00015"),
    ("meta without frames", ("ytvos",), lambda s: s.object(lambda one: one.pop("frames")),
     "warning: cow: meta.json: names no frames of object 1"),
    ("mask that meta names", ("ytvos",), lambda s: gone(s.mask(5)),
     "warning: cow: meta.json: names 1 frames that have no mask: 00005"),
    ("end beyond the last frame", ("lvos",), lambda s: s.object(lambda one: one["frame_range"].update(end="00099")),
     "warning: cow: meta.json: names frames that are not there: 00099"),
    ("object folder of no number", ("sav",), lambda s: (s.masks / "001").rename(s.masks / "one"),
     "error: cow: one: no folder of an object"),
    ("one object twice", ("sav",), lambda s: shutil.copytree(s.masks / "001", s.masks / "1"),
     "error: cow: 1: the same object by its number as"),
    ("object left out", ("sav",), lambda s: (s.masks / "001").rename(s.masks / "003"),
     "warning: cow: cow: no folder for objects 001, 002"),
    ("mask outside", ("sav",), lambda s: shutil.copy(s.mask(0), s.masks),
     "error: cow: 00000.png: a mask outside the folders of objects"),
    ("no objects", ("sav",), lambda s: [gone(path) for path in s.masks.iterdir()],
     "error: cow: cow: no folder of an object"),
]
# fmt: on
