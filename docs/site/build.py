"""Build the site into build/site: copy what it shows beside its own pages, list the reference, and run Sphinx."""

import re
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SITE, WORK = ROOT / "build" / "site", ROOT / "build" / "site-work"
SOURCE, TREES, NEW = (WORK / name for name in ("source", "trees", "html"))
FOLDERS = ("assets", "benchmarks", "docs", "notebooks", "params", "rds_lib", "recipes", "reports", "tests")
FILES = ("*.md", "*.yaml", "*.yml", "*.toml", "*.lock", "*.cff", "LICENSE", "Makefile")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.safetensors", "cache", "site")
TOLD = ("*.md", "docs/*.md", "reports/**/*.md", "notebooks/*.ipynb")
MODULE = re.compile(r"\brds_lib(?:[./]\w+)+")


def copy_sources() -> None:
    """Fill the folder of sources: the repository's pages and what they may link to, as they lie, and the site's own."""
    shutil.rmtree(WORK, ignore_errors=True)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, SOURCE / folder, ignore=LEFT_OUT)
    for file in (file for pattern in FILES for file in ROOT.glob(pattern)):
        shutil.copy2(file, SOURCE)
    shutil.copytree(HERE / "pages", SOURCE, dirs_exist_ok=True)


def modules_told_of() -> list[str]:
    """Dotted names of the modules that README, guides, reports or notebooks import from or name."""
    pages = [page for pattern in TOLD for page in SOURCE.glob(pattern)]
    found = set()
    for name in {name for page in pages for name in MODULE.findall(page.read_text(encoding="utf-8"))}:
        parts = name.replace("/", ".").split(".")  # of a file, a module, or a name in one
        ways = [parts[:length] for length in range(2, len(parts) + 1) if parts[length - 1] != "__init__"]
        found |= {".".join(way) for way in ways if SOURCE.joinpath(*way).with_suffix(".py").is_file()}
    return sorted(found)


def write_reference() -> None:
    """Fill in the lists of the reference's front page; Sphinx writes a page for each name in them."""
    sys.path.insert(0, str(ROOT))
    import rds_lib

    page = SOURCE / "api" / "index.rst"
    lists = {"NAMES": [f"~rds_lib.{name}" for name in rds_lib.__all__], "MODULES": modules_told_of()}
    text = page.read_text(encoding="utf-8")
    for mark, names in lists.items():
        text = text.replace(f"   {mark}\n", "".join(f"   {name}\n" for name in names))
    page.write_text(text, encoding="utf-8")


def main() -> int:
    """Build the whole site anew and return the exit code; a warning is an error, after which an older site stays."""
    copy_sources()
    write_reference()
    code = build_main(["-q", "-W", "--keep-going", "-d", str(TREES), "-c", str(HERE), str(SOURCE), str(NEW)])
    if code == 0:
        keep = shutil.ignore_patterns("*.svg", "*.png", "*.csv")
        shutil.copytree(SOURCE / "reports" / "figures", NEW / "reports" / "figures", ignore=keep)
        shutil.rmtree(SITE, ignore_errors=True)
        NEW.rename(SITE)
        shutil.rmtree(WORK)
    return code


if __name__ == "__main__":
    sys.exit(main())
