"""The notebook runner on notebooks of its own: parameters, tidying, sources, and errors that surface."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import cpu_count
from rds_lib.pipeline import notebook
from rds_lib.pipeline.stages import NOTEBOOKS
from rds_lib.work.finished import check_whole
from rds_lib.work.locks import claim

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Point the runner at an empty tree; return a function that writes `your_video` there."""
    for name in ["NOTEBOOKS", "BUILD", "RUNS", "SMOKE"]:
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    paths.NOTEBOOKS.mkdir()

    def write(*cells, **changes):
        values = notebook.section_values("your_video", "smoke") | changes
        lines = "\n".join(f"{key} = {value!r}  # a comment" for key, value in values.items() if value is not ...)
        nb = v4.new_notebook(metadata={"widgets": {"state": {}}})
        nb.cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell(lines, metadata={"tags": ["parameters"]})]
        nb.cells += [v4.new_code_cell(source) for source in cells]
        nbformat.write(nb, paths.NOTEBOOKS / "your_video.ipynb")
        return nb

    return write


def command(*arguments):
    return CliRunner().invoke(app, ["notebook", *arguments])


def stored():
    return notebook.read("your_video")


def test_tidy_is_idempotent_and_keeps_what_a_reader_sees():
    png = {"image/png": "AAAA", "text/plain": "<inspector>"}
    cell = v4.new_code_cell("view", execution_count=17, metadata={"tags": ["x"], "papermill": {"duration": 1.5}})
    cell.outputs = [
        v4.new_output("stream", name="stdout", text="a"),
        v4.new_output("stream", name="stdout", text="b\n"),
        v4.new_output("stream", name="stderr", text="c"),
        v4.new_output("execute_result", {**png, WIDGET: {"model_id": "1"}}, execution_count=17, metadata={"a": 1}),
    ]
    title = v4.new_markdown_cell("# T", metadata={"collapsed": True})
    nb = v4.new_notebook(cells=[title, cell], metadata={"widgets": {}})
    before = json.dumps(nb)
    tidied = notebook.tidy(nb)
    assert json.dumps(nb) == before
    assert notebook.tidy(tidied) == tidied
    assert [cell.id for cell in tidied.cells] == [cell.id for cell in nb.cells]
    assert tidied.metadata == {"kernelspec": notebook.KERNELSPEC, "language_info": {"name": "python"}}
    assert tidied.cells[0].metadata == {} and tidied.cells[1].metadata == {"tags": ["x"]}
    assert tidied.cells[1].execution_count == 1
    out, err, result = tidied.cells[1].outputs
    assert (out.text, err.text) == ("ab\n", "c")
    assert result.data == png and result.metadata == {} and result.execution_count == 1


def test_tidy_does_not_hide_a_cell_that_never_ran():
    nb = v4.new_notebook(cells=[v4.new_code_cell("1"), v4.new_code_cell("2", execution_count=5)])
    assert [cell.execution_count for cell in notebook.tidy(nb).cells] == [None, 1]


def test_source_changes_with_code_and_tags_only(store):
    nb = store("x = 1")
    file = paths.BUILD / "source/your_video.json"

    def source(nb):
        nbformat.write(nb, paths.NOTEBOOKS / "your_video.ipynb")
        assert command("source", "your_video").exit_code == 0
        return file.read_bytes()

    first = source(nb)
    nb.cells[0].source = "# Another title"
    nb.cells[2].update(id="renumbered", execution_count=9, outputs=[v4.new_output("stream", text="x")])
    nb.cells[2].metadata["execution"] = {"started": "now"}
    assert source(nb) == first
    nb.cells[2].metadata["tags"] = ["raises-exception"]
    tagged = source(nb)
    nb.cells[2].source = "x = 2"
    assert len({first, tagged, source(nb)}) == 3


