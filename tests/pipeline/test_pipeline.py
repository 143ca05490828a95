"""dvc.yaml: stages depend on the code they reach and the sections they read; names are the same everywhere."""

import ast
import json
import re

import pytest
from PIL import Image
from ruamel.yaml import YAML

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline import notebook, training_runs
from rds_lib.pipeline.params import Params, load_params
from rds_lib.pipeline.stages import NOTEBOOKS, STAGES, require
from rds_lib.work.finished import sealed

LIBRARY = paths.ROOT / "rds_lib"
PIPELINE = YAML(typ="safe").load((paths.ROOT / "dvc.yaml").read_text())["stages"]
STORED = sorted(file.stem for file in paths.NOTEBOOKS.glob("*.ipynb"))
SECTIONS = Params.model_fields.keys() - {"profile"}
# In no list: errors, paths, parameters and file writing, locks and processes, the register of stages, and cache keys.
PLUMBING = (
    "rds_lib/core/",
    "rds_lib/work/",
    *(
        f"rds_lib/pipeline/{name}.py"
        for name in (
            "stages",
            "params",
            "sections",
            "profile_rules",
            "profile_words",
            "fingerprint",
            "kept",
            "__init__",
        )
    ),
)
# What the modules below the pipeline that take a whole profile read of it. Generated clips lie behind `data`.
READ_BELOW = {
    "training_sequences": {"data"},
    "validation_sources": {"data", "evaluation"},
    "training_key": {"clips", "data", "model"},
    "generate_datasets": {"clips"},
}


def imports(tree):
    """Return the modules of rds_lib, dotted below the package, that a syntax tree imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("rds_lib.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rds_lib":
            module = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                found.add(inner if file_of(inner).exists() else module or home(alias.name))
    return found


def file_of(module):
    path = LIBRARY / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def home(name):
    """Return the module that defines the public name `rds_lib.<name>`."""
    import rds_lib

    return rds_lib._EXPORTS[name]


def closure(start, without=()):
    """Return the files of the modules in `start` and of all that these import, some rooms left out.

    A package that registers its modules imports all of them.
    """
    files, todo = set(), set(start)
    while todo:
        module = todo.pop()
        path = file_of(module)
        if path not in files and module.partition(".")[0] not in without:
            files.add(path)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            todo |= imports(tree)
            if path.name == "__init__.py" and "import_module" in path.read_text(encoding="utf-8"):
                todo |= {f"{path.parent.name}.{file.stem}" for file in path.parent.glob("[a-z]*.py")}
    return {file.relative_to(paths.ROOT).as_posix() for file in files}


def cells(name):
    """Return the code of a notebook as one syntax tree."""
    nb = notebook.read(name)
    return ast.parse("\n".join(cell.source for cell in nb.cells if cell.cell_type == "code"))


def reached(name):
    """Return the files that a stage's products follow from.

    Those are the files behind its own module, and behind its notebook without what the notebook only shows them with.
    """
    stage = STAGES.get(name)
    own = {stage.run.partition(":")[0].removeprefix("rds_lib.")} if stage and stage.run else set()
    told = imports(cells(stage.notebook)) if stage and stage.notebook else set()
    files = closure(own | ({"data.generate"} if name == "clips" else set())) | closure(told, without=("report", "show"))
    return {file for file in files if not file.startswith(PLUMBING)}


def listed(stage):
    return {dep for dep in stage["deps"] if dep.startswith("rds_lib/")}


def tracked(stage):
    return {section for item in stage.get("params", []) for sections in item.values() for section in sections}


def profile_of(name):
    """The profile that a stage runs with: the pipeline's own, but for the frozen stage whose weights are shipped."""
    return "mini" if name == "pretrain" else "${profile}"


