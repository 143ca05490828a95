"""SlimSAM: exact splitting, the disturbed Taylor importance against NumPy, pruning, files, and both alignments."""

import copy

import numpy as np
import pytest
import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.methods import slimsam
from rds_lib.methods.slimsam import (
    MAX_PRUNED,
    disturbed_taylor,
    feature_maps,
    fuse_attention,
    load_slim,
    prune,
    save_slim,
    split_attention,
)
from rds_lib.methods.slimsam_align import bottleneck_aligning, embedding_aligning, embedding_share
from rds_lib.model.sam2 import build_model

SIZE = 64


def fresh():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_model("mini", ckpt_path=False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def twin(model):
    """A copy with the gradients, which ``deepcopy`` leaves behind."""
    other = copy.deepcopy(model)
    for p, q in zip(model.parameters(), other.parameters()):
        q.grad = None if p.grad is None else p.grad.clone()
    return other


def noise():
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="module")
def scored(images):
    """A split model with the gradients of two batches of one image, and those gradients as they were."""
    model, teacher = fresh(), fresh()
    split_attention(model)
    disturbed_taylor(model, lambda x: feature_maps(teacher, x), images.split(1), generator=noise())
    return model


@pytest.fixture(scope="module")
def slimmed(scored):
    """Both phases at 6/9, without alignment between them, and the channels that were kept."""
    model = twin(scored)
    kept = prune(model, "width", 6 / 9)
    return model, kept | prune(model, "bottleneck", 6 / 9)