@pytest.mark.parametrize("action", ["run", "refresh"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"budgett": 0.5}, "has unknown budgett"), ({"box": ...}, "lacks box"), ({"profile": ...}, "lacks profile")],
)
def test_parameter_names_that_differ_are_an_error(store, action, changes, words):
    store(**changes)
    done = command(action, "your_video")
    assert done.exit_code == 2 and words in done.stderr


def test_refresh_refuses_a_parameters_cell_that_drifted(store):
    store(budget=0.75)
    done = command("refresh", "your_video")
    assert done.exit_code == 2 and "budget = 0.75, profile has " in done.stderr


@pytest.mark.parametrize("line", ["a = b", "a, b = 1, 2", "import os"])
def test_parameters_cell_holds_literals_only(line):
    nb = v4.new_notebook(cells=[v4.new_code_cell(line, metadata={"tags": ["parameters"]})])
    with pytest.raises(RDSInputError, match="is not `name = literal`"):
        notebook.parameters(nb)


def test_unknown_notebook_profile_and_missing_tag_are_errors(store):
    store()
    for arguments, words in (
        (("tidy", "my_video"), "no notebook 'my_video'"),
        (("run", "your_video", "--profile", "tiny"), "unknown profile 'tiny'"),
        (("run", "my_video"), "notebook 'my_video' has no section of parameters"),
    ):
        done = command(*arguments)
        assert done.exit_code == 2 and words in done.stderr
    with pytest.raises(RDSInputError, match="tagged `parameters` is expected, found 0"):
        notebook.parameters(v4.new_notebook())