def sections_read(name):
    """Return the sections that a stage reads.

    Those are `params.<section>` in its notebook, in its own module, and in the functions that these name in other
    modules of the pipeline. Below the pipeline only `READ_BELOW` sees a whole profile.
    """
    files = {paths.ROOT / file for file in reached(name) if file.startswith("rds_lib/pipeline/")}
    own = {file for file in files if file.stem == name}
    functions = {
        node.name: node
        for file in files - own
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    todo = [ast.parse(file.read_text(encoding="utf-8")) for file in own]
    todo += [cells(STAGES[name].notebook)] if name in STAGES and STAGES[name].notebook else []
    found, named = set(), {"generate_datasets"} if name == "clips" else set()
    while todo:
        for node in ast.walk(todo.pop()):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "params":
                found.add(node.attr)
            if isinstance(node, ast.Name) and node.id not in named:
                named.add(node.id)
                todo += [functions[node.id]] if node.id in functions else []
    return (found & SECTIONS).union(*(read for function, read in READ_BELOW.items() if function in named))


CODED = [name for name in PIPELINE if name != "source"]


@pytest.mark.parametrize("name", CODED)
def test_a_stages_code_lies_in_its_folders_and_no_folder_is_idle(name):
    holders = {
        file: {dep for dep in listed(PIPELINE[name]) if file == dep or file.startswith(f"{dep}/")}
        for file in reached(name)
    }
    assert sorted(file for file, deps in holders.items() if not deps) == []
    assert listed(PIPELINE[name]) - set().union(*holders.values()) == set()


@pytest.mark.parametrize("name", CODED)
def test_a_stage_tracks_the_sections_that_it_reads(name):
    own = {name} & SECTIONS
    assert tracked(PIPELINE[name]) == sections_read(name) | own


def test_the_walk_follows_plain_lazy_and_registered_imports():
    tree = ast.parse(
        "def f():\n    from rds_lib.pipeline.notebook import run\nimport rds_lib.pipeline.params\n"
        "from rds_lib import data, score_masks\nfrom rds_lib.methods import dyt"
    )
    assert imports(tree) == {"pipeline.notebook", "pipeline.params", "data", "metrics.masks", "methods.dyt"}
    assert {"rds_lib/data/clips.py", "rds_lib/data/textures.py"} <= closure({"data.clips"})
    assert {"rds_lib/methods/adavit.py", "rds_lib/training/loop.py"} <= closure({"methods"})


def test_the_register_holds_the_stages_that_make_a_folder_or_run_a_notebook():
    made = {name for name, stage in PIPELINE.items() if f"runs/${{profile}}/{name}" in stage["outs"]}
    assert STAGES.keys() == made | {"pretrain"}
    told = {
        name: f"python -m rds_lib notebook run {stage.notebook} --profile {profile_of(name)}"
        for name, stage in STAGES.items()
        if stage.notebook
    }
    assert told == {name: stage["cmd"] for name, stage in PIPELINE.items() if "notebook run" in stage["cmd"]}
    bare = {name for name, stage in STAGES.items() if not stage.notebook}
    assert {name: PIPELINE[name]["cmd"] for name in bare} == {
        name: f"python -m rds_lib {name} --profile ${{profile}}" for name in bare
    }


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.run])
def test_a_stages_function_is_called_run_and_stands_in_its_own_module(name):
    assert STAGES[name].run == f"rds_lib.pipeline.{name}:run"
    tree = ast.parse(file_of(f"pipeline.{name}").read_text(encoding="utf-8"))
    (run,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assert [argument.arg for argument in run.args.args] == ["params", "workdir", "out"]


def test_no_stage_imports_another():
    for name in STAGES:
        path = LIBRARY / "pipeline" / f"{name}.py"
        found = imports(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else set()
        assert found & {f"pipeline.{other}" for other in STAGES} == set(), name


def test_every_stage_that_an_error_names_can_be_run():
    """`dvc repro X` in any message: X is a stage, or the import of the data."""
    runnable = {*PIPELINE, "data.dvc"}
    for path in LIBRARY.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            keyword.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "stage" and isinstance(keyword.value, ast.Constant)
        }
        named |= {
            word
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for word in re.findall(r"dvc repro ([a-z]\w*)", node.value)
        }
        assert named <= runnable, path


@pytest.mark.parametrize(
    ("product", "stage"),
    [
        ("baselines/placement", "baselines"),
        ("train", "train"),
        ("importance/importance.csv", "importance"),
        ("data", "data"),
    ],
)
def test_a_missing_product_is_named_with_the_stage_that_makes_it(product, stage, tmp_path):
    folder = product.partition("/")[0]
    with pytest.raises(RDSInputError, match=rf"{folder} is missing; make it with: dvc repro {stage}$"):
        require(product, load_params("mini"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_product_that_was_cut_since_its_stage_ended_is_refused(tmp_path):
    with sealed(tmp_path / "importance"):
        (tmp_path / "importance").mkdir()
        (tmp_path / "importance" / "importance.csv").write_text("block,score\n0,1\n")
    params = load_params("mini")
    path = require("importance/importance.csv", params, tmp_path)
    path.write_text("block,score\n")
    with pytest.raises(RDSInputError, match=r"importance\.csv: is not as its stage left it; delete it and \.dvc/cache"):
        require("importance/importance.csv", params, tmp_path)


def test_a_smoke_run_builds_what_is_missing_and_other_runs_do_not(tmp_path, monkeypatch):
    built = []

    def run(params, workdir, out):
        built.append(out)
        out.mkdir()
        (out / "calibration.csv").write_text("")

    monkeypatch.setattr("rds_lib.pipeline.train.run", run)
    for _ in range(2):
        found = require("train/calibration.csv", load_params("smoke"), tmp_path)
        assert found == tmp_path / "train" / "calibration.csv" and found.is_file()
    assert len(built) == 1
    with pytest.raises(RDSInputError, match="train/none.csv is missing; make it with: dvc repro train"):
        require("train/none.csv", load_params("smoke"), tmp_path)
    with pytest.raises(RDSInputError, match="stage 'trian' is unknown; the pipeline has: pretrain, data, importance"):
        require("trian", load_params("smoke"), tmp_path)
    with pytest.raises(RDSInputError, match="dvc repro data"):
        require("data", load_params("smoke"), tmp_path)


def test_cached_trainings_depend_on_the_rooms_that_their_stages_list():
    def rooms(stage):
        return {dep.removeprefix("rds_lib/") for dep in listed(PIPELINE[stage]) if (paths.ROOT / dep).is_dir()}

    assert set(training_runs.ROOMS) == rooms("train")
    assert {*training_runs.ROOMS, "methods"} == rooms("baselines")


def test_stages_depend_on_the_code_cells_of_their_notebooks_alone():
    assert PIPELINE["source"]["deps"] == ["notebooks"] and PIPELINE["source"]["outs"] == ["build/source"]
    for name, stage in PIPELINE.items():
        told = {dep for dep in stage["deps"] if dep.startswith("build/source")}
        has_one = name in STAGES and STAGES[name].notebook
        assert told == ({f"build/source/{STAGES[name].notebook}.json"} if has_one else set())
        assert name == "source" or not any(dep.startswith("notebooks") for dep in stage["deps"])


def test_every_notebook_has_one_section_of_every_profile():
    assert NOTEBOOKS.keys() == set(STORED) and set(NOTEBOOKS.values()) <= SECTIONS
    for name, stage in PIPELINE.items():
        assert all(list(item) == [f"params/{profile_of(name)}.yaml"] for item in stage.get("params", []))
        assert tracked(stage) <= SECTIONS


def test_a_frozen_stage_is_the_same_in_every_profile():
    """DVC takes one whose command changed for changed, and wants its dependencies without making them."""
    frozen = [stage for stage in PIPELINE.values() if stage.get("frozen")]
    assert frozen == [PIPELINE["pretrain"]] and "${profile}" not in json.dumps(frozen)


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_the_commands_of_stages_write_where_dvc_looks(profile, monkeypatch):
    from rds_lib.pipeline import commands

    monkeypatch.delenv("RDS_WORKDIR", raising=False)
    monkeypatch.setattr(commands, "fit_threads", lambda config: None)
    params, folder = commands._begin(profile)
    for name in [name for name, stage in PIPELINE.items() if f"runs/${{profile}}/{name}" in stage["outs"]]:
        assert folder / name == paths.ROOT / "runs" / params.profile / name


def test_what_stages_depend_on_exists():
    deps = {dep for stage in PIPELINE.values() for dep in stage["deps"]}
    kept = {dep for dep in deps if not dep.startswith(("runs/", "build/")) and dep != "data"}
    assert [dep for dep in sorted(kept) if not (paths.ROOT / dep).exists()] == []


def test_only_what_shows_speeds_depends_on_wall_clock_times():
    def readers(product):
        return [name for name, stage in PIPELINE.items() if f"runs/${{profile}}/{product}" in stage["deps"]]

    assert readers("benchmark") == ["report", "figures"]
    assert readers("report") == ["check"] and readers("figures") == readers("check") == []


def test_stages_write_below_runs_and_build_alone():
    """So that a run leaves git's files as they are, but for dvc.lock."""
    for name, stage in PIPELINE.items():
        outs = {out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]}
        assert name == "pretrain" or all(out.startswith(("runs/${profile}/", "build/")) for out in outs)
    named = {path.name for path in LIBRARY.rglob("*.py") if re.search(r"\bREPORTS\b", path.read_text(encoding="utf-8"))}
    assert named == {"paths.py", "documents.py"}, "and what asks paths.reports()"
    asking = {path.name for path in LIBRARY.rglob("*.py") if "reports(params" in path.read_text(encoding="utf-8")}
    assert asking == {"check.py", "publish.py"}


def test_data_is_an_unfrozen_import_of_the_generated_clips():
    data = YAML(typ="safe").load((paths.ROOT / "data.dvc").read_text())
    assert not data.get("frozen", False)
    assert [dep["path"] for dep in data["deps"]] == PIPELINE["clips"]["outs"] == ["build/clips"]
    assert [out["path"] for out in data["outs"]] == ["data"]


@pytest.mark.parametrize("name", STORED)
def test_stored_notebook_is_tidy_and_executed(name):
    nb = notebook.read(name)
    assert notebook.tidy(nb) == nb, f"run: python -m rds_lib notebook refresh {name}"
    assert all(cell.execution_count for cell in nb.cells if cell.cell_type == "code")
    assert (paths.NOTEBOOKS / f"{name}.ipynb").stat().st_size < 300_000


@pytest.mark.parametrize("name", STORED)
def test_papermill_reads_every_parameter_and_its_comment(name):
    """Its parser skips a line with a second `=`, and then calls the parameter unknown."""
    import papermill

    found = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{name}.ipynb"))
    values = notebook.parameters(notebook.read(name))
    assert list(found) == list(values)
    assert {key: ast.literal_eval(item["default"]) for key, item in found.items()} == values


def test_all_paths_of_your_video_start_at_the_repository(monkeypatch, tmp_path):
    """Run the cells up to the prompt, in the folder of the notebooks as a kernel does."""
    import rds_lib

    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    monkeypatch.chdir(paths.NOTEBOOKS)
    code = [cell.source for cell in notebook.read("your_video").cells if cell.cell_type == "code"]
    (tmp_path / "root" / "clip").mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(tmp_path / "root" / "clip" / "0.png")
    Image.new("L", (32, 24), 1).save(tmp_path / "root" / "first.png")
    space, opened, frames_of = {}, [], rds_lib.frames_of
    monkeypatch.setattr(rds_lib, "frames_of", lambda video: opened.append(video) or frames_of(video))
    for source in (code[0], code[1], 'video, prompt, out = "clip", "first.png", "result"', code[2], code[3]):
        exec(source, space)
    assert opened == [tmp_path / "root" / "clip"] and list(space["prompts"]) == [1]
    (target,) = [node for node in ast.walk(cells("your_video")) if ast.unparse(node).startswith("target = ")]
    exec(ast.unparse(target), space)
    assert space["target"] == tmp_path / "root" / "result"


@pytest.mark.parametrize("name", STORED)
def test_parameters_cell_holds_the_smoke_values(name):
    values = json.loads(json.dumps(notebook.parameters(notebook.read(name))))
    assert values == notebook.section_values(name, "smoke")