@torch.inference_mode()
def difference(a, b, images):
    pairs = zip(feature_maps(a, images), feature_maps(b, images), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


def test_splitting_q_k_and_v_is_exact_and_fusing_undoes_it(images):
    model, whole = fresh(), fresh()
    split_attention(model)
    assert difference(model, whole, images) == 0
    assert not any("qkv" in name for name in model.state_dict())
    fuse_attention(model)
    assert difference(model, whole, images) == 0
    assert all(a.equal(b) for a, b in zip(model.state_dict().values(), whole.state_dict().values()))


def test_gradients_are_summed_over_batches_of_a_disturbed_loss(images):
    """At the noise of the first batch alone, by hand: without noise there would be no gradient at all."""
    model, teacher = fresh(), fresh()
    split_attention(model)
    disturbed_taylor(model, lambda x: feature_maps(teacher, x), images.split(1), generator=noise())
    total = model.image_encoder.trunk.blocks[9].mlp.layers[0].weight.grad
    generator, by_hand = noise(), 0
    for image in images.split(1):
        other = fresh()
        with torch.no_grad():
            targets = feature_maps(teacher, image)
        targets[2] = targets[2] + 0.01 * torch.randn(targets[2].shape, generator=generator)
        loss = sum(((a - b) ** 2).mean() for a, b in zip(feature_maps(other, image), targets)) / 0.01**2
        by_hand = by_hand + torch.autograd.grad(loss, other.image_encoder.trunk.blocks[9].mlp.layers[0].weight)[0]
    assert total.abs().max() > 0 and torch.allclose(total, by_hand, rtol=1e-3, atol=1e-3 * total.abs().max().item())


def taylor(layer, axis):
    """Sum of |weight x gradient| over everything but one axis, in NumPy."""
    product = np.abs(layer.weight.detach().numpy() * layer.weight.grad.numpy())
    return product.sum(tuple(i for i in range(product.ndim) if i != axis))


def test_width_is_kept_by_the_mean_score_of_the_layers_that_share_the_stream(scored):
    model = twin(scored)
    trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
    writers = [layer for b in trunk.blocks[:2] for layer in (b.attn.proj, b.mlp.layers[1])]
    outs = [(layer, 0) for layer in (trunk.patch_embed.proj, *writers)]
    ins = [(layer, 1) for b in trunk.blocks[:3] for layer in (b.attn.q, b.attn.k, b.attn.v)]
    ins += [(b.mlp.layers[0], 1) for b in trunk.blocks[:2]] + [(trunk.blocks[2].proj, 1), (neck.convs[3].conv, 1)]
    score = np.mean([taylor(layer, axis) for layer, axis in outs + ins], axis=0)
    kept = prune(model, "width", 6 / 9)
    best = sorted(np.argsort(score)[-10:].tolist())  # int(16 * 6 / 9)
    for name in ("trunk.patch_embed.proj.out", "trunk.blocks.1.attn.q.in", "neck.convs.3.conv.in"):
        assert kept[name] == best
    assert trunk.pos_embed.shape[1] == trunk.pos_embed_window.shape[1] == 10
    assert [conv.conv.in_channels for conv in neck.convs] == [85, 42, 21, 10]
    assert {conv.conv.out_channels for conv in neck.convs} == {96}, "what SAM2's other parts see keeps its size"


def test_hidden_units_are_ranked_over_all_blocks_by_standard_scores(scored):
    model = twin(scored)
    scores = []
    for block in model.image_encoder.trunk.blocks:
        score = (taylor(block.mlp.layers[0], 0) + taylor(block.mlp.layers[1], 1)) / 2
        scores.append((score - score.mean()) / score.std(ddof=1))
    kept = prune(model, "bottleneck", 6 / 9)
    everything = np.concatenate(scores)
    limit = np.sort(everything)[len(everything) - int(len(everything) * 6 / 9) - 1]
    sizes = [block.mlp.layers[0].out_features for block in model.image_encoder.trunk.blocks]
    assert len(set(np.array(sizes) / [len(score) for score in scores])) > 10, "blocks lose different shares"
    for i, score in enumerate(scores):
        wanted = np.flatnonzero(score > limit).tolist()
        assert len(wanted) > (1 - MAX_PRUNED) * len(score)
        assert kept[f"trunk.blocks.{i}.mlp.layers.0.out"] == kept[f"trunk.blocks.{i}.mlp.layers.1.in"] == wanted


def test_all_heads_of_a_block_lose_the_same_channels(slimmed):
    model, kept = slimmed
    for i, block in enumerate(model.image_encoder.trunk.blocks):
        channels = kept.get(f"trunk.blocks.{i}.attn.q.out")
        if channels is None:
            continue
        heads, dim = block.attn.num_heads, 16
        within = [[c % dim for c in channels if c // dim == head] for head in range(heads)]
        assert all(head == within[0] for head in within)
        assert channels == kept[f"trunk.blocks.{i}.attn.k.out"] == kept[f"trunk.blocks.{i}.attn.v.out"]
        assert block.attn.q.out_features == block.attn.proj.in_features == len(channels)


def test_a_pruned_model_is_the_original_without_the_channels(images):
    """Hidden units that are removed and hidden units whose weights are zero do the same."""
    model = fresh()
    split_attention(model)
    teacher = fresh()
    disturbed_taylor(model, lambda x: feature_maps(teacher, x), [images], generator=noise())
    zeroed = copy.deepcopy(model)
    kept = slimsam.prune(model, "bottleneck", 7 / 9)
    for i, block in enumerate(zeroed.image_encoder.trunk.blocks):
        gone = sorted(set(range(block.mlp.layers[1].in_features)) - set(kept[f"trunk.blocks.{i}.mlp.layers.1.in"]))
        block.mlp.layers[1].weight.data[:, gone] = 0
        block.attn = model.image_encoder.trunk.blocks[i].attn  # pruned heads change the scale of the products
    assert difference(model, zeroed, images) < 1e-5


def test_fused_attention_of_a_pruned_model_does_the_same(slimmed, images):
    model = copy.deepcopy(slimmed[0])
    fuse_attention(model)
    assert difference(model, slimmed[0], images) < 1e-5


def test_a_pruned_model_comes_back_from_its_file(slimmed, images, tmp_path):
    model, kept = copy.deepcopy(slimmed[0]).half().float(), slimmed[1]  # files hold half precision
    fuse_attention(model)
    save_slim(tmp_path / "slim.safetensors", model, kept)
    other = fresh()
    assert load_slim(other, tmp_path / "slim.safetensors") == kept
    assert difference(model, other, images) == 0
    ours, theirs = (m.image_encoder.trunk.blocks[9].attn.qkv for m in (other, model))
    assert ours.out_features == theirs.weight.shape[0]


def test_files_that_do_not_fit_are_refused(slimmed, tmp_path):
    with pytest.raises(RDSInputError, match="absent.safetensors"):
        load_slim(fresh(), tmp_path / "absent.safetensors")
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(RDSInputError, match="no kept channels"):
        load_slim(fresh(), tmp_path / "other.safetensors")
    save_slim(tmp_path / "split.safetensors", *slimmed)
    with pytest.raises(RDSInputError, match="does not fit"):
        load_slim(fresh(), tmp_path / "split.safetensors")


@pytest.mark.parametrize(
    "phase, keep, message", [("both", 0.5, "'both' is unknown"), ("width", 0, "keep is 0"), ("width", 1.5, "1.5")]
)
def test_bad_requests_are_refused(scored, phase, keep, message):
    with pytest.raises(RDSInputError, match=message):
        prune(scored, phase, keep)


def test_without_gradients_nothing_is_pruned(images):
    model = fresh()
    split_attention(model)
    with pytest.raises(RDSInputError, match="disturbed_taylor"):
        prune(model, "width", 0.5)


def test_bottleneck_aligning_sees_every_block_also_those_that_attend_globally(scored, images):
    student, teacher = twin(scored), fresh()
    split_attention(teacher)
    assert bottleneck_aligning(student, teacher, images, 0.5).item() == pytest.approx(0, abs=1e-10)
    before = bottleneck_aligning(student, teacher, images, 0.0).item()
    student.image_encoder.trunk.blocks[33].attn.q.bias.data += 1.0
    loss = bottleneck_aligning(student, teacher, images, 0.5)
    shift = 1.0 / 9  # one of the q, k and v of three blocks, mean over the nine
    assert loss.item() > before + 0.5 * shift * 0.99
    student.zero_grad()
    loss.backward()
    assert student.image_encoder.trunk.blocks[33].attn.q.bias.grad.abs().sum() > 0


def test_width_may_differ_while_bottlenecks_are_aligned(scored, images):
    student, teacher = twin(scored), fresh()
    split_attention(teacher)
    prune(student, "width", 6 / 9)
    student.zero_grad()
    bottleneck_aligning(student, teacher, images, 0.5).backward()
    assert all(p.grad is not None for p in student.image_encoder.trunk.blocks.parameters())


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_embedding_aligning_teaches_the_student_alone(scored, images, share):
    slim, teacher = twin(scored), fresh()
    prune(slim, "width", 6 / 9)
    student = copy.deepcopy(slim)
    disturbed_taylor(student, lambda x: feature_maps(slim, x), [images], generator=noise())
    prune(student, "bottleneck", 6 / 9)
    for model in (student, slim, teacher):
        model.zero_grad()
    loss = embedding_aligning(student, slim, teacher, images, share)
    loss.backward()
    assert loss.item() > 0
    assert student.image_encoder.trunk.blocks[30].mlp.layers[1].weight.grad.abs().sum() > 0
    assert all(p.grad is None for model in (slim, teacher) for p in model.parameters())
    pairs = zip(feature_maps(student, images), feature_maps(teacher, images))
    features_alone = sum(torch.nn.functional.mse_loss(a, b) for a, b in pairs) / 3
    assert (loss.item() == pytest.approx(features_alone.item(), rel=1e-5)) == (share == 0)


def test_the_share_of_the_embeddings_falls_to_0_in_the_first_half():
    assert embedding_share(0) == pytest.approx(10 / 11) and embedding_share(0.25) == pytest.approx(5 / 11)
    assert embedding_share(0.5) == embedding_share(1) == 0
