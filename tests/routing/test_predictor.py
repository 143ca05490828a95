"""The routed video predictor: equal to SAM2 when full, one decision a frame when routed, clear errors."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.sam2_video_predictor import SAM2VideoPredictor

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import list_frames, read_frame
from rds_lib.model.adapters import add_lora, lora_state_dict
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import POSTPROCESSING, build_rds_video_predictor
from rds_lib.routing.deployed import FoldedRouter, RoutingPolicy
from rds_lib.routing.predictor import RDSVideoPredictor
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds
from rds_lib.show.paint import write_overlay_video

ALWAYS_ON = [0, 2, 8, 44, 47]
T, H, W = 6, 96, 128


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    background = rng.integers(0, 255, (H, W, 3), dtype=np.uint8)
    for t in range(T):
        frame = background.copy()
        frame[30:60, 10 + 8 * t : 45 + 8 * t] = (200, 40, 40)
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights whose objects are never judged absent, in SAM2's file format."""
    torch.manual_seed(0)
    model = build_model("mini", ckpt_path=False)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    path = tmp_path_factory.mktemp("weights") / "mini.pt"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def rds_file(checkpoint):
    torch.manual_seed(1)
    model = add_lora(build_model("mini", checkpoint), [0, 3, 12], rank=2)
    router = PredictionAwareRouter(16, 48, ALWAYS_ON, image_size=192)
    with torch.no_grad():
        for tensor in lora_state_dict(model).values():
            tensor.normal_(std=0.02)
        router.mlp[-1].weight.normal_(std=0.5)
    path = checkpoint.with_name("rds.safetensors")
    save_rds(path, router, model, budgets=[0.4], taus={0.4: 0.4})
    return path


@pytest.fixture(scope="module")
def stock(checkpoint):
    return build_model("mini", checkpoint, overrides=POSTPROCESSING)


@pytest.fixture(scope="module")
def full(checkpoint):
    return build_rds_video_predictor("mini", checkpoint, routing="full", device="cpu")


@pytest.fixture(scope="module")
def _routed(checkpoint, rds_file):
    return build_rds_video_predictor("mini", checkpoint, rds_file, budget=0.4, device="cpu")


@pytest.fixture
def routed(_routed):
    policy = _routed.policy
    yield _routed
    _routed.set_policy(policy)
    _routed.set_fixed_route(None)


def box_mask(top=30, left=10):
    mask = np.zeros((H, W), bool)
    mask[top : top + 30, left : left + 35] = True
    return mask


def track(predictor, state, **kwargs):
    return {t: (list(ids), logits.clone()) for t, ids, logits in predictor.propagate_in_video(state, **kwargs)}


def start(predictor, video, frame_idx=0):
    state = predictor.init_state(str(video))
    predictor.add_new_mask(state, frame_idx, 1, box_mask())
    return state


def reasons(predictor, state):
    return predictor.route_table(state).groupby("frame_idx").reason.first().to_dict()


def session(predictor, video):
    """Two objects, a correction, a third object later, both directions; every mask that comes back."""
    state = predictor.init_state(str(video))
    out = [predictor.add_new_mask(state, 2, 1, box_mask())[2]]
    out.append(predictor.add_new_points_or_box(state, 2, "two", [[60, 50], [5, 5]], [1, 0])[2])
    out += track(predictor, state).values()
    out += track(predictor, state, start_frame_idx=2, reverse=True).values()
    out.append(predictor.add_new_points_or_box(state, 3, 3, box=[20, 20, 80, 70])[2])
    out.append(predictor.add_new_points_or_box(state, 4, "two", np.array([[70, 40]]), np.array([1]))[2])
    out += track(predictor, state, start_frame_idx=3).values()
    predictor.remove_object(state, "two")
    out += track(predictor, state, start_frame_idx=3, max_frame_num_to_track=1).values()
    return out


