"""Outlines of objects that no training clip shows: the unseen categories of the YouTube-VOS-shaped set."""

from collections.abc import Callable

import cv2
import numpy as np


def ring(rng: np.random.Generator, size: int) -> np.ndarray:
    """An ellipse with a hole; uint8 (size, size), 0 or 255."""
    mask = np.zeros((size, size), np.uint8)
    outer = rng.uniform(0.3, 0.46, 2) * size
    thickness = int(rng.uniform(0.35, 0.6) * outer.min())
    middle = tuple(int(side - thickness / 2) for side in outer)
    cv2.ellipse(mask, (size // 2, size // 2), middle, rng.uniform(0, 180), 0, 360, 255, thickness)
    return mask


def star(rng: np.random.Generator, size: int) -> np.ndarray:
    """A star of five to nine points; uint8 (size, size), 0 or 255."""
    points = int(rng.integers(5, 10))
    radius = np.where(np.arange(2 * points) % 2, rng.uniform(0.4, 0.6), 1.0) * 0.46 * size
    angle = rng.uniform(0, 2 * np.pi) + np.arange(2 * points) * np.pi / points
    return _polygon(np.stack([np.cos(angle), np.sin(angle)], -1) * radius[:, None], size)


def arrow(rng: np.random.Generator, size: int) -> np.ndarray:
    """A shaft with a head, turned at random; uint8 (size, size), 0 or 255."""
    shaft, head, neck = rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.44), rng.uniform(-0.1, 0.15)
    half = np.array([(-0.45, shaft), (neck, shaft), (neck, head), (0.45, 0.0)])
    outline = np.concatenate([half, half[::-1] * (1, -1)]) * size
    turn = rng.uniform(0, 2 * np.pi)
    return _polygon(outline @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]), size)


def _polygon(points, size):
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [(points + size / 2).round().astype(np.int32)], 255)
    return mask


UNSEEN: dict[str, Callable] = {"ring": ring, "star": star, "arrow": arrow}
