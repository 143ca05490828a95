"""Old names, kept until their users take a `Backbone`."""

from rds_lib.model.backbone import HieraBackbone, changes_shape as changes_shape


def encode_image(model, image, route=None, tokens=None):
    """`HieraBackbone.embed` and `HieraBackbone.run`."""
    backbone = HieraBackbone(model)
    return backbone.run(backbone.embed(image) if tokens is None else tokens, route)


def embed_patches(trunk, image):
    """`HieraBackbone.embed`."""
    tokens = trunk.patch_embed(image)
    return tokens + trunk._get_pos_embed(tokens.shape[1:3])


def always_on_blocks(trunk):
    """`HieraBackbone.always_on`."""
    return tuple(sorted({0, *(end + 1 for end in trunk.stage_ends[:-1]), len(trunk.blocks) - 1}))