def test_full_routing_is_bit_identical_to_sam2(stock, full, video):
    expected, got = session(stock, video), session(full, video)
    assert len(got) == len(expected) > 15
    for a, b in zip(got, expected):
        if isinstance(a, tuple):
            assert a[0] == b[0]
            a, b = a[1], b[1]
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "flags", [{"offload_video_to_cpu": True, "offload_state_to_cpu": True}, {"async_loading_frames": True}]
)
def test_the_flags_of_init_state_give_the_masks_of_sam2(stock, full, video, flags):
    """SAM2's loader in a thread rounds otherwise than its loader without; ours gives the latter's bits both times."""
    masks = []
    for predictor, given in ((stock, {} if "async_loading_frames" in flags else flags), (full, flags)):
        state = predictor.init_state(str(video), **given)
        predictor.add_new_mask(state, 0, 1, box_mask())
        masks.append(track(predictor, state, max_frame_num_to_track=1))
    assert all(torch.equal(masks[0][t][1], masks[1][t][1]) for t in (0, 1))


def test_loading_in_a_thread_takes_what_loading_takes(full, video, tmp_path):
    """SAM2's own loader wants decord for a video file, and takes neither arrays nor lists."""
    path, frames = tmp_path / "clip.mp4", [read_frame(path) for path in list_frames(video)]
    write_overlay_video(path, frames, [np.zeros((H, W), np.uint8)] * len(frames), fps=10)
    for source in (path, np.stack(frames), list_frames(video)):
        state = full.init_state(source, async_loading_frames=True)
        expected = full.init_state(source)
        assert state["num_frames"] == len(frames) and state.keys() == expected.keys()
        assert all(torch.equal(state["images"][t], expected["images"][t]) for t in range(len(frames)))


def test_is_a_sam2_predictor_with_the_same_signatures_and_state_dict(stock, routed):
    assert isinstance(routed, SAM2VideoPredictor)
    for name, method in inspect.getmembers(SAM2VideoPredictor, inspect.isfunction):
        if not name.startswith("_") and name in SAM2VideoPredictor.__dict__:
            assert inspect.signature(getattr(RDSVideoPredictor, name)) == inspect.signature(method), name
    assert inspect.signature(RDSVideoPredictor.from_pretrained) == inspect.signature(SAM2VideoPredictor.from_pretrained)
    assert list(routed.state_dict()) == list(stock.state_dict())


def test_state_has_every_key_of_sam2(stock, full, video):
    assert full.init_state(str(video)).keys() - {"rds"} == stock.init_state(str(video)).keys()


def test_first_frame_is_full_and_the_others_are_routed(routed, video):
    state = start(routed, video)
    track(routed, state)
    table = routed.route_table(state)
    assert list(table.columns) == ["frame_idx", "block", "active", "keep_prob", "reason"]
    assert len(table) == T * 48 and table.active.dtype == bool
    assert reasons(routed, state) == {0: "first_frame"} | {t: "routed" for t in range(1, T)}
    active = table.pivot(index="frame_idx", columns="block", values="active")
    assert active.loc[0].all() and active[ALWAYS_ON].all(axis=None)
    assert (active.loc[1:].sum(axis=1) < 48).all()
    free = table[(table.frame_idx > 0) & ~table.block.isin(ALWAYS_ON)]
    assert (free.active == (free.keep_prob >= 0.4)).all() and table.attrs["invalid_frames"] == 0


def test_each_frame_runs_exactly_the_blocks_of_the_table_once(routed, video):
    state = start(routed, video)
    routed.add_new_mask(state, 0, 2, box_mask(60, 70))
    calls = []
    hooks = [
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, block in enumerate(routed.image_encoder.trunk.blocks)
    ]
    track(routed, state)
    for hook in hooks:
        hook.remove()
    table = routed.route_table(state).query("frame_idx > 0 and active")
    assert calls == table.block.tolist()


def test_route_comes_from_the_union_of_the_previous_masks(routed, video, monkeypatch):
    seen = {}
    state = start(routed, video)
    routed.add_new_mask(state, 0, 2, box_mask(60, 70))
    logits = routed.policy.router.logits
    monkeypatch.setattr(
        routed.policy.router, "logits", lambda x, m: seen.update({len(seen): m.clone()}) or logits(x, m)
    )
    track(routed, state)
    for call in range(1, 3):  # call 0 routes frame 1
        outputs = [state["output_dict_per_obj"][i]["non_cond_frame_outputs"][call]["pred_masks"] for i in (0, 1)]
        assert torch.equal(seen[call] > 0, (outputs[0] > 0) | (outputs[1] > 0))


