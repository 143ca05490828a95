"""What pyproject.toml cannot say: a built package takes along the files that lie beside it in the repository."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# rds_lib.core.paths finds them in rds_lib/shipped
FILES = ("assets/mini_sam2", "assets/mini_dinov3", "params", "params.yaml")


class BuildWithFiles(build_py):
    """Copy them into what is built; an editable install reads them where they lie."""

    def run(self):
        super().run()
        for name in () if self.editable_mode else FILES:
            target = Path(self.build_lib, "rds_lib", "shipped", name)
            if Path(name).is_dir():
                pictures = shutil.ignore_patterns("*.png", "*.jpg")
                shutil.copytree(name, target, dirs_exist_ok=True, ignore=pictures)
            else:
                shutil.copyfile(name, target)


setup(cmdclass={"build_py": BuildWithFiles})
