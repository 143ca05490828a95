"""Base training with clips made on the device: crops of real videos, and photographs' objects moving over photographs."""
import os, sys, time, math, json, argparse
sys.path.insert(0, os.getcwd())
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, cv2, torch
import torch.nn.functional as F
from rds_lib.model.encoder import encode_image
from rds_lib.model.losses import clip_iou, sam2_loss
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.model.clip_tracking import Prompt, frame_by_frame, track_clip
from rds_lib.training.run import Averaged, learning_rate, optimizer_step
from rds_lib.core.artifacts import write_tensors
ap = argparse.ArgumentParser()
ap.add_argument("--config", default="mini"); ap.add_argument("--seconds", type=float, default=330); ap.add_argument("--out", required=True)
ap.add_argument("--batch", type=int, default=48); ap.add_argument("--lr", type=float, default=5e-4); ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--max-steps", type=int, default=100000); ap.add_argument("--real", type=float, default=0.5)
o = ap.parse_args()
dev = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_float32_matmul_precision("high"); torch.backends.cudnn.allow_tf32 = True; torch.backends.cudnn.benchmark = True
if dev == "cuda": torch.set_num_threads(4)
rng = np.random.default_rng(o.seed); torch.manual_seed(o.seed)
MEAN = torch.tensor((0.485, 0.456, 0.406), device=dev).view(1, 3, 1, 1); STD = torch.tensor((0.229, 0.224, 0.225), device=dev).view(1, 3, 1, 1)
data = Path("build/device")
def unpack(z, k):
    flat, n = z[k], z[k + "n"]; ends = np.cumsum(n); return [flat[e - m:e] for e, m in zip(ends, n)]
pool = ThreadPoolExecutor(8)
rgb_of = lambda b: cv2.cvtColor(cv2.imdecode(b, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
gray_of = lambda b: cv2.imdecode(b, cv2.IMREAD_GRAYSCALE)
t0 = time.time()
z = np.load(data / "davis.npz"); names = sorted({k.split("/")[0] for k in z.files})
HELD = names[3::7]
videos, held = [], []
for n in names:
    f = np.stack(list(pool.map(rgb_of, unpack(z, n + "/f")))); l = np.stack(list(pool.map(gray_of, unpack(z, n + "/l"))))
    ids = [i for i in np.unique(l) if i]
    areas = np.stack([(l == i).mean((1, 2)) for i in ids], 1)
    cx = np.array([[((np.nonzero((l[t] == i).any(0))[0].mean()) if areas[t, k] else 0) for k, i in enumerate(ids)] for t in range(len(l))])
    cy = np.array([[((np.nonzero((l[t] == i).any(1))[0].mean()) if areas[t, k] else 0) for k, i in enumerate(ids)] for t in range(len(l))])
    v = dict(name=n, f=torch.from_numpy(f).permute(0, 3, 1, 2).contiguous().to(dev), l=torch.from_numpy(l).to(dev), ids=ids, areas=areas, cx=cx, cy=cy)
    (held if n in HELD else videos).append(v)
z = np.load(data / "bsds.npz")
photos = [torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1).to(dev) for a in pool.map(rgb_of, unpack(z, "photos"))]
sprites = []
for a, b in zip(pool.map(rgb_of, unpack(z, "rgb")), pool.map(gray_of, unpack(z, "m"))):
    m = torch.from_numpy((b > 127).astype(np.float32))[None]; sprites.append(torch.cat([torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1).float() / 255, m]).to(dev))
print(f"{o.config}: data on the device after {time.time() - t0:.0f} s; {len(videos)} videos, held out {HELD}, {len(photos)} photos, {len(sprites)} objects", flush=True)

def recolour(x, g):
    gain = torch.tensor(np.exp(g.normal(0, .2, 3) + g.normal(0, .2)), dtype=torch.float32, device=dev).view(1, 3, 1, 1)
    return (x * gain + g.normal(0, .05)).clamp(0, 1)

