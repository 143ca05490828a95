"""The machine and the versions that a result was computed with."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = "machine.json"  # beside committed results
PACKAGES = {"torch": "torch", "numpy": "numpy", "sam2": "sam2", "opencv": "opencv-python-headless"}
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}  # the widest first


def machine_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return processor, vector instructions, and the versions of Python and of the packages that compute results."""
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.is_file() else []
    found = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    flags = set(found.get("flags", found.get("Features", "")).split())
    return {
        "processor": found.get("model name") or platform.processor() or platform.machine(),
        "vector instructions": next((name for flag, name in _VECTORS.items() if flag in flags), "unknown"),
        "python": platform.python_version(),
        **{name: _version(package) for name, package in PACKAGES.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
