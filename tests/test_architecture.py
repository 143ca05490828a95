"""What holds for the package as a whole: imports point downwards, files stay short, nothing is left half done."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "rds_lib"
ORDER = """
    errors paths params artifacts notebook parallel paper
    images frames layouts dataset_writers datasets output_folder textures clips generate own_video
    metrics_io metrics boxes
    routing sam2_models encoder router router_folding lora policy prompts predictor macs probes
    training_data pretrain_data tracking losses training_run pretrain train importance placement
    baselines.gates baselines.static baselines.pbd baselines.dyt baselines.adavit baselines.slimsam baselines.aligning
    baselines.files baselines.training baselines.slimming
    sources products evaluate baselines.products comparison recordings timed_arms benchmark table9 evidence claims
    stage_pretrain stage_importance stage_train stage_baselines stage_placement stage_evaluation stage_report
    viz figure_data paper_figures paper_pages results_page inspector_data inspector_picture inspector_page inspector
    stage_figures track __main__
""".split()  # a module may import those before it, and nothing else of this package
WITHOUT_TORCH = ("errors", "paths", "params", "artifacts", "notebook")
FILES = sorted(FOLDER.rglob("*.py"))
MODULES = {".".join(path.relative_to(FOLDER).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
           for path in FILES if path.stem != "__init__"}


class Imports(ast.NodeVisitor):
    """Names of the package's modules that a module imports, also inside functions, but not for type checkers alone."""

    def __init__(self):
        self.found = set()

    def visit_If(self, node):
        for child in node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node):
        self.found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("rds_lib.")}

    def visit_ImportFrom(self, node):
        assert not node.level, "imports are absolute"
        package, _, module = (node.module or "").partition(".")
        if package == "rds_lib" and (FOLDER / module.replace(".", "/")).is_dir():
            self.found |= {f"{module}.{alias.name}".strip(".") for alias in node.names}
        elif package == "rds_lib":
            self.found.add(module)


def imports(tree):
    visitor = Imports()
    visitor.visit(tree)
    return visitor.found


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def calls(tree, name):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_every_module_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name):
    allowed = set(ORDER[: ORDER.index(name)])
    assert imports(MODULES[name]) <= allowed


def test_imports_are_found_wherever_they_stand():
    tree = ast.parse(
        "from rds_lib import a, b\nfrom rds_lib.baselines import pbd\nfrom rds_lib.baselines.dyt import y\nimport rds_lib.c\nif TYPE_CHECKING:\n    from rds_lib.no import x\nelse:\n    from rds_lib.d import y\n"
        "def f():\n    from rds_lib.e import z\nimport torch\nfrom rds_library.no import w")
    assert imports(tree) == {"a", "b", "c", "d", "e", "baselines.pbd", "baselines.dyt"}


def test_the_modules_of_the_pipeline_do_not_load_torch():
    code = "import sys, " + ", ".join(f"rds_lib.{name}" for name in WITHOUT_TORCH) + "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_functions_stay_short():
    """Forty lines of code; the docstring is not counted."""
    def length(node):
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        return node.end_lineno - first.lineno + 1

    assert [(name, node.name, length(node)) for name, tree in MODULES.items() for node in functions(tree) if length(node) > 40] == []


def test_public_functions_and_classes_have_a_docstring():
    def is_bare(node):
        is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        return is_public and not ast.get_docstring(node)

    assert [(name, node.name) for name, tree in MODULES.items() for node in tree.body if is_bare(node)] == []
    assert [name for name, tree in MODULES.items() if not ast.get_docstring(tree)] == []


def test_docstrings_stay_short():
    def lines(node):
        return len((ast.get_docstring(node) or "").splitlines())

    assert [(name, node.name, lines(node)) for name, tree in MODULES.items() for node in functions(tree) if lines(node) > 25] == []


def test_the_library_prints_nothing():
    """The command lines may: ``__main__`` and functions called ``main``."""
    for name, tree in MODULES.items():
        if name != "__main__":
            allowed = {id(call) for node in functions(tree) if node.name == "main" for call in calls(node, "print")}
            assert [call.lineno for call in calls(tree, "print") if id(call) not in allowed] == [], name


def test_nothing_unpickles():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(names), name
        for call in calls(tree, "torch.load"):
            assert {item.arg: ast.unparse(item.value) for item in call.keywords}.get("weights_only") == "True", name
        for call in calls(tree, "np.load"):
            assert {item.arg: ast.unparse(item.value) for item in call.keywords}.get("allow_pickle", "False") == "False", name


def test_nothing_is_left_half_done():
    unfinished = re.compile("TO" + r"DO|FIX" + r"ME|XX" + r"X\b|NotImplemented" + "Error")
    assert [path.name for path in FILES if unfinished.search(path.read_text(encoding="utf-8"))] == []