def real_clip(g, T, S):
    while True:
        v = videos[g.integers(len(videos))]; n = len(v["areas"])
        step = int(g.integers(1, min(4, max(2, n // T + 1)))) if n >= T else 1
        if n < step * (T - 1) + 1: continue
        s = int(g.integers(n - step * (T - 1))); t = np.arange(s, s + step * (T - 1) + 1, step)
        if g.random() < .5: t = t[::-1].copy()
        k = int(g.integers(len(v["ids"])))
        if v["areas"][t[0], k] < .003: continue
        break
    f, l = v["f"][t].float() / 255, (v["l"][t] == int(v["ids"][k])).float()[:, None]
    H, W = f.shape[2:]
    h, w = int(H * g.uniform(.55, 1)), int(W * g.uniform(.45, 1))
    cy, cx = v["cy"][t[0], k], v["cx"][t[0], k]
    y = int(np.clip(cy - h * g.uniform(.2, .8), 0, H - h)); x = int(np.clip(cx - w * g.uniform(.2, .8), 0, W - w))
    f, l = f[:, :, y:y + h, x:x + w], l[:, :, y:y + h, x:x + w]
    f = F.interpolate(f, (S, S), mode="bilinear", antialias=True, align_corners=False); l = F.interpolate(l, (S, S), mode="bilinear", antialias=True, align_corners=False)
    if g.random() < .5: f, l = f.flip(3), l.flip(3)
    return recolour(f, g), (l[:, 0] > .5).float()

def path(g, T, scale, lo=-.8, hi=.8):
    """A smooth path of T points: a start, a velocity, a slow swing."""
    t = np.linspace(0, 1, T); a = g.uniform(lo, hi, 2); b = a + g.normal(0, scale, 2)
    swing = g.normal(0, scale / 3, 2)[None] * np.sin(2 * np.pi * (t * g.uniform(.3, 1.2) + g.random()))[:, None]
    return (1 - t)[:, None] * a + t[:, None] * b + swing

def made_clip(g, T, S):
    photo = photos[g.integers(len(photos))].float()[None] / 255
    zoom = g.uniform(.45, .9); p = path(g, T, .12, -.3, .3); zt = zoom * np.exp(np.linspace(0, g.normal(0, .12), T))
    theta = torch.zeros(T, 2, 3, device=dev); c = torch.tensor(np.c_[zt, p], dtype=torch.float32, device=dev)
    theta[:, 0, 0] = c[:, 0]; theta[:, 1, 1] = c[:, 0]; theta[:, 0, 2] = c[:, 1]; theta[:, 1, 2] = c[:, 2]
    frame = F.grid_sample(photo.expand(T, -1, -1, -1), F.affine_grid(theta, (T, 3, S, S), align_corners=False), align_corners=False, padding_mode="reflection")
    n = int(g.integers(1, 5)); target = int(g.integers(n)); mask = None; first = g.integers(len(sprites)); clones = g.random() < .3
    for i in range(n):
        sp = sprites[first if clones else g.integers(len(sprites))]
        hs, ws = sp.shape[1:]
        size = g.uniform(.18, .55) * np.exp(np.linspace(0, g.normal(0, .25), T)); asp = ws / hs * np.exp(g.normal(0, .1))
        sx, sy = size * np.sqrt(asp), size / np.sqrt(asp)
        ang = g.normal(0, .3) + np.linspace(0, g.normal(0, .5), T); pos = path(g, T, .45 if g.random() < .7 else 1.1)
        if i == target: pos[0] = np.clip(pos[0], -.85, .85)
        shear = g.normal(0, .15) * np.sin(2 * np.pi * (np.linspace(0, 1, T) * g.uniform(.5, 2) + g.random()))
        ca, sa = np.cos(ang), np.sin(ang)
        A = np.zeros((T, 2, 3)); A[:, 0, 0] = ca / sx; A[:, 0, 1] = sa / sx + shear; A[:, 1, 0] = -sa / sy; A[:, 1, 1] = ca / sy
        A[:, :, 2] = -np.einsum("tij,tj->ti", A[:, :, :2], pos)
        if g.random() < .5: A[:, 0] *= -1
        out = F.grid_sample(sp[None].expand(T, -1, -1, -1), F.affine_grid(torch.tensor(A, dtype=torch.float32, device=dev), (T, 4, S, S), align_corners=False), align_corners=False)
        col = (out[:, :3] / out[:, 3:].clamp(min=.5)); light = torch.tensor(np.exp(np.linspace(0, g.normal(0, .25), T)), dtype=torch.float32, device=dev).view(T, 1, 1, 1)
        if clones or g.random() < .3: col = recolour(col, g)
        alpha = out[:, 3:]
        if g.random() < .12 and i != target:  # a late occluder
            alpha = alpha * (torch.arange(T, device=dev) >= int(g.integers(1, T))).float().view(T, 1, 1, 1)
        frame = frame * (1 - alpha) + (col * light).clamp(0, 1) * alpha
        if i == target: mask = alpha[:, 0]
        elif mask is not None: mask = mask * (1 - alpha[:, 0])
    mask = (mask > .5).float()
    if mask[0].mean() < .003: return made_clip(g, T, S)
    frame = recolour(frame, g)
    if g.random() < .3: frame = F.avg_pool2d(frame, 3, 1, 1)
    return (frame + .02 * torch.randn_like(frame) * float(g.random())).clamp(0, 1), mask

def batch_of(step, B, T, S):
    g = np.random.default_rng([o.seed, step])
    clips = [real_clip(g, T, S) if g.random() < o.real else made_clip(g, T, S) for _ in range(B)]
    x = torch.stack([c[0] for c in clips]); y = torch.stack([c[1] for c in clips])
    return ((x - MEAN) / STD), y

def prompt_of(kind, y):
    B, S = len(y), y.shape[-1]
    if kind == "mask": return Prompt(masks=y[:, None])
    if kind == "point":
        flat = (torch.rand_like(y) * (y > .5)).flatten(1).argmax(1)
        return Prompt(points=torch.stack([flat % S, flat // S], -1)[:, None].float() + .5, labels=torch.ones(B, 1, dtype=torch.int32, device=dev))
    idx = torch.arange(S, device=dev).float(); ya, xa = (y > .5).any(2), (y > .5).any(1)
    lo = lambda a: torch.where(a, idx, S).amin(1); hi = lambda a: torch.where(a, idx, -1.).amax(1) + 1
    box = torch.stack([lo(xa), lo(ya), hi(xa), hi(ya)], 1); side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    box = (box + (torch.rand(B, 4, device=dev) * 2 - 1) * .1 * side).clamp(0, S)
    return Prompt(points=box.view(B, 2, 2), labels=torch.tensor([[2, 3]], dtype=torch.int32, device=dev).expand(B, 2))

def loss_of(model, x, y, kind, still):
    B, T = x.shape[:2]
    encode = frame_by_frame(encode_image(model, x.transpose(0, 1).flatten(0, 1)), B)
    outs = track_clip(model, T, prompt_of(kind, y[:, 0]), encode)
    scored = range(1 if kind == "mask" else 0, T)
    loss = sum(sam2_loss(outs[t], y[:, t]) for t in scored) / len(scored)
    if kind == "mask": loss = loss + sam2_loss(track_clip(model, 1, prompt_of(still, y[:, 0]), encode)[0], y[:, 0])
    return loss, outs

@torch.inference_mode()
def held_iou(model, S, T=24):
    was = model.training; model.eval(); scores = []
    for v in held:
        for k, i in enumerate(v["ids"]):
            n = min(T, len(v["l"]))
            if v["areas"][0, k] < .001: continue
            x = F.interpolate(v["f"][:n].float() / 255, (S, S), mode="bilinear", antialias=True, align_corners=False)
            y = F.interpolate((v["l"][:n] == int(i)).float()[:, None], (S, S), mode="area")[:, 0].gt(.5).float()
            x = ((x - MEAN) / STD)[None]
            outs = track_clip(model, n, prompt_of("mask", y[None, 0]), lambda t, p: model.forward_image(x[:, t]))
            scores.append(clip_iou(outs, y[None]))
    model.train(was); return float(np.mean(scores))

model = build_model(o.config, None, device=dev).train()
S = model.image_size if hasattr(model, "image_size") else 192
set_image_size(model, S)
print("held-out IoU at the start", round(held_iou(model, S), 4), flush=True)
groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": .05}, {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.}]
opt = torch.optim.AdamW(groups, lr=o.lr, fused=dev == "cuda"); avg = Averaged(model, .999); params = list(model.parameters())
start = time.time(); step = 0; log = []; shares = (("mask", .8), ("box", .1), ("point", .1))
while step < o.max_steps:
    u = (time.time() - start) / o.seconds
    if u >= 1: break
    T, B = (8, o.batch) if u < .55 else (16, o.batch // 2)
    lr = o.lr * min(1, (step + 1) / 200) * (.02 + .98 * .5 * (1 + math.cos(math.pi * u)))
    for gp in opt.param_groups: gp["lr"] = lr
    g = np.random.default_rng([o.seed + 1, step]); kind = str(g.choice([k for k, _ in shares], p=[p for _, p in shares])); still = str(g.choice(["box", "point"]))
    x, y = batch_of(step, B, T, S)
    loss, outs = loss_of(model, x, y, kind, still)
    opt.zero_grad(set_to_none=True); loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(params, 1.0)
    if torch.isfinite(norm): opt.step()
    avg.update(model)
    if step % 50 == 0:
        log.append(dict(step=step, seconds=round(time.time() - start, 1), frames=T, loss=round(loss.item(), 4), iou=round(clip_iou(outs, y), 4)))
        print(o.config, log[-1], flush=True)
    if step and step % 1000 == 0:
        print(o.config, "held-out IoU now", round(held_iou(model, S), 4), flush=True)
    step += 1
out = Path(o.out); out.mkdir(parents=True, exist_ok=True)
write_tensors(out / f"{o.config}.safetensors", {n: t.half() for n, t in avg.tensors.items()})
model.load_state_dict(avg.tensors); final = held_iou(model, S)
(out / f"{o.config}.json").write_text(json.dumps(dict(config=o.config, steps=step, seconds=time.time() - start, held_out=HELD, held_out_iou=final, device=torch.cuda.get_device_name() if dev == "cuda" else "CPU", torch=torch.__version__, log=log)))
print(o.config, "steps", step, "held-out IoU of the average", round(final, 4), flush=True)
