"""All checks in their order, and the lines of the stages. Only what needs torch imports it."""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from rds_lib.core import paths
from rds_lib.core.artifacts import read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import THREADS, WORKERS, cpu_count, fit_threads, thread_variables
from rds_lib.pipeline.doctor import checks_checkout, checks_data, checks_machine, checks_python
from rds_lib.pipeline.doctor.chain import Chain, read_chain
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, OK, Finding, guarded, refusal
from rds_lib.pipeline.doctor.report import Report, duration, stage_lines
from rds_lib.pipeline.params import load_params


def examine(profile: str | None = None, *, quick: bool = False) -> Report:
    """Check this machine and this checkout for a profile, by default the one that ``params.yaml`` names.

    Nothing is changed but for an empty folder that is made and removed to see that it can be. ``quick`` times nothing.
    """
    environ = dict(os.environ)  # as the user has set it, before threads are fitted
    checks = [
        *guarded("Python", checks_python.check_python),
        *guarded("packages", checks_python.check_packages),
        *guarded("SAM2's extension", checks_python.check_extension),
        *guarded("Chromium", checks_python.check_browser),
        *guarded("git", checks_checkout.check_git),
        *guarded("places to write", checks_machine.check_places),
    ]
    default = _default()
    try:
        params = load_params(profile)
        chain = read_chain(params.profile)
    except RDSInputError as error:
        name = profile or default or "?"
        edit = f"edit params/{name}.yaml"
        if "unknown profile" in str(error):
            edit = "name another one in params.yaml, or with --profile"
        for file in ("dvc.yaml", "params.yaml"):
            edit = f"git checkout {file}" if str(error).partition(":")[0].split(" ")[0].endswith(file) else edit
        checks.append(refusal("profile", error, fix=edit))
        return Report(name, checks)
    checks.append(Finding("profile", OK, f"params/{params.profile}.yaml: every value is in its range"))
    checks, todo = _check_rest(params, chain, default, environ, checks)
    return _report(params, chain, checks, todo, environ, quick)


def _check_rest(params, chain: Chain, default, environ: Mapping, checks):
    """Add what depends on the profile; returns all findings, and the stages that would run, or None."""
    config = params.model.config
    checks += guarded("processors", checks_machine.check_processors, config, environ)
    checks += guarded("memory", checks_machine.check_memory, config, _workers(config, environ))
    checks += guarded("disk", checks_machine.check_disk, params)
    checks += guarded("data", checks_data.check_data, params)
    checks += guarded("other runs", checks_checkout.check_runs, params.profile, chain)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(checks_checkout.check_dvc, params.profile, default, chain)  # meanwhile torch is loaded
        if not _lacks_packages(checks):
            fit_threads(config)
            from rds_lib.pipeline.doctor import checks_model

            checks += guarded("devices", checks_model.check_devices, params)
            if "torch" in sys.modules:  # else the line above says why not
                checks += guarded("weights", checks_model.check_weights, params, chain)
        dvc, todo = answer.result()
    return [*checks, dvc], todo


def _report(params, chain: Chain, checks, todo, environ: Mapping, quick: bool) -> Report:
    seconds, notes, unknown = {}, [], {"": "not timed (--quick)" if quick else "not timed"}
    if _lacks_packages(checks):
        return Report(params.profile, checks, stage_lines(chain, checks, todo, seconds, unknown))
    from rds_lib.pipeline.doctor.checks_model import needs_gpu

    has_gpu = not any(line.name == "devices" and line.state == ERROR for line in checks)
    if not has_gpu:
        unknown |= dict.fromkeys(needs_gpu(params), "its time cannot be estimated without a GPU")
    elif not quick and not any(line.state == ERROR and line.stops == EVERY for line in checks):
        seconds, notes = _time(params, environ, checks)
    stages = stage_lines(chain, checks, todo, seconds, unknown)
    open_ = [line.name.removeprefix("stage ") for line in stages if "up to date" not in line.found]
    known = [name for name in open_ if name in seconds]
    if known:
        total = sum(seconds[name] for name in known)
        gpu = sum(seconds[name] for name in known if name in needs_gpu(params))
        hours = f", {gpu / 3600:.1f} GPU-hours" if gpu else ""
        rest = (
            f", without {', '.join(name for name in open_ if name not in seconds)}" if len(known) < len(open_) else ""
        )
        notes = [f"What would run takes about {duration(total)}{hours}{rest}; by a half more or less.", *notes]
    return Report(params.profile, checks, stages, {f"stage {name}": value for name, value in seconds.items()}, notes)


def _time(params, environ: Mapping, checks: list[Finding]) -> tuple[dict[str, float], list[str]]:
    """Seconds by stage, and what they rest on; a GPU that is too small is one more finding."""
    from rds_lib.pipeline.doctor.estimate import estimate, measure

    try:
        speeds = measure(params)
    except RDSInputError:  # the model's own line says why
        return {}, []
    except MemoryError as error:
        fix = f"use a GPU with more memory, or lower train.frames in params/{params.profile}.yaml"
        checks.append(Finding("GPU memory", ERROR, str(error), fix, ("train", "baselines")))
        return {}, []
    workers = _workers(params.model.config, environ)
    memory = f", {speeds.memory / 1e9:.1f} GB of the GPU" if speeds.memory else ""
    frame, step = f"{1e3 * speeds.frame:.0f} ms a tracked frame", f"{speeds.step:.2f} s a training step{memory}"
    who = f"{workers} processes at a time" if speeds.device == "cpu" else speeds.device
    return estimate(params, checks_data.frames_of(params), speeds, workers), [f"Timed now: {frame}, {step}; {who}."]


def _workers(config: str, environ: Mapping) -> int:
    """How many processes a stage would use on the CPU."""
    own = {**environ, **thread_variables(config, environ)}
    text = own.get(WORKERS) or own.get(THREADS) or ""
    return int(text) if text.isdigit() and int(text) else cpu_count()


def _default() -> str | None:
    """The profile that ``params.yaml`` names, whether there is one or not."""
    path = paths.ROOT / "params.yaml"
    text = read_text(path) if path.is_file() else ""
    return text.partition("profile:")[2].partition("#")[0].strip() or None


def _lacks_packages(checks: list[Finding]) -> bool:
    return any(line.name == "packages" and line.state == ERROR for line in checks)
