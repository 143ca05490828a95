"""What the tests of the methods share: one image, the features of a model, and how far two sets of them are apart."""

import pytest
import torch


@pytest.fixture(scope="session")
def image():
    return torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def features():
    @torch.inference_mode()
    def encode(model, image):
        return model.forward_image(image)["backbone_fpn"]

    return encode


@pytest.fixture(scope="session")
def apart():
    """The largest absolute difference of two lists of feature maps."""
    return lambda ours, theirs: max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
