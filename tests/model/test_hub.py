"""SAM2's ids on the hub in place of configs and checkpoints: fetched, kept, refused, from a server on this machine."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import hub_served
from huggingface_hub import constants
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from typer.testing import CliRunner

from rds_lib import build_rds_video_predictor
from rds_lib.__main__ import app
from rds_lib.core import paths
from rds_lib.core.artifacts import read_json
from rds_lib.core.errors import RDSInputError
from rds_lib.data import hub as ids
from rds_lib.data.origin import file_sha256
from rds_lib.model.backbone import origin_of
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.weights import origins
from rds_lib.routing.predictor import RDSVideoPredictor

ID, OTHER, FILE = "facebook/sam2-hiera-tiny", "facebook/sam2.1-hiera-large", "sam2_hiera_tiny.pt"
CONFIG, LARGE = "configs/sam2/sam2_hiera_t.yaml", "configs/sam2.1/sam2.1_hiera_l.yaml"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and an empty cache of it."""
    with hub_served() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its attempts
        yield served


@pytest.fixture
def mini_on_hub(hub, mini_model, tmp_path, monkeypatch):
    """The id of a small model: of config mini, in SAM2's format."""
    monkeypatch.setitem(HF_MODEL_ID_TO_FILENAMES, ID, ("mini", FILE))
    torch.save({"model": mini_model.state_dict()}, tmp_path / "made.pt")
    hub.files[f"{ID}/{FILE}"] = (tmp_path / "made.pt").read_bytes()
    return hub


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("arguments", [(ID,), ("mini", ID), ("mini", Path(ID))])
def test_an_id_names_the_config_and_the_weights(mini_on_hub, mini_model, arguments):
    predictor = build_rds_video_predictor(*arguments, device="cpu")
    assert isinstance(predictor, RDSVideoPredictor) and same(predictor, mini_model)
    origin, sent = origin_of(predictor), mini_on_hub.files[f"{ID}/{FILE}"]
    assert (origin.config, origin.checkpoint) == ("mini", ID)
    assert origin.sha256 == hashlib.sha256(sent).hexdigest()


def test_a_file_is_fetched_once_and_later_without_a_network(mini_on_hub, mini_model, monkeypatch):
    assert ids.cached(ID) is None
    build_model(ID)
    assert ids.cached(ID).name == FILE
    assert [method for method, path in mini_on_hub.asked if path.endswith(FILE)] == ["HEAD", "GET"]
    mini_on_hub.files.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(mini_on_hub.asked)
    assert same(build_model(ID), mini_model) and len(mini_on_hub.asked) == asked


def test_from_pretrained_takes_ids_alone(mini_on_hub, mini_model):
    assert same(RDSVideoPredictor.from_pretrained(ID, device="cpu"), mini_model)
    with pytest.raises(RDSInputError, match="'mini' is no id of SAM2's"):
        RDSVideoPredictor.from_pretrained("mini", device="cpu")