def test_reverse_tracking_looks_at_the_frame_after(routed, video, monkeypatch):
    state = start(routed, video, frame_idx=3)
    seen = []
    logits = routed.policy.router.logits
    monkeypatch.setattr(routed.policy.router, "logits", lambda x, m: seen.append(m.clone()) or logits(x, m))
    track(routed, state, reverse=True)
    assert reasons(routed, state) == {3: "first_frame", 2: "routed", 1: "routed", 0: "routed"}
    outputs = state["output_dict_per_obj"][0]
    assert torch.equal(seen[0], outputs["cond_frame_outputs"][3]["pred_masks"])
    assert torch.equal(seen[1], outputs["non_cond_frame_outputs"][2]["pred_masks"])


def test_prompted_frames_run_the_full_encoder_even_after_routed_features_were_cached(routed, video):
    state = start(routed, video)
    track(routed, state, max_frame_num_to_track=3)
    assert reasons(routed, state)[3] == "routed"
    routed.add_new_points_or_box(state, 3, 1, [[40, 40]], [1])
    assert reasons(routed, state)[3] == "prompted"
    assert routed.route_table(state).query("frame_idx == 3").active.all()
    routed.add_new_mask(state, 4, 2, box_mask(50, 50))
    track(routed, state)
    assert reasons(routed, state) == {
        0: "first_frame",
        1: "routed",
        2: "routed",
        3: "prompted",
        4: "prompted",
        5: "routed",
    }
    assert routed.route_table(state).query("reason == 'prompted'").active.all()


def test_a_frame_without_a_previous_mask_runs_full(routed, video):
    state = start(routed, video)
    track(routed, state, start_frame_idx=2, max_frame_num_to_track=1)
    assert reasons(routed, state) == {0: "prompted", 2: "first_frame", 3: "routed"}
    track(routed, state, start_frame_idx=5, max_frame_num_to_track=0)
    assert reasons(routed, state)[5] == "first_frame"
    state = start(routed, video)
    routed.propagate_in_video_preflight(state)
    with torch.inference_mode():
        routed._get_image_feature(state, 4, 1)
    assert reasons(routed, state)[4] == "no_previous_mask"


def test_an_empty_previous_mask_runs_full_to_find_the_object_again(routed, video):
    state = start(routed, video)
    for t, _, _ in routed.propagate_in_video(state):
        if t == 2:
            out = state["output_dict_per_obj"][0]["non_cond_frame_outputs"][2]
            out["pred_masks"] = torch.full_like(out["pred_masks"], -1024.0)
    assert {t: r for t, r in reasons(routed, state).items() if t in (2, 3)} == {2: "routed", 3: "no_previous_mask"}
    assert routed.route_table(state).query("frame_idx == 3").active.all()


def test_nan_runs_the_full_encoder_and_is_counted(routed, video, caplog):
    state = start(routed, video)
    for t, _, _ in routed.propagate_in_video(state):
        if t == 2:
            out = state["output_dict_per_obj"][0]["non_cond_frame_outputs"][2]
            out["pred_masks"] = out["pred_masks"].clone().index_fill(-1, torch.tensor([5]), torch.nan)
    table = routed.route_table(state)
    assert table.query("frame_idx == 3").active.all() and table.attrs["invalid_frames"] == 1
    assert "frame 3: NaN" in caplog.text


@pytest.mark.parametrize("offload", [False, True])
def test_nan_in_the_features_is_met_as_nan_in_the_mask_is(routed, video, monkeypatch, caplog, offload):
    run = routed.backbone.run

    def broken(tokens, route):
        features = run(tokens, route)
        if len(routed._log_of(state).frames) == 2:  # frame 2 is being encoded
            features["vision_features"][0, 0, 1, 1] = torch.nan
        return features

    state = start(routed, video)
    state["storage_device"] = torch.device("cpu") if offload else state["storage_device"]
    monkeypatch.setattr(routed.backbone, "run", broken)
    track(routed, state)
    table = routed.route_table(state)
    assert table.query("frame_idx == 3").active.all() and table.attrs["invalid_frames"] == 1
    assert table.query("frame_idx == 3").reason.eq("no_previous_mask").all() and "frame 3: NaN" in caplog.text


