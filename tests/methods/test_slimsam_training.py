"""SlimSAM from end to end, on the mini model of half the depth: pruning takes a quarter of the time there."""

import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.methods import METHODS, base, slimsam_training
from rds_lib.methods.base import Setup
from rds_lib.methods.slimsam import load_slim
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.training.loop import Schedule

RATES = {"importance_steps": 1, "lr_align": 1e-3, "lr_encoder": 1e-3, "lr_head": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Training happens at 64 px here."""

    def build(*args, **options):
        model = build_model(*args, **options)
        set_image_size(model, 64)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "build_model", build)
        yield


def train(folder, sequences, level=6):
    """Two steps of either alignment and four of the fine-tuning."""
    setup = Setup(Schedule(4, 1, 2, seed=1, save_every=1), sequences, [], [], 0, 0.0, "mini_half", device="cpu")
    return METHODS["slimsam"].train(level, setup, out=folder / "slim.safetensors", workdir=folder / "run", **RATES)


@pytest.fixture(scope="module")
def whole(sequences, tmp_path_factory):
    """The file of an uninterrupted training."""
    return train(tmp_path_factory.mktemp("slim"), sequences)


def test_the_result_is_narrower_and_fine_tuned_as_a_whole(whole):
    model = build_model("mini_half")
    weights = sum(p.numel() for p in model.image_encoder.parameters())
    kept = load_slim(model, whole)
    assert 0.3 < sum(p.numel() for p in model.image_encoder.parameters()) / weights < 0.6
    assert len(kept["trunk.patch_embed.proj.out"]) == 10 and "trunk.blocks.9.mlp.layers.0.out" in kept
    start = build_model("mini_half")
    assert not model.sam_mask_decoder.iou_token.weight.equal(start.sam_mask_decoder.iou_token.weight)
    assert METHODS["slimsam"].trained_parameters(model, whole) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "part, header", [("width", "step,loss"), ("bottleneck", "step,loss"), ("tune", "step,loss,iou")]
)
def test_each_part_logs_its_steps(part, header, whole):
    lines = (whole.parent / "run" / part / "log.csv").read_text().splitlines()
    assert lines[0] == header and len(lines) == (5 if part == "tune" else 3)


def test_a_run_stopped_inside_every_part_ends_at_the_same_file(whole, sequences, tmp_path, stopped_at):
    for name, call in (("bottleneck_aligning", 2), ("embedding_aligning", 2), ("clip_step", 3)):
        with stopped_at(slimsam_training, name, call):
            train(tmp_path, sequences)
    assert train(tmp_path, sequences).read_bytes() == whole.read_bytes()


def test_a_level_that_the_paper_does_not_have_is_refused(tmp_path):
    with pytest.raises(RDSInputError, match="3/9"):
        train(tmp_path, [], level=3)
