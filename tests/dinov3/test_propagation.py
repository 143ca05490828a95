"""The propagation of labels: known neighbours, ties, borders, and NumPy's word against tile by tile."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rds_lib.dinov3.propagation import DinoClips, Protocol, class_scores, patch_labels, propagate, propagate_dense


def by_hand(features, context, labels, protocol):
    """The protocol patch by patch, in NumPy."""
    h, w, _ = features.shape
    found = np.zeros((h, w, labels.shape[-1]))
    for y in range(h):
        for x in range(w):
            rows = [
                (float(features[y, x] @ context[t, v, u]), labels[t, v, u])
                for t in range(len(context))
                for v in range(h)
                for u in range(w)
                if (v - y) ** 2 + (u - x) ** 2 <= protocol.radius**2
            ]
            least = sorted((likeness for likeness, _ in rows), reverse=True)[: protocol.top][-1]
            kept = [(likeness, label) for likeness, label in rows if likeness >= least]
            weights = np.exp([likeness / protocol.temperature for likeness, _ in kept])
            found[y, x] = (weights[:, None] * [label for _, label in kept]).sum(0) / weights.sum()
    return found / found.sum(-1, keepdims=True)


@pytest.fixture
def frames():
    """Random features of length 1 and soft labels on an odd grid, larger than a tile."""
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(11, 19, 16, generator=generator), dim=-1)
    context = F.normalize(torch.randn(3, 11, 19, 16, generator=generator), dim=-1)
    return features, context, torch.rand(3, 11, 19, 4, generator=generator).softmax(-1)


@pytest.mark.parametrize("radius", [12.0, 3.0])
def test_tiles_all_pairs_and_numpy_agree(frames, radius):
    protocol = Protocol(radius=radius)
    tiled = propagate(*frames, protocol)
    dense = propagate_dense(*(part[None] for part in frames), protocol)[0]
    assert (tiled - dense).abs().max() < 1e-6
    assert np.abs(tiled.numpy() - by_hand(*(part.double().numpy() for part in frames), protocol)).max() < 1e-5
    assert torch.allclose(tiled.sum(-1), torch.ones(11, 19))


def one_hot(index, size=12):
    return F.one_hot(torch.as_tensor(index), size).float()


def test_a_patch_takes_the_label_of_its_likeness_even_at_the_rim_of_the_radius():
    """One patch moves by exactly the radius; one pixel more and it is not found."""
    context, labels = one_hot(torch.zeros(1, 1, 15, dtype=torch.long)), torch.zeros(1, 1, 15, 2)
    context[0, 0, 1], labels[..., 0] = one_hot(5), 1
    labels[0, 0, 1] = torch.tensor([0.0, 1.0])
    features = one_hot(torch.zeros(1, 15, dtype=torch.long))
    features[0, 13] = one_hot(5)
    protocol = Protocol(top=1)
    assert propagate(features, context, labels, protocol)[0, 13].tolist() == [0, 1]
    features[0, 14], features[0, 13] = one_hot(5), one_hot(0)
    found = propagate(features, context, labels, protocol)[0, 14]
    assert found[1] == 0, "nothing alike within the radius: the ties of all others are background"


def test_ties_share_their_labels():
    context, labels = one_hot(torch.zeros(1, 1, 4, dtype=torch.long)), torch.eye(4)[None, None]
    features = one_hot(torch.zeros(1, 4, dtype=torch.long))
    assert propagate(features, context, labels, Protocol(top=1))[0, 0].tolist() == pytest.approx([0.25] * 4)


def test_the_most_alike_are_chosen_over_all_frames_together():
    context = F.normalize(torch.tensor([[[[1.0, 0.5]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]]), dim=-1)  # three frames
    labels = torch.eye(3)[:, None, None]
    found = propagate(torch.tensor([[[1.0, 0.0]]]), context, labels, Protocol(top=2))[0, 0]
    first, second = np.exp(context[:2, 0, 0, 0].numpy() / 0.2)
    assert found.tolist() == pytest.approx([first / (first + second), second / (first + second), 0])


def test_scores_stretch_every_class_and_an_absent_one_stays_at_zero():
    labels = torch.tensor([[[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.8, 0.2, 0.0]]])
    scores = class_scores(labels)
    assert scores[0, :, 0].tolist() == pytest.approx([1, 0, 2 / 3], abs=1e-6)
    assert scores[0, :, 1].tolist() == pytest.approx([0, 1, 1 / 3], abs=1e-6) and (scores[..., 2] == 0).all()


def test_masks_become_labels_of_patches():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :8, :8] = True
    labels = patch_labels(masks, (2, 2))
    assert labels[0, 0].tolist() == [0, 1, 0] and labels[1, 1].tolist() == [1, 0, 0]


class Still:
    """A backbone whose features are the pixels' places: every patch is most alike to itself."""

    def features(self, count, side=6):
        place = torch.eye(side * side).view(1, side, side, -1)
        return place.expand(count, -1, -1, -1).clone().requires_grad_()


def test_clips_keep_a_still_object_and_the_loss_reaches_the_features():
    targets = torch.zeros(2, 3, 48, 48)
    targets[0, :, :16, :16] = targets[1, :, 16:32, 8:24] = 1
    features = [Still().features(2) for _ in range(3)]
    clips = DinoClips(None, Protocol(top=1))
    outputs = clips.track(targets, lambda t, previous: features[t])
    loss, iou = clips.loss(outputs, targets)
    assert iou == 1 and loss < 1e-3
    assert [out.mask_logits.shape for out in outputs] == [(2, 1, 48, 48)] * 3
    soft = DinoClips(None)
    loss, _ = soft.loss(soft.track(targets, lambda t, previous: features[t]), targets)
    loss.backward()
    assert all(part.grad.abs().max() > 0 for part in features)
    empty = clips.track(torch.zeros(1, 2, 48, 48), lambda t, previous: Still().features(1))
    assert (empty[1].mask_logits < 0).all()


def test_the_context_is_the_first_frame_and_the_most_recent_ones(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "rds_lib.dinov3.propagation.propagate_dense",
        lambda features, context, labels, protocol: seen.append(context[0, :, 0, 0, 0].tolist()) or labels[:, 0],
    )
    frames = [torch.full((1, 2, 2, 3), float(t)) for t in range(6)]
    DinoClips(None, Protocol(context=2)).track(torch.zeros(1, 6, 4, 4), lambda t, _: frames[t])
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
