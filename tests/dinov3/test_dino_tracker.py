"""The DINOv3 tracker behind SAM2's methods: masks in and out, routes, objects that come later, and what is refused."""

import os

import numpy as np
import pytest
import torch
from test_propagation import by_hand
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches
from rds_lib.data.clips import generate_clip
from rds_lib.data.images import list_frames
from rds_lib.dinov3.backbone import DinoBackbone
from rds_lib.dinov3.build import build_rds_dino_tracker
from rds_lib.dinov3.propagation import DinoClips, Protocol
from rds_lib.dinov3.tracker import DinoTracker
from rds_lib.model.adapters import add_lora
from rds_lib.model.track import separate, track_sequence
from rds_lib.routing.calibration import calibrate
from rds_lib.routing.deployed import FoldedRouter, PlainRouter
from rds_lib.routing.importance import measure_importance
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds, save_rds
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import train_rds


@pytest.fixture(scope="module")
def vit():
    config = DINOv3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=2,
        patch_size=8,
        image_size=64,
        num_register_tokens=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DINOv3ViTModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def checkpoint(vit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino") / "checkpoint"
    vit.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rds(vit, tmp_path_factory):
    """A router that tells frames apart, and adapters on two blocks."""
    import copy

    clips = DinoClips(DinoBackbone(copy.deepcopy(vit)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        add_lora(clips, [1, 3], rank=2)
        router = PredictionAwareRouter.for_backbone(clips.backbone, hidden=16)
        torch.nn.init.normal_(router.mlp[-1].weight, std=0.5)
    path = tmp_path_factory.mktemp("dino") / "rds.safetensors"
    save_rds(path, router, clips, budgets=[0.5], taus={0.5: 0.5}, config_file="dinov3")
    return path


@pytest.fixture
def tracker(checkpoint):
    return build_rds_dino_tracker(checkpoint, short_side=64, device="cpu")


@pytest.fixture
def video():
    """A bright square that moves to the right over noise, 64 x 96 px."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 60, (1, 64, 96, 3)), 4, 0).astype(np.uint8)
    masks = np.zeros((4, 64, 96), bool)
    for t in range(4):
        masks[t, 16:40, 16 + 8 * t : 40 + 8 * t] = True
    frames[masks] = (250, 200, 10)
    return frames, masks


def test_masks_come_back_at_the_videos_size(tracker, video):
    frames, masks = video
    state = tracker.init_state(frames)
    tracker.add_new_mask(state, 0, 7, masks[0])
    steps = list(tracker.propagate_in_video(state))
    assert [t for t, _, _ in steps] == [0, 1, 2, 3] and all(ids == [7] for _, ids, _ in steps)
    assert all(logits.shape == (1, 1, 64, 96) for _, _, logits in steps)
    assert (separate([7], steps[0][2])[7] == masks[0]).all(), "the prompt stands as it is"
    found = separate([7], steps[3][2])[7]
    assert (found & masks[3]).sum() / (found | masks[3]).sum() > 0.5
    table = tracker.route_table(state)
    assert table.groupby("frame_idx")["reason"].first().tolist() == ["first_frame", "routed", "routed", "routed"]
    assert table["active"].all()


def test_a_whole_video_is_labelled_as_the_protocol_says(tracker):
    """The first frame and the seven latest, in NumPy; a folder of frames in ``RDS_VIDEO`` takes the clip's place."""
    folder = os.environ.get("RDS_VIDEO")
    made = generate_clip(7, 3, split="val", frames=11, height=64, width=96, difficulty="plain", n_objects=2)
    state = tracker.init_state(list_frames(folder)[:11] if folder else np.stack(made.frames))
    height, width = state["video_height"], state["video_width"]
    mask = np.zeros((height, width), bool)
    mask[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    tracker.add_new_mask(state, 0, 1, mask)
    found = [state["last"][1].double().numpy() for _ in tracker.propagate_in_video(state)]
    with torch.inference_mode():
        features = tracker.backbone.run(tracker.backbone.embed(state["images"])).double().numpy()
    expected = found[:1]
    for t in range(1, len(found)):
        known = [0, *range(max(1, t - 7), t)]
        labels = np.stack([expected[k] for k in known])
        expected.append(by_hand(features[t], features[known], labels, Protocol()))
    assert len(found) == 11 and max(np.abs(a - b).max() for a, b in zip(found, expected)) < 1e-4
    assert 0.01 < found[-1][..., 1].mean() < 0.5


def test_routes_follow_the_last_mask_and_the_first_frame_is_full(checkpoint, rds, video):
    tracker = build_rds_dino_tracker(checkpoint, rds, budget=0.5, routing="top_n", short_side=64, device="cpu")
    state = tracker.init_state(video[0])
    tracker.add_new_mask(state, 0, 1, video[1][0])
    list(tracker.propagate_in_video(state))
    counts = tracker.route_table(state).groupby("frame_idx")["active"].sum().tolist()
    assert counts == [6, 4, 4, 4], "2 + 4 * 0.5"
    full = build_rds_dino_tracker(checkpoint, rds, budget=0.5, routing="full", short_side=64, device="cpu")
    assert full.policy is None
    tracker.reset_state(state)
    tracker.add_new_mask(state, 0, 1, np.zeros((64, 96), bool))
    with pytest.warns(UserWarning, match="empty"):
        tracker.add_new_mask(state, 0, 1, np.zeros((64, 96), bool))
    steps = list(tracker.propagate_in_video(state))
    assert all((logits <= 0).all() for _, _, logits in steps), "an empty mask stays empty"
    reasons = tracker.route_table(state).groupby("frame_idx")["reason"].first().tolist()
    assert reasons == ["first_frame", *["no_previous_mask"] * 3]


def test_the_plain_router_is_the_folded_one_on_squares_and_takes_other_shapes(rds):
    router = load_rds(rds).router
    for name, buffer in router.named_buffers():
        buffer.copy_(torch.rand_like(buffer) + 0.5) if "var" in name or "mean" in name else None
    tokens = torch.randn(1, 8, 8, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    plain, folded = PlainRouter(router), FoldedRouter(router)
    one, other = plain.logits(tokens, mask), folded.logits(tokens, mask)
    assert torch.allclose(one[:, :-1], other[:, :-1], atol=1e-4) and (one[:, -1] > 0) == (other[:, -1] > 0)
    wide = plain.logits(torch.randn(1, 8, 12, 32), torch.full((1, 1, 8, 12), -1.0))
    assert wide.shape == (1, 7) and wide[0, -1] == 0
    assert plain.logits(tokens, mask * torch.nan).isnan().all()


def test_objects_may_come_later_and_ids_may_have_gaps(tracker, video):
    frames, masks = video
    state = tracker.init_state(frames)
    late = np.zeros((64, 96), bool)
    late[48:60, 70:90] = True
    tracker.add_new_mask(state, 0, 3, masks[0])
    list(tracker.propagate_in_video(state, 0, 1))
    tracker.add_new_mask(state, 2, 250, late)
    steps = list(tracker.propagate_in_video(state, 2))
    assert [t for t, _, _ in steps] == [2, 3] and steps[0][1] == [3, 250]
    found = separate(*steps[0][1:])
    assert (found[250] == late).all() and (found[3] & masks[2]).sum() > 0
    assert tracker.route_table(state).groupby("frame_idx")["reason"].first()[2] in ("first_frame", "prompted")
    with pytest.raises(RDSInputError, match=r"start_frame_idx is 1; start on a frame with a mask: \[0, 2\]"):
        list(tracker.propagate_in_video(state, 1))


def test_backwards_is_forwards_on_the_reversed_video(tracker, video):
    frames, masks = video
    ahead, back = tracker.init_state(frames[::-1].copy()), tracker.init_state(frames)
    tracker.add_new_mask(ahead, 0, 1, masks[3])
    tracker.add_new_mask(back, 3, 1, masks[3])
    forwards = list(tracker.propagate_in_video(ahead))
    backwards = list(tracker.propagate_in_video(back, 3, reverse=True))
    assert [t for t, _, _ in backwards] == [3, 2, 1, 0]
    assert all(one[2].equal(other[2]) for one, other in zip(forwards, backwards))


def test_what_it_cannot_do_is_one_error(tracker, video, checkpoint, rds):
    frames, masks = video
    with pytest.raises(RDSInputError, match="1 frame; give at least 2"):
        tracker.init_state(frames[:1])
    state = tracker.init_state(frames)
    with pytest.raises(RDSInputError, match="from masks alone"):
        tracker.add_new_points_or_box(state, 0, 1, box=[1, 2, 3, 4])
    with pytest.raises(RDSInputError, match="no object to track"):
        list(tracker.propagate_in_video(state))
    with pytest.raises(RDSInputError, match="mask has shape"):
        tracker.add_new_mask(state, 0, 1, masks[0][:9])
    for obj_id in range(254):
        tracker.add_new_mask(state, 0, obj_id, masks[0])
    with pytest.raises(RDSInputError, match="at most 254"):
        tracker.add_new_mask(state, 0, 254, masks[0])
    with pytest.raises(RDSInputError, match="needs rds_path"):
        build_rds_dino_tracker(checkpoint, budget=0.5, device="cpu")
    with pytest.raises(RDSInputError, match="short_side is 4 px"):
        build_rds_dino_tracker(checkpoint, short_side=4, device="cpu")


def test_rds_is_trained_measured_and_calibrated_on_it_without_a_change(vit, checkpoint, sequences, tmp_path):
    import copy

    clips = DinoClips(DinoBackbone(copy.deepcopy(vit)))
    batch = SequenceBatches(sequences, seed=0, batch=2, frames=3, size=64, first_step=0, steps=1)[0]
    table = measure_importance(clips, [batch])
    assert table["global_score"].isna().tolist() == [True, *[False] * 4, True]
    weights = train_rds(
        clips,
        sequences=sequences,
        blocks=[1, 3],
        budgets=(0.5,),
        schedule=Schedule(2, 1, 3, 0),
        out=tmp_path / "rds.safetensors",
        workdir=tmp_path,
        lr_router=1e-2,
        lr_lora=1e-2,
        lora_rank=2,
        preference_rate=1.0,
        router_options={"hidden": 16},
        config_file="dinov3",
    )
    tracker = build_rds_dino_tracker(checkpoint, weights, budget=0.5, tau=0.5, short_side=64, device="cpu")
    tau, w = calibrate(tracker, sequences, target_active=4.0, frames=3)
    assert w.shape[1] == 6 and tracker.policy.tau == tau
    found = track_sequence(tracker, sequences[0])
    assert set(found.masks) == set(range(len(sequences[0]))) and len(found.routes) == 6 * len(sequences[0])


def test_frames_keep_their_shape(checkpoint, vit):
    assert DinoTracker(vit, short_side=60).image_size.of(854, 480) == (112, 64)
    tracker = build_rds_dino_tracker(checkpoint, short_side=64, device="cpu")
    assert tracker.image_size.of(480, 854) == (64, 120) and tracker.image_size.of(100, 100) == (64, 64)
