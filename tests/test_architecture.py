"""What holds for the package as a whole: imports point downwards, files stay short, nothing is left half done."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "rds_lib"
ORDER = [
    *("core", "work", "data", "metrics", "model", "routing", "training", "methods", "dinov3", "streaming"),
    *("pretraining", "evaluation", "report", "show", "supplies", "pipeline", "__main__"),
]
WITHOUT_TORCH = (
    "core.errors",
    "core.paths",
    "pipeline.params",
    "core.artifacts",
    "pipeline.fingerprint",
    "pipeline.stages",
    "pipeline.notebook",
    "pipeline.commands",
    "pipeline.machine",
    "pipeline.doctor.examine",
    "work.finished",
    "work.locks",
    "work.processes",
    "report.markdown",
)
CORE = ("core", "model", "routing", "training", "methods")  # what tracks, routes and trains: an evening's reading
WHOLE_PROFILE = ("pipeline", "data.generate", "data.sources")  # who may take `params`
FILES = sorted(FOLDER.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in FILES
    if path.name != "__init__.py" or path.parent != FOLDER
}


class Imports(ast.NodeVisitor):
    """Names of the package's modules that a module imports, also inside functions, but not for type checkers alone."""

    def __init__(self):
        self.found = set()

    def visit_If(self, node):
        for child in node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node):
        self.found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rds_lib.")}

    def visit_ImportFrom(self, node):
        assert not node.level, "imports are absolute"
        package, *rooms = (node.module or "").split(".")
        if package == "rds_lib":
            self.found |= {rooms[0]} if rooms else {alias.name for alias in node.names}


def rooms_imported(tree):
    visitor = Imports()
    visitor.visit(tree)
    return visitor.found


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def calls(tree, name):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_every_room_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted({name.split(".")[0] for name in MODULES})


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_rooms_before_it(name):
    room = name.split(".")[0]
    assert rooms_imported(MODULES[name]) <= {*ORDER[: ORDER.index(room)], room}


def test_imports_are_found_wherever_they_stand():
    tree = ast.parse(
        "from rds_lib import a\nfrom rds_lib.b import pbd\nfrom rds_lib.c.dyt import y\nimport rds_lib.d.x\n"
        "if TYPE_CHECKING:\n    from rds_lib.no import x\nelse:\n    from rds_lib.e import y\n"
        "def f():\n    from rds_lib.f import z\nimport torch\nfrom rds_library.no import w"
    )
    assert rooms_imported(tree) == set("abcdef")


def test_no_folder_of_tests_is_passed_over(pytestconfig):
    patterns = pytestconfig.getini("norecursedirs")
    folders = [path.name for path in Path(__file__).parent.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    assert [name for name in folders if any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_no_two_files_of_tests_share_a_name():
    """pytest imports them by name alone, and then fails to collect one of them, in runs of all tests only."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_core_reads_in_an_evening():
    """How it is executed faster, `routing.engine`, changes nothing that it does and may be left for another evening."""
    files = [path for room in CORE for path in (FOLDER / room).rglob("*.py") if path.parent.name != "engine"]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 6000


def test_the_modules_of_the_pipeline_do_not_load_torch():
    modules = ", ".join(f"rds_lib.{name}" for name in WITHOUT_TORCH)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_functions_stay_short():
    """Forty lines of code; the docstring is not counted."""

    def length(node):
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        return node.end_lineno - first.lineno + 1

    found = [(name, node.name, length(node)) for name, tree in MODULES.items() for node in functions(tree)]
    assert [item for item in found if item[-1] > 40] == []


def test_public_functions_and_classes_have_a_docstring():
    def is_bare(node):
        is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        return is_public and not ast.get_docstring(node)

    assert [(name, node.name) for name, tree in MODULES.items() for node in tree.body if is_bare(node)] == []
    assert [name for name, tree in MODULES.items() if not ast.get_docstring(tree)] == []


def test_docstrings_stay_short():
    def lines(node):
        return len((ast.get_docstring(node) or "").splitlines())

    found = [(name, node.name, lines(node)) for name, tree in MODULES.items() for node in functions(tree)]
    assert [item for item in found if item[-1] > 25] == []


def test_the_library_prints_nothing():
    """Its commands echo; see `pipeline.commands`."""
    assert [(name, call.lineno) for name, tree in MODULES.items() for call in calls(tree, "print")] == []


def test_only_the_pipeline_takes_a_whole_profile():
    """Below it functions take plain values, so that a reader sees what they need."""
    below = [
        (name, node) for name, tree in MODULES.items() if not name.startswith(WHOLE_PROFILE) for node in functions(tree)
    ]
    taking = [(name, node.name) for name, node in below if "params" in {argument.arg for argument in node.args.args}]
    assert taking == []


def test_nothing_unpickles():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            is_import = isinstance(node, ast.Import)
            names = [alias.name for alias in node.names] if is_import else [getattr(node, "module", None)]
            assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(names), name
        for function, key, safe in (("torch.load", "weights_only", "True"), ("np.load", "allow_pickle", "False")):
            for call in calls(tree, function):
                given = {item.arg: ast.unparse(item.value) for item in call.keywords}
                assert given.get(key, "False") == safe, name


def test_nothing_is_left_half_done():
    unfinished = re.compile("TO" + r"DO|FIX" + r"ME|XX" + r"X\b|NotImplemented" + "Error")
    assert [path.name for path in FILES if unfinished.search(path.read_text(encoding="utf-8"))] == []
