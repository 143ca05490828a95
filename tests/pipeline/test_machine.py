"""What a result was computed with."""

import platform

import numpy
import pytest

from rds_lib.pipeline.machine import PACKAGES, machine_facts


@pytest.mark.parametrize(
    ("flags", "vectors"), [("sse4_2 avx avx2", "AVX2"), ("avx2 avx512f fma", "AVX-512"), ("sse4_2", "unknown")]
)
def test_processor_and_vector_instructions_are_read_from_the_system(tmp_path, flags, vectors):
    one = f"processor\t: {{}}\nmodel name\t: Some CPU @ 2.0 GHz\nflags\t\t: {flags}\n\n"
    (tmp_path / "cpuinfo").write_text(one.format(0) + one.format(1))
    facts = machine_facts(tmp_path / "cpuinfo")
    assert facts["processor"] == "Some CPU @ 2.0 GHz" and facts["vector instructions"] == vectors


def test_versions_are_those_of_this_process(tmp_path):
    facts = machine_facts(tmp_path / "none")
    assert facts["python"] == platform.python_version() and facts["numpy"] == numpy.__version__
    assert facts["processor"] and set(PACKAGES) < set(facts) and "not installed" not in facts.values()
