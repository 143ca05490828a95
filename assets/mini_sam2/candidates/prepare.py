"""python prepare.py DAVIS_240 BSDS500 OUT

Shrink what the GPU machine trains on: DAVIS-240's training list and BSDS500's train and test photographs with their object-like regions."""
import sys
from pathlib import Path
import numpy as np, cv2
from PIL import Image
from rds_lib.data.datasets import read_dataset
from rds_lib.data import textures
out = Path(sys.argv[3]); out.mkdir(exist_ok=True)
import io, pickle
S = 192
seqs = {}
for s in read_dataset(Path(sys.argv[1]), layout="davis2017", split="train"):
    frames, labels = [], []
    for t in s.annotated:
        f = s.frame(t); h, w = f.shape[:2]; k = 208 / h
        small = cv2.resize(f, (round(w * k), 208), interpolation=cv2.INTER_AREA)
        frames.append(cv2.imencode(".webp", small[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 76])[1])
        lab = np.zeros(s.size, np.uint8)
        for i, m in s.masks(t).items(): lab[m] = i
        labels.append(cv2.imencode(".png", cv2.resize(lab, small.shape[1::-1], interpolation=cv2.INTER_NEAREST))[1])
    seqs[s.name] = (frames, labels)
print(len(seqs), sum(len(a) for f, l in seqs.values() for a in f) / 1e6, sum(len(a) for f, l in seqs.values() for a in l) / 1e6)
arrays = {}
for name, (f, l) in seqs.items():
    for kind, items in (("f", f), ("l", l)):
        arrays[f"{name}/{kind}"] = np.concatenate([a.ravel() for a in items]); arrays[f"{name}/{kind}n"] = np.array([a.size for a in items])
np.savez(out / "davis.npz", **arrays)
root = sys.argv[2]; textures.MAX_SIDE = 320
photos, sprites = [], []
for split in ("train",):
    for p in textures.bsds_photographs(root, split): photos.append(cv2.imencode(".webp", p[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 76])[1])
textures.MAX_SIDE = 640; textures._read_rgb.__globals__["MAX_SIDE"] = 640
for o in textures.bsds_objects(root, "train"):
    h, w = o.mask.shape; k = min(1.0, 128 / max(h, w)); size = (max(8, round(w * k)), max(8, round(h * k)))
    rgb = cv2.resize(np.ascontiguousarray(o.rgb), size, interpolation=cv2.INTER_AREA); m = cv2.resize(o.mask, size, interpolation=cv2.INTER_AREA)
    sprites.append((cv2.imencode(".webp", rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 84])[1], cv2.imencode(".png", (m > 127).astype(np.uint8) * 255)[1]))
pack = lambda items: (np.concatenate([a.ravel() for a in items]), np.array([a.size for a in items]))
arr = {}
arr["photos"], arr["photosn"] = pack(photos); arr["rgb"], arr["rgbn"] = pack([a for a, _ in sprites]); arr["m"], arr["mn"] = pack([b for _, b in sprites])
np.savez(out / "bsds.npz", **arr)
print(len(photos), len(sprites))
