"""Building SAM2: configs by name whatever else uses Hydra, and devices that are not there."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from hydra.version import getbase

from rds_lib.core.errors import RDSInputError
from rds_lib.model.sam2 import build_model, check_device, load_config

OFFICIAL = "configs/sam2.1/sam2.1_hiera_t.yaml"


@pytest.fixture(params=["sam2's own", "another program's", "none"])
def hydra_in_use(request, tmp_path):
    """What Hydra is set up for when a model is built; restored afterwards."""
    program = GlobalHydra.instance()
    before, program.hydra = program.hydra, program.hydra if request.param == "sam2's own" else None
    (tmp_path / "app.yaml").write_text("lr: 0.1\n")
    if request.param == "another program's":
        initialize_config_dir(str(tmp_path), version_base="1.3")
    yield request.param
    GlobalHydra.instance().hydra = before


def test_a_config_is_found_in_sam2_and_the_programs_hydra_stays_as_it_was(hydra_in_use):
    program, base = GlobalHydra.instance().hydra, getbase()
    assert load_config(OFFICIAL, ["++model.image_size=256"]).model.image_size == 256
    with pytest.raises(RDSInputError):
        load_config("nothing.yaml")
    assert GlobalHydra.instance().hydra is program and getbase() == base
    if hydra_in_use == "another program's":
        assert compose("app").lr == 0.1
        with pytest.raises(MissingConfigException):
            compose(OFFICIAL)


def test_a_wrong_name_and_a_wrong_override_are_told_apart():
    with pytest.raises(RDSInputError, match="'sam2.1_hiera_t' could not be composed .*use 'mini' or a config's name"):
        load_config("sam2.1_hiera_t")
    for override in ("model.image_size", "model.nothing=1"):
        with pytest.raises(RDSInputError, match=f"could not be composed .*look at the overrides: {override}$"):
            load_config(OFFICIAL, [override])


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "xpu", "", "cpu0", -2])
def test_a_device_that_is_not_there_is_one_line(device):
    for call in (lambda: check_device(device), lambda: build_model("mini", False, device=device)):
        with pytest.raises(RDSInputError, match=f"device {device}: not usable here; found cpu") as caught:
            call()
        assert "\n" not in str(caught.value)
