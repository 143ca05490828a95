"""dvc.yaml: stages depend on the modules they import and the sections they read; nothing else drifts."""

import ast
import json

import pytest
from ruamel.yaml import YAML

from rds_lib.core import paths
from rds_lib.core.params import load_params
from rds_lib.pipeline import notebook

PIPELINE = YAML(typ="safe").load((paths.ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
NOTEBOOK_STAGES = {stage["cmd"].split()[4]: stage for stage in STAGES.values() if "rds_lib.pipeline.notebook run" in stage["cmd"]}
STORED = sorted(file.stem for file in paths.NOTEBOOKS.glob("*.ipynb"))
STAGED = [name for name in STORED if name in NOTEBOOK_STAGES]
SECTIONS = load_params("smoke").model_dump(exclude={"profile"}).keys()
ROOMS = {path.name for path in (paths.ROOT / "rds_lib").iterdir() if path.is_dir()} - {"__pycache__"}
# No stage but `figures` lists these: errors, paths, parameters and file writing, and pictures drawn from products.
PLUMBING = ("rds_lib/core/", "rds_lib/show/notebook_figures.py", "rds_lib/show/__init__.py")


def modules(tree):
    """Return the rds_lib modules that a syntax tree imports, dotted below the package, wherever the imports stand."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("rds_lib.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rds_lib":
            module = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                found.add(inner if file_of(inner).exists() else module or home(alias.name))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rds_lib":
            found.add(home(node.attr))
    return found


def file_of(module):
    path = paths.ROOT / "rds_lib" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def home(name):
    """Return the module behind `rds_lib.<name>`: the module itself, or where a re-exported name is defined."""
    if file_of(name).exists():
        return name
    import rds_lib

    return rds_lib._EXPORTS[name]


def closure(start):
    """Return the files of the modules in `start` and of all that these import inside the package."""
    files, todo = set(), set(start)
    while todo:
        path = file_of(todo.pop())
        if path not in files:
            todo |= modules(ast.parse(path.read_text()))
            files.add(path)
    return {file.relative_to(paths.ROOT).as_posix() for file in files}


def listed(stage):
    return {dep for dep in stage["deps"] if dep.startswith("rds_lib/")}


def check_code(stage, start):
    """Raise unless what `start` imports lies in the stage's folders and files, and each of these holds some of it."""
    reached = {file for file in closure(start) if not file.startswith(PLUMBING) or "rds_lib/show" in listed(stage) and not file.startswith(PLUMBING[0])}
    holders = {file: {dep for dep in listed(stage) if file == dep or file.startswith(f"{dep}/")} for file in reached}
    assert [file for file, deps in holders.items() if not deps] == []
    assert listed(stage) - set().union(*holders.values()) == set()


def sections_read(tree):
    """Return the sections `params.<section>` read by a notebook and by all functions it reaches, found by name."""
    functions = {}
    for file in closure(modules(tree)):
        for node in ast.walk(ast.parse((paths.ROOT / file).read_text())):
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, []).append(node)
    sections, seen, todo = set(), set(), [tree]
    while todo:
        for node in ast.walk(todo.pop()):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params":
                sections.add(node.attr)
            if name in functions and name not in seen:
                seen.add(name)
                todo += functions[name]
    return sections & SECTIONS


def code(name):
    return "\n".join(cell.source for cell in notebook.read(name).cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", STAGED)
def test_a_notebooks_code_lies_in_its_stages_folders_and_none_is_idle(name):
    check_code(NOTEBOOK_STAGES[name], modules(ast.parse(code(name))))


@pytest.mark.parametrize(("stage", "module"), [
    ("clips", "data.generate"), ("benchmark", "evaluation.benchmark"), ("report", "pipeline.report")])
def test_a_commands_code_lies_in_its_stages_folders_and_none_is_idle(stage, module):
    check_code(STAGES[stage], {module})


def test_module_walk_follows_plain_lazy_and_chained_imports():
    tree = ast.parse("def f():\n    from rds_lib.pipeline.notebook import run\nimport rds_lib.core.params\nfrom rds_lib import data")
    assert modules(tree) == {"pipeline.notebook", "core.params", "data"}
    assert {"rds_lib/data/clips.py", "rds_lib/data/textures.py"} <= closure({"data.clips"})
    assert modules(ast.parse("from rds_lib.methods import dyt\nfrom rds_lib import score_masks")) == {"methods.dyt", "metrics.masks"}


@pytest.mark.parametrize("name", STAGED)
def test_stage_tracks_the_sections_its_notebook_reads(name):
    tracked = set(NOTEBOOK_STAGES[name]["params"][0]["params/${profile}.yaml"])
    assert tracked == sections_read(ast.parse(code(name))) | {notebook.SECTIONS[name]}


def test_every_staged_notebook_has_a_source_stage_and_depends_on_it():
    assert STAGES["source"]["matrix"]["nb"] == sorted(NOTEBOOK_STAGES)
    for name, stage in NOTEBOOK_STAGES.items():
        assert f"build/source/{name}.json" in stage["deps"]
        assert not any(dep.startswith("notebooks/") for dep in stage["deps"])


@pytest.mark.skipif(not STORED, reason="no notebooks yet")
def test_every_notebook_that_a_stage_runs_exists():
    assert NOTEBOOK_STAGES.keys() <= set(STORED)


def test_stages_and_notebooks_and_profiles_name_the_same_sections():
    for name, stage in STAGES.items():
        for tracked in stage.get("params", []):
            ((file, sections),) = tracked.items()
            assert file == "params/${profile}.yaml" and set(sections) <= SECTIONS, name
    assert set(notebook.SECTIONS.values()) <= SECTIONS
    assert NOTEBOOK_STAGES.keys() <= notebook.SECTIONS.keys()


def test_modules_named_in_dvc_yaml_exist():
    deps = {dep for stage in STAGES.values() for dep in stage["deps"] if dep.startswith("rds_lib/")}
    assert [dep for dep in sorted(deps) if not (paths.ROOT / dep).exists()] == []


def test_only_the_report_and_the_figures_depend_on_wall_clock_times_and_nothing_on_them():
    def readers(product):
        return [name for name, stage in STAGES.items() if any(dep.startswith("runs/") and dep.endswith(f"/{product}") for dep in stage["deps"])]

    assert readers("benchmark") == ["report", "figures"]
    assert readers("report") == readers("figures") == []


def test_data_is_an_unfrozen_import_of_the_generated_clips():
    data = YAML(typ="safe").load((paths.ROOT / "data.dvc").read_text())
    assert not data.get("frozen", False)
    assert [dep["path"] for dep in data["deps"]] == STAGES["clips"]["outs"] == ["build/clips"]
    assert [out["path"] for out in data["outs"]] == ["data"]


@pytest.mark.parametrize("name", STORED)
def test_stored_notebook_is_tidy_and_executed(name):
    nb = notebook.read(name)
    assert notebook.tidy(nb) == nb, f"run: python -m rds_lib.pipeline.notebook refresh {name}"
    assert all(cell.execution_count for cell in nb.cells if cell.cell_type == "code")
    assert (paths.NOTEBOOKS / f"{name}.ipynb").stat().st_size < 300_000


@pytest.mark.parametrize("name", STORED)
def test_parameters_cell_holds_the_smoke_values(name):
    values = json.loads(json.dumps(notebook.parameters(notebook.read(name))))
    assert values == notebook.section_values(name, "smoke")
