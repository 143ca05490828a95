"""The router under several training processes: each sees its own frames, and all train the same function."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rds_lib.routing.router import PredictionAwareRouter, RunningNorm

STEPS = 4


def frames(rank, step):
    """Frames and masks of one process in one step; the processes' frames differ in level and spread."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    tokens = (1 + rank) * torch.randn(2, 16, 16, 8, generator=generator) + 3 * rank
    return tokens, torch.randn(2, 1, 16, 16, generator=generator)


def new_router():
    torch.manual_seed(0)
    return PredictionAwareRouter(8, 12, (0, 11), image_size=64, hidden=6, normalise=False)


def train(rank, world, folder):
    """One process: join, see frames, leave buffers and what a common frame gives."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    router = new_router()
    for step in range(STEPS):
        router(*frames(rank, step))
    router.eval()
    seen = dict(router.named_buffers()) | {"p": router(*frames(5, 5)).p.detach()}
    torch.save(seen, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each of two processes ended with."""
    folder = tmp_path_factory.mktemp("processes")
    mp.start_processes(train, (2, folder), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_all_processes_have_the_same_statistics_and_probabilities(processes):
    first, second = processes
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()
    assert first["head.0.count"] == STEPS and first["head.0.mean"].abs().max() > 0.5


def test_they_are_those_of_one_process_that_sees_all_frames(processes):
    router = new_router()
    for step in range(STEPS):
        tokens, masks = zip(*(frames(rank, step) for rank in range(2)))
        router(torch.cat(tokens), torch.cat(masks))
    for name, buffer in router.named_buffers():
        torch.testing.assert_close(processes[0][name], buffer)
    torch.testing.assert_close(processes[0]["p"], router.eval()(*frames(5, 5)).p.detach())


def test_alone_a_process_keeps_its_own_statistics():
    norm = RunningNorm(3)
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    norm(rows)
    torch.testing.assert_close(norm.mean, rows.mean(0))
    torch.testing.assert_close(norm.var, rows.var(0, correction=0))