def test_the_command_line_takes_ids_and_results_name_their_weights(mini_on_hub, davis_root, tmp_path):
    video = str(next((davis_root / "JPEGImages" / "480p").iterdir()))
    track = ["track", video, "--click", "30,30", "--no-overlay"]
    runs = {
        "track": [*track, "--config", ID],
        "checkpoint": [*track, "--config", "mini", "--checkpoint", ID],
        "evaluate": ["evaluate", "--data", str(davis_root), "--config", ID],
    }
    for name, command in runs.items():
        done = CliRunner().invoke(app, [*command, "--device", "cpu", "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        found = read_json(tmp_path / name / "model.json")["model"]
        assert (found["config"], found["checkpoint"]) == ("mini", ID) and found["sha256"] == file_sha256(ids.cached(ID))
    command = ["headroom", "--data", str(davis_root), "--config", ID, "--routes", "2", "--frames", "2", "--no-mirror"]
    out = tmp_path / "headroom"
    done = CliRunner().invoke(app, [*command, "--device", "cpu", "--profile", "smoke", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert read_json(out / "headroom.json")["weights"] == found
    assert f"(weights {ID}, SHA-256 {found['sha256']})" in (out / "headroom.md").read_text()


def test_a_profile_takes_ids(mini_on_hub, tmp_path):
    text = (paths.PARAMS / "smoke.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace('checkpoint: ""', f"checkpoint: {ID}", 1))
    params = load_params(path=tmp_path / "own.yaml")
    assert origins(params)["model"]["checkpoint"] == ID
    assert origins(params, checkpoint=False)["model"] == {
        "config": "mini",
        "checkpoint": "random weights",
        "sha256": None,
        "tensors_sha256": None,
    }
    (tmp_path / "own.yaml").write_text(text.replace('checkpoint: ""', f"checkpoint: {OTHER}", 1))
    with pytest.raises(RDSInputError, match=f"model.checkpoint = '{OTHER}': must be of its config .*{LARGE}.*'mini'"):
        load_params(path=tmp_path / "own.yaml")


@pytest.mark.parametrize("model", HF_MODEL_ID_TO_FILENAMES)
def test_all_eight_ids_imply_a_config(model):
    config, checkpoint = ids.with_config(model, None)
    assert ids.is_id(model) and (config, checkpoint) == (HF_MODEL_ID_TO_FILENAMES[model][0], model)
    assert ids.with_config(Path(config).name, model)[1] == model, "the config's older name"
    assert ids.with_config(model, False) == (config, False) and ids.with_config(model, "own.pt") == (config, "own.pt")


def test_an_id_of_another_config_is_refused_before_anything_is_fetched(hub):
    for config, checkpoint, given in ((LARGE, ID, LARGE), (OTHER, ID, OTHER), ("mini", ID, "mini")):
        with pytest.raises(
            RDSInputError, match=f"checkpoint {ID} is of config '{CONFIG}', and the config given is '{given}'"
        ):
            build_rds_video_predictor(config, checkpoint, device="cpu")
    assert hub.asked == []


def test_unknown_ids_are_listed(hub):
    for arguments in (("facebook/sam2.1-hiera-huge",), (LARGE, "facebook/sam2.1-hiera-huge")):
        with pytest.raises(RDSInputError, match=f"'facebook/sam2.1-hiera-huge' is no id.*{ID}.*{OTHER}"):
            build_rds_video_predictor(*arguments, device="cpu")
    assert not ids.is_id("facebook/sam2_hiera_tiny.pt") and not ids.is_id("checkpoints/sam2") and not ids.is_id("mini")


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "RepoNotFound", r"the hub refuses it, with status 401\); run hf auth login, or set HF_TOKEN"),
        (401, "GatedRepo", "accounts that accepted its terms.*hf auth login"),
        (403, "GatedRepo", "accounts that accepted its terms.*hf auth login"),
        (404, "RepoNotFound", "the hub refuses it, with status 404"),
        (404, "EntryNotFound", "there is no sam2_hiera_tiny.pt in it.*HF_ENDPOINT, http://127"),
        (500, "", r"answers with status 500\); try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_error_with_its_fix(hub, status, code, says):
    hub.refuse[ID] = (status, code)
    with pytest.raises(
        RDSInputError, match=f"^{ID}: {FILE} could not be fetched from the hub.*{says}.*give the path"
    ) as error:
        build_model(ID)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_no_network_and_an_empty_cache_are_one_error_with_its_fix(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(
        RDSInputError, match=f"{ID}: {FILE} .*http://127.0.0.1:9 cannot be reached.*give the path of {FILE}"
    ):
        build_model(ID)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        RDSInputError, match="HF_HUB_OFFLINE is set, and the cache does not have it.*unset HF_HUB_OFFLINE"
    ):
        build_model(ID)


class Code:
    """Executes when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_from_the_hub_is_not_run(mini_on_hub, tmp_path):
    torch.save({"model": {"weight": Code(tmp_path / "ran")}}, tmp_path / "evil.pt")
    mini_on_hub.files[f"{ID}/{FILE}"] = (tmp_path / "evil.pt").read_bytes()
    with pytest.raises(RDSInputError, match="asks for code beside tensors, which was not run .*mkdir"):
        build_model(ID)
    assert not (tmp_path / "ran").exists()


def test_the_hubs_own_variables_count(hub, tmp_path):
    """In a process of its own, for they are read when the library is loaded."""
    hub.files[f"{ID}/{FILE}"] = b"weights"
    code = f"from rds_lib.data import hub; print(hub.fetch({ID!r}).read_bytes())"
    for more, asks in (({}, True), ({"HF_HUB_OFFLINE": "1"}, False)):
        hub.asked.clear()
        environ = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")} | more
        done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=paths.ROOT, capture_output=True, text=True)
        assert done.stdout == "b'weights'\n", done.stderr
        assert bool(hub.asked) == asks