def test_sampling_is_reproducible_and_top_n_is_exact(checkpoint, rds_file, video, routed):
    policy = routed.policy
    tables = []
    for _ in range(2):
        routed.set_policy(RoutingPolicy(policy.router, 0.4, "sample", 0.5, 22))
        state = start(routed, video)
        track(routed, state)
        tables.append(routed.route_table(state))
    assert tables[0].equals(tables[1])
    assert tables[0].query("reason == 'routed'").groupby("frame_idx").active.sum().nunique() > 1
    top_n = build_rds_video_predictor("mini", checkpoint, rds_file, budget=0.4, routing="top_n", device="cpu")
    state = start(top_n, video)
    track(top_n, state)
    assert top_n.route_table(state).query("frame_idx > 0").groupby("frame_idx").active.sum().eq(22).all()


def test_fixed_routes_serve_as_baselines(routed, video):
    routed.set_fixed_route(lambda t: [i % 2 == t % 2 for i in range(48)])
    state = start(routed, video)
    track(routed, state)
    active = routed.route_table(state).pivot(index="frame_idx", columns="block", values="active")
    assert active.loc[0].all() and active.loc[1:, ALWAYS_ON].all(axis=None)
    assert active.loc[3, [3, 5]].all() and not active.loc[3, [4, 6]].any() and active.loc[4, [4, 6]].all()
    for route in ([1] * 47, lambda t: [1] * 47):
        with pytest.raises(RDSInputError, match="47 entries"):
            routed.set_fixed_route(route)
            track(routed, start(routed, video))


def test_a_fixed_route_gives_the_masks_of_sam2_with_the_skipped_blocks_made_the_identity(full, video, monkeypatch):
    skipped = [5, 20, 30, 46]
    full.set_fixed_route([i not in skipped for i in range(48)])
    got = track(full, start(full, video))
    full.set_fixed_route(None)
    state = start(full, video)
    for i in skipped:
        monkeypatch.setattr(full.image_encoder.trunk.blocks[i], "forward", lambda x: x)
    expected = track(full, state)
    assert all(torch.equal(got[t][1], expected[t][1]) for t in range(T))


def test_reset_forgets_routes_and_features(routed, video):
    state = start(routed, video)
    first = track(routed, state)
    routed.reset_state(state)
    assert routed.route_table(state).empty
    routed.add_new_mask(state, 0, 1, box_mask())
    assert all(torch.equal(first[t][1], masks) for t, (_, masks) in track(routed, state).items())


def test_surrounding_memory_is_cleared_for_the_corrected_object_only(full, video, monkeypatch):
    monkeypatch.setattr(full, "clear_non_cond_mem_around_input", True)
    state = start(full, video)
    full.add_new_mask(state, 0, 2, box_mask(50, 50))
    track(full, state)
    full.add_new_points_or_box(state, 3, 1, [[40, 40]], [1])
    full.propagate_in_video_preflight(state)
    kept = [sorted(state["output_dict_per_obj"][i]["non_cond_frame_outputs"]) for i in (0, 1)]
    assert kept == [[3], [1, 2, 3, 4, 5]]
    assert sorted(track(full, state)) == list(range(T))


def test_an_object_added_while_tracking_stops_the_old_generator(routed, video):
    state = start(routed, video)
    steps = routed.propagate_in_video(state)
    next(steps)
    routed.add_new_mask(state, 2, "late", box_mask(50, 50))
    with pytest.raises(RDSInputError, match="start a new one"):
        next(steps)
    assert track(routed, state)[T - 1][0] == [1, "late"]


def test_an_object_prompted_late_can_be_tracked_from_the_start_without_autocast(full, video):
    state = start(full, video)
    full.add_new_mask(state, 3, 2, box_mask(50, 50))  # stock SAM2 fails: bfloat16 memory meets float32 weights
    assert sorted(track(full, state)) == list(range(T))


