"""Training clips as tensor operations: recipes go in, frames and masks come out, all clips of a batch at once.

What a clip looks like depends on its recipe alone, not on its place in the batch. On a GPU the stock and the footage
lie in its memory, so nothing but recipes crosses the bus.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rds_lib.data.batches import MEAN, MIN_PIXELS, STD
from rds_lib.pretraining.effects import finish, grain
from rds_lib.pretraining.footage import Footage
from rds_lib.pretraining.recipes import SLOTS, Made, Real
from rds_lib.pretraining.stock import Stock


class Clips(NamedTuple):
    """Clips with objects to follow: K objects in B clips."""

    images: Tensor  # (B, T, 3, S, S) float, normalised as SAM2 does it
    targets: Tensor  # (K, T, S, S) float 0/1
    owner: Tensor  # (K,) int, the clip of each object


class ClipMaker:
    """Turns batches of recipes into clips on a device.

    Parameters
    ----------
    stock : Stock
    footage : Footage, optional
        For recipes of real clips.
    objects : int
        Follow at most so many objects of a clip.
    device : str or torch.device
    """

    def __init__(self, stock: Stock, footage: Footage | None = None, *, objects: int = 1, device="cpu"):
        self.device, self.objects = torch.device(device), objects
        self.grounds, self.sprites = _Bank(stock.grounds, self.device), _Bank(stock.sprites, self.device)
        self.frames = footage and _Bank(footage.frames, self.device)
        self.labels = footage and _Bank(footage.labels, self.device)
        self.noise = grain().to(self.device)

    @torch.no_grad()
    def __call__(self, made: Made | None, real: Real | None, size: int) -> Clips:
        """Make the clips of a batch, the made ones first, as squares of ``size`` px."""
        parts = []
        if made is not None:
            images, labels = self._made(made, size)
            wanted = torch.arange(1, SLOTS + 1).expand(len(labels), -1)
            parts.append((finish(images, made.look, self.noise), labels, wanted))
        if real is not None:
            images, labels = self._real(real, size)
            parts.append((finish(images, real.look, self.noise), labels, real.wanted))
        images, labels, wanted = (torch.cat(each) for each in zip(*parts, strict=True))
        owner, ids = self._choose(labels[:, 0], wanted)
        targets = (labels[owner] == ids[:, None, None, None]).float()
        return Clips((images - MEAN.to(self.device)) / STD.to(self.device), targets, owner)

    def _made(self, made, size):
        """Paint slot after slot over the background: images (B, T, 3, S, S) and labels (B, T, S, S) uint8."""
        canvas = self._grounds(made, size).permute(0, 2, 3, 4, 1).contiguous()  # (B, T, S, S, 3)
        labels = torch.zeros(canvas.shape[:-1], dtype=torch.uint8, device=self.device)
        for slot in range(made.sprite.shape[1]):
            rows = made.present[:, slot].any(1).nonzero()[:, 0]  # known on the CPU: no wait
            sides, corners = _windows(made.sprite_map[rows, slot], made.wave[rows, slot, 0], size)
            for side in sides.unique().tolist():
                some = sides == side
                self._paint(canvas, labels, made, rows[some], slot, side, corners[some])
        return canvas.permute(0, 1, 4, 2, 3), labels

    def _paint(self, canvas, labels, made, rows, slot, side, corners):
        """Paint one slot of some clips, inside windows of ``side`` px with their upper left ``corners`` (R, T, 2)."""
        own = (
            each[rows, slot] for each in (made.sprite_map, made.wave, made.phase, made.tint, made.present, made.number)
        )
        maps, wave, phase, tint, present, number = (each.to(self.device) for each in own)
        where = (corners.to(self.device)[..., None] + torch.arange(side, device=self.device)).unbind(
            2
        )  # 2 x (R, T, side)
        x, y = _grid(maps, *((2 * place + 1) / labels.shape[-1] - 1 for place in where)).unbind(-1)
        bend, wide, high = (each[:, None, None, None] for each in wave.unbind(-1))
        across, along = (each[..., None, None] for each in phase.unbind(-1))
        grid = torch.stack([x + bend * torch.sin(wide * y + across), y + bend * torch.sin(high * x + along)], -1)
        layer = _sampled(self.sprites[made.sprite[rows, slot]], grid, "zeros").permute(0, 2, 3, 4, 1)  # (R, T, h, w, 4)
        layer = layer * present[..., None, None, None]
        frames = torch.arange(present.shape[1], device=self.device)[None, :, None, None]
        at = rows.to(self.device)[:, None, None, None], frames, where[1][..., None], where[0][:, :, None]
        canvas[at] = canvas[at] * (1 - layer[..., 3:]) + layer[..., :3] * tint[:, :, None, None]
        number = number.to(torch.uint8)[:, None, None, None]
        labels[at] = torch.where(layer[..., 3] >= 0.5, number, labels[at])

    def _grounds(self, made, size):
        """Two backgrounds side by side; where both are one, the second is its mirror image, so that no seam shows."""
        left, right = self.grounds[made.ground[:, 0]], self.grounds[made.ground[:, 1]]
        same = (made.ground[:, 0] == made.ground[:, 1]).to(self.device)[:, None, None, None]
        both = torch.cat([left, torch.where(same, left.flip(3), right)], 3)
        return _sampled(both, _grid(made.ground_map.to(self.device), *2 * (_pixels(size, self.device),)), "reflection")

    def _real(self, real, size):
        """Crop frames, twice as fine across because these are shrunk most, and their labels."""
        clips, frames = real.frame.shape
        maps = real.frame_map.to(self.device).flatten(0, 1)[:, None]  # (B T, 1, 2, 3)
        y, fine = _pixels(size, self.device), _pixels(2 * size, self.device)
        pixels = _sampled(self.frames[real.frame.flatten()], _grid(maps, fine, y), "border")[:, :, 0]
        labels = self.labels[real.frame.flatten()] * 255
        labels = _sampled(labels, _grid(maps, y, y), "border", mode="nearest")[:, 0, 0].round().to(torch.uint8)
        images = F.avg_pool2d(pixels, (1, 2))
        return images.view(clips, frames, 3, size, size), labels.view(clips, frames, size, size)

    def _choose(self, labels, wanted):
        """The objects to follow: those that can be seen on frame 0, the first few of each clip: (K,) clips and ids."""
        areas = (labels[:, None] == wanted.to(self.device)[..., None, None]).sum((2, 3)).cpu()  # the one wait
        areas = areas * (wanted > 0)
        seen = areas >= min(MIN_PIXELS * labels[0].numel(), int(areas.max()))
        owner, slot = (seen & (seen.cumsum(1) <= self.objects)).nonzero(as_tuple=True)
        return owner.to(self.device), wanted[owner, slot].to(self.device)


class _Bank:
    """Rows of a uint8 array (N, H, W[, C]), picked as floats in [0, 1] with the channels first: (R, C, H, W)."""

    def __init__(self, array: np.ndarray, device: torch.device):
        self.on_device = None if device.type == "cpu" else torch.from_numpy(np.array(array)).to(device)
        self.array, self.device = array, device

    def __getitem__(self, rows: Tensor) -> Tensor:
        if self.on_device is None:
            picked = torch.from_numpy(self.array[rows.numpy()])
        else:
            picked = self.on_device[rows.to(self.device)]
        picked = picked[..., None] if picked.ndim == 3 else picked
        return picked.movedim(-1, 1).float() / 255


def _windows(maps: Tensor, bend: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Windows of frames of ``size`` px that hold sprites: their sides (R,), a few sizes, and corners (R, T, 2) x, y."""
    forward = torch.linalg.inv(maps[..., :2])  # (R, T, 2, 2)
    middle = -(forward @ maps[..., 2:])[..., 0]
    reach = (forward.abs().sum(-1) * (1 + bend)[:, None, None]).flatten(1).amax(1)  # half sides on the frame, of 1
    sides = torch.full(reach.shape, size)
    for side in (size // 2, size // 4):
        sides[reach * size + 2 <= side] = side
    corners = ((middle + 1) / 2 * size - sides[:, None, None] / 2).round().long()
    return sides, corners.clamp(min=0).minimum(size - sides[:, None, None])


def _pixels(n: int, device) -> Tensor:
    """The middles of n pixels from border to border, (1, 1, n) in [-1, 1]."""
    return ((2 * torch.arange(n, device=device) + 1) / n - 1).view(1, 1, n)


def _grid(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where the pixels with columns x (., ., w) and rows y (., ., h) lie after maps (B, T, 2, 3): (B, T, h, w, 2)."""
    a, x, y = maps[..., None, None], x[:, :, None], y[..., None]  # (B, T, 2, 3, 1, 1)
    return torch.stack([a[:, :, i, 0] * x + a[:, :, i, 1] * y + a[:, :, i, 2] for i in (0, 1)], -1)


def _sampled(images: Tensor, grid: Tensor, padding: str, mode: str = "bilinear") -> Tensor:
    """Sample image b at all T grids of clip b: (B, C, H, W) and (B, T, h, w, 2) -> (B, C, T, h, w).

    The frames of a clip stand below one another in one grid, so that no image is copied for each of them.
    """
    b, t, h, w, _ = grid.shape
    found = F.grid_sample(images, grid.reshape(b, t * h, w, 2), mode=mode, padding_mode=padding, align_corners=False)
    return found.view(b, -1, t, h, w)
