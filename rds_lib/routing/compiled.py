"""The compiled predictor: SAM2's tail as in ``vos_optimized``, the encoder block by block."""

from sam2.sam2_video_predictor import SAM2VideoPredictorVOS

from rds_lib.model.backbone import HieraBackbone
from rds_lib.routing.engine.compiled import compile_blocks
from rds_lib.routing.predictor import RDSVideoPredictor

COMPILED = {  # arguments of build_model for stock SAM2, as build_sam2_video_predictor(vos_optimized=True) has them
    "cls": "sam2.sam2_video_predictor.SAM2VideoPredictorVOS",
    "overrides": ["++model.compile_image_encoder=True"],
}


class CompiledHiera(HieraBackbone):
    """Hiera compiled block by block, so that every route runs the same code."""

    def compile(self) -> None:
        """Compile each block; see `engine.compiled`."""
        compile_blocks(self.blocks)

    def run(self, tokens, route=None) -> dict:
        """Clone the features, as ``SAM2VideoPredictorVOS.forward_image`` does."""
        out = super().run(tokens, route)
        for name in ("backbone_fpn", "vision_pos_enc"):
            out[name] = [tensor.clone() for tensor in out[name]]
        return out


class RDSVideoPredictorVOS(RDSVideoPredictor, SAM2VideoPredictorVOS):
    """`RDSVideoPredictor`, compiled."""

    backbone_type = CompiledHiera