BAD_MASKS = {
    "half size": box_mask()[::2, ::2],
    "RGB": np.zeros((H, W, 3), np.uint8),
    "transposed": box_mask().T,
    "NaN": np.where(box_mask(), np.nan, 0.0),
    "infinite tensor": torch.full((H, W), torch.inf),
    "logits": np.where(box_mask(), 8.0, -8.0),
    "soft": np.where(box_mask(), 0.7, 0.2),
    "labels of two objects": box_mask() + 2 * box_mask(60, 70),
    "a label of its own": 3 * box_mask(),
    "smooth": np.where(box_mask(), 255, 128),
    "integer tensor of labels": torch.from_numpy(box_mask() * 2),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_rejects_bad_masks_and_changes_nothing(full, video, name):
    state = full.init_state(str(video))
    with pytest.raises(RDSInputError, match="mask"):
        full.add_new_mask(state, 0, 1, BAD_MASKS[name])
    assert state["obj_ids"] == [] and state["mask_inputs_per_obj"] == {}


def test_accepts_the_masks_that_sam2_accepts(full, video):
    state = full.init_state(str(video))
    expected = full.add_new_mask(state, 0, 1, box_mask())[2]
    for mask in (box_mask().astype(np.uint8) * 255, torch.from_numpy(box_mask()), torch.from_numpy(box_mask()).float()):
        assert torch.equal(full.add_new_mask(state, 0, 1, mask)[2], expected)
    full.add_new_mask(state, 0, 1, np.ones((192, 192), bool))
    with pytest.warns(UserWarning, match="empty"):
        full.add_new_mask(state, 0, 1, np.zeros((H, W), bool))


@pytest.mark.parametrize(
    "prompt, match",
    [
        ({"frame_idx": T}, "frame_idx is 6"),
        ({"frame_idx": -1}, "frame_idx is -1"),
        ({"frame_idx": 1.5}, "frame_idx is 1.5"),
        ({"points": [[130, 10]]}, "outside the image"),
        ({"points": [[10, -1]]}, "outside the image"),
        ({"points": [[10, 10]], "normalize_coords": False}, "outside the image"),
        ({"points": [[float("nan"), 10]]}, "NaN"),
        ({"points": [[1, 2, 3]]}, r"shape \(1, 3\)"),
        ({"labels": [7]}, "label 7"),
        ({"labels": [1, 0]}, "1 points but 2 labels"),
        ({"points": "ab"}, "cannot be read as numbers"),
        ({"box": [50, 10, 20, 30]}, "x0 < x1"),
        ({"box": [20, 10, 20, 30]}, "x0 < x1"),
        ({"box": [10, 20, 30]}, "four finite numbers"),
        ({"box": [200, 10, 300, 30]}, "outside the image"),
        ({"labels": None}, "points without labels"),
        ({"points": None}, "labels without points"),
        ({"points": None, "box": [1, 1, 9, 9]}, "labels without points"),
        ({"points": None, "labels": None}, "without points and box"),
    ],
)
def test_rejects_bad_points_and_boxes_and_changes_nothing(full, video, prompt, match):
    state = full.init_state(str(video))
    prompt = {"frame_idx": 0, "obj_id": 1, "points": [[10, 10]], "labels": [1]} | prompt
    with pytest.raises(RDSInputError, match=match):
        full.add_new_points_or_box(state, **prompt)
    assert not any(state["point_inputs_per_obj"].values())


def test_rejects_bad_propagation(full, video):
    state = full.init_state(str(video))
    with pytest.raises(RDSInputError, match="no object"):
        track(full, state)
    full.add_new_mask(state, np.int64(0), 1, box_mask())
    with pytest.raises(RDSInputError, match="start_frame_idx is 6"):
        track(full, state, start_frame_idx=T)
    with pytest.raises(RDSInputError, match="max_frame_num_to_track is -1"):
        track(full, state, max_frame_num_to_track=-1)


@pytest.mark.parametrize(
    "arguments, match",
    [
        *(({"budget": budget}, "budget is") for budget in (0, 1.5, float("nan"), "many")),
        ({"budget": 0.4, "tau": float("nan")}, "tau is"),
        ({"budget": 0.4, "tau": 0.5, "routing": "top_n"}, "tau is 0.5, of no use with routing='top_n'"),
        ({"routing": "argmax"}, "routing is 'argmax'"),
        ({"budget": 0.4, "rds_path": "nowhere.safetensors"}, "no such RDS file"),
        ({"rds_path": "nowhere.safetensors"}, "needs a budget"),
        ({"config_file": "configs/sam2.1/sam2.1_hiera_t.yaml", "budget": 0.4}, "no router is shipped"),
        ({"bugdet": 0.4}, "unknown argument bugdet"),
        ({"budget": 0.4, "control": True}, r"\.safetensors holds adapters but no router"),
    ],
)
def test_rejects_bad_builder_arguments(arguments, match, checkpoint, tmp_path):
    if arguments.get("control"):
        save_rds(tmp_path / "control.safetensors", None, add_lora(build_model("mini", checkpoint), [1], rank=1))
        arguments = {"budget": 0.4, "rds_path": tmp_path / "control.safetensors"}
    with pytest.raises(RDSInputError, match=match):
        build_rds_video_predictor(**{"config_file": "mini", "ckpt_path": False} | arguments)


def test_official_checkpoint_format_gives_identical_masks(tmp_path, video):
    config, small = "configs/sam2.1/sam2.1_hiera_t.yaml", ["++model.image_size=256"]
    torch.manual_seed(0)
    torch.save({"model": build_model(config, ckpt_path=False).state_dict()}, tmp_path / "tiny.pt")
    expected = build_model(config, tmp_path / "tiny.pt", overrides=[*small, *POSTPROCESSING])
    got = build_rds_video_predictor(
        config, tmp_path / "tiny.pt", routing="full", device="cpu", hydra_overrides_extra=small
    )
    masks = [track(p, start(p, video), max_frame_num_to_track=1) for p in (expected, got)]
    assert all(torch.equal(masks[0][t][1], masks[1][t][1]) for t in (0, 1))


def test_hiera_l_is_routed(video):
    config, small = "configs/sam2.1/sam2.1_hiera_l.yaml", ["++model.image_size=256"]
    predictor = build_rds_video_predictor(config, routing="full", device="cpu", hydra_overrides_extra=small)
    torch.nn.init.constant_(predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    router = PredictionAwareRouter(144, 48, ALWAYS_ON, image_size=256)
    predictor.set_policy(RoutingPolicy(FoldedRouter(router), 0.4, "top_n", 0.5, 24))
    state = start(predictor, video)
    track(predictor, state, max_frame_num_to_track=1)
    assert predictor.route_table(state).groupby("frame_idx").active.sum().to_dict() == {0: 48, 1: 24}


def test_compiled_variant_compiles_every_block(checkpoint, rds_file, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    predictor = build_rds_video_predictor("mini", checkpoint, rds_file, budget=0.4, device="cpu", vos_optimized=True)
    assert [module for module, _ in compiled] == list(predictor.image_encoder.trunk.blocks)
    assert compiled[0][1] == {"dynamic": False, "fullgraph": True} and isinstance(predictor, RDSVideoPredictor)
    assert torch._dynamo.config.recompile_limit >= 64


def test_each_routed_frame_calls_the_timed_parts_once(routed, full, video, monkeypatch):
    calls = []
    for predictor in (routed, full):
        for owner, attributes in predictor.timed_parts().values():
            for name in attributes.split():
                inner = getattr(owner, name)
                spy = lambda *args, name=name, inner=inner, **kw: calls.append(name) or inner(*args, **kw)  # noqa: E731
                monkeypatch.setattr(owner, name, spy)
    track(routed, start(routed, video), max_frame_num_to_track=2)
    assert calls[-3:] == ["_get_image_feature", "ask", "answer"] and calls.count("ask") == calls.count("answer") == 2
    calls.clear()
    track(full, start(full, video), max_frame_num_to_track=2)
    assert set(calls) == {"_get_image_feature"}


def test_previous_masks_are_looked_up_once_a_frame(routed, video, monkeypatch):
    state, seen, look_up = start(routed, video), [], routed._previous_masks
    monkeypatch.setattr(routed, "_previous_masks", lambda state, t: seen.append(t) or look_up(state, t))
    track(routed, state)
    assert seen == list(range(T))


def test_the_router_moves_with_the_predictor(routed):
    assert "router" not in " ".join(name for name, _ in routed.named_parameters())
    routed.to(torch.float64)
    try:
        assert routed.policy.router.frame_weight.dtype == torch.float64
    finally:
        routed.to(torch.float32)


def test_from_pretrained_builds_the_routed_class(checkpoint, rds_file, monkeypatch):
    monkeypatch.setattr("sam2.build_sam.HF_MODEL_ID_TO_FILENAMES", {"facebook/sam2-mini": ("mini", "mini.pt")})
    monkeypatch.setattr("rds_lib.data.hub.fetch", lambda model_id: checkpoint)
    predictor = RDSVideoPredictor.from_pretrained("facebook/sam2-mini", rds_path=rds_file, budget=0.4, device="cpu")
    assert isinstance(predictor, RDSVideoPredictor) and predictor.policy.tau == 0.4