def test_source_without_a_name_writes_those_of_all_stages(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    assert command("source").exit_code == 0
    written = {file.stem for file in (tmp_path / "source").iterdir()}
    assert written == NOTEBOOKS.keys() - {"07_inspect_routing", "your_video"}


def test_run_injects_the_profile_and_leaves_the_source_alone(store):
    store("import os", "print(profile, budget, os.environ['RDS_WORKDIR'][-4:])")
    before = (paths.NOTEBOOKS / "your_video.ipynb").read_bytes()
    environment = dict(os.environ)
    assert command("run", "your_video", "--profile", "mini").exit_code == 0
    executed = nbformat.read(paths.RUNS / "mini/executed/your_video.ipynb", as_version=4)
    banner, budget = executed.cells[0], notebook.section_values("your_video", "mini")["budget"]
    assert banner.id == "generated-banner" and "notebooks/your_video.ipynb" in banner.source
    assert "`python -m rds_lib notebook run your_video --profile mini`" in banner.source
    assert executed.cells[-1].outputs[0].text == f"mini {budget} mini\n"
    assert [cell.id for cell in executed.cells].count("injected-parameters") == 1
    assert notebook.tidy(executed) == executed
    assert (paths.NOTEBOOKS / "your_video.ipynb").read_bytes() == before
    assert os.environ == environment and not list(paths.BUILD.rglob("*.ipynb"))


def test_the_products_of_a_run_are_sealed(store):
    cell = "folder = pathlib.Path(os.environ['RDS_WORKDIR'], 'your_video'); folder.mkdir(parents=True, exist_ok=True)"
    store("import os, pathlib", cell, "_ = (folder / 'masks.csv').write_text('a,b')")
    for _ in range(2):
        assert command("run", "your_video", "--profile", "mini").exit_code == 0
        check_whole(folder := paths.RUNS / "mini" / "your_video")
        (folder / "masks.csv").write_text("a")
        with pytest.raises(RDSInputError, match=r"masks\.csv: is not as its stage left it"):
            check_whole(folder)


def test_kernels_are_our_own_whatever_the_user_has_set_up(store, tmp_path, monkeypatch):
    """A cluster's `python3` in JUPYTER_PATH, a profile of IPython, a start-up file and another way to start kernels."""
    spec, ipython = tmp_path / "cluster/kernels/python3", tmp_path / "ipython/profile_default/startup"
    spec.mkdir(parents=True)
    ipython.mkdir(parents=True)
    kernel = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Cluster", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    for file in (ipython / "00.py", tmp_path / "startup.py"):
        file.write_text("raised = True")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "cluster"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "cluster-provisioner")
    store("import sys", "print(sys.executable, 'raised' in globals())")
    done = command("run", "your_video", "--profile", "mini")
    assert done.exit_code == 0, done.output
    executed = nbformat.read(paths.RUNS / "mini/executed/your_video.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"{sys.executable} False\n"


def test_a_second_run_of_a_notebook_is_refused_while_the_first_lasts(store):
    store("1")
    executed = paths.RUNS / "mini/executed/your_video.ipynb"
    with claim(executed):
        done = command("run", "your_video", "--profile", "mini")
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "executed/your_video.ipynb: in use by process" in done.stderr and not executed.exists()


def test_a_kernel_whose_runner_has_ended_ends_too():
    """`end_with` itself has tests of its own."""
    with notebook.own_jupyter() as settings:
        (spec,) = Path(settings["JUPYTER_PATH"]).rglob("kernel.json")
        argv = [part.format(connection_file="/nowhere.json") for part in json.loads(spec.read_text())["argv"]]
    variables = {**os.environ, **notebook.environment(paths.RUNS), "JPY_PARENT_PID": "1"}
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_kernel_that_does_not_start_is_one_line(store, monkeypatch):
    store("1")
    for argv in (["/bin/false", "{connection_file}"], ["/no/such/python", "{connection_file}"]):
        monkeypatch.setattr(
            "ipykernel.kernelspec.get_kernel_dict",
            lambda argv=argv: {"argv": argv, "display_name": "broken", "language": "python"},
        )
        done = command("run", "your_video", "--profile", "mini")
        assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "notebooks/your_video.ipynb" in done.stderr and sys.executable in done.stderr


def test_refresh_stores_outputs_and_writes_nothing_into_runs(store):
    store("from rds_lib.core import paths", "(paths.workdir(profile) / 'x').write_text('x')", "budget")
    assert command("refresh", "your_video").exit_code == 0
    first = (paths.NOTEBOOKS / "your_video.ipynb").read_bytes()
    assert [cell.execution_count for cell in stored().cells[1:]] == [1, 2, 3, 4]
    budget = notebook.section_values("your_video", "smoke")["budget"]
    assert stored().cells[-1].outputs[0].data["text/plain"] == str(budget)
    assert not paths.RUNS.exists() and list(paths.SMOKE.iterdir()) == []
    assert command("refresh", "your_video").exit_code == 0
    assert (paths.NOTEBOOKS / "your_video.ipynb").read_bytes() == first


def test_failing_cell_is_named_and_the_exit_status_is_not_zero(store):
    store("def check(x):\n    raise ValueError('too short')", "check(budget)")
    done = command("run", "your_video", "--profile", "mini")
    assert done.exit_code == 1
    message = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
    assert "----> 2     raise ValueError" in message
    assert message.strip().endswith("notebooks/your_video.ipynb: cell [4] raised ValueError: too short")
    assert not (paths.RUNS / "mini/executed/your_video.ipynb").exists()


def test_smoke_environment_gives_up_gpu_and_processes_and_full_runs_fit_their_model(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    smoke, full = (notebook.environment(tmp_path, config="mini_half", smoke=flag) for flag in (True, False))
    assert full["OMP_NUM_THREADS"] == "1" and full["RDS_CPU_WORKERS"] == str(cpu_count())
    assert smoke == full | {"CUDA_VISIBLE_DEVICES": "", "RDS_CPU_WORKERS": "1"}
    assert "OMP_NUM_THREADS" not in notebook.environment(tmp_path, config="configs/sam2.1/sam2.1_hiera_l.yaml")
    assert full["PYTHONPATH"] == str(paths.ROOT) and full["PLOTLY_RENDERER"] == "plotly_mimetype"
