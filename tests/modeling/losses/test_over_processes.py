"""Losses of two processes average to those of one with all clips."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from ska_vct.modeling.brm import BRM
from ska_vct.modeling.losses.map_losses import map_loss
from ska_vct.modeling.losses.over_processes import ClipDraws, shared_denominator
from ska_vct.modeling.losses.prototypes import PrototypeAlignment
from ska_vct.modeling.losses.targets import Targets
from ska_vct.modeling.motion.ska import MotionPrompt
from ska_vct.modeling.predictions import Predictions
from tests.modeling.losses.test_criterion import make_criterion

# Clips of different lengths and objects, so that each process has other weights than the other.
CLIPS = [(11, 1), (12, 1), (13, 3), (14, 1)]
SHARES = [(0, 2), (2, 4)]


def losses_of(first: int, last: int, points: int) -> dict[str, torch.Tensor]:
    """Losses of some of the clips, with the same predictions and labels in every process."""
    rng = torch.Generator().manual_seed(0)
    frames = sum(count for _, count in CLIPS)
    part = slice(sum(count for _, count in CLIPS[:first]), sum(count for _, count in CLIPS[:last]))
    labels = torch.randint(0, 3, (frames, 1, 1), generator=rng).expand(frames, 16, 16).clone()
    labels[::2, :5] = 0
    labels[1, :, 3:] = 255
    logits = torch.randn(2, frames, 4, 4, generator=rng)[:, part]
    embed = torch.randn(2, frames, 4, 5, generator=rng)[:, part]
    features = torch.randn(frames, 5, 8, 8, generator=rng)[part]
    grid, motion = torch.randn(frames, 6, 4, 4, generator=rng)[part], torch.rand(frames, 1, 4, 4, generator=rng)
    known = torch.tensor([[1.0, 0.0]] * frames)
    known[2] = -1
    labels, known, motion = labels[part], known[part], motion[part]
    targets = Targets.from_label_maps(labels, ignore_label=255, device=torch.device("cpu"))
    torch.manual_seed(5)
    losses = make_criterion(points)(Predictions(logits, embed, features), targets, CLIPS[first:last])
    alignment = PrototypeAlignment(dim=6)
    losses["proto"] = alignment.loss(*alignment.embed(grid, torch.eye(6)[:2]), known)
    brm = BRM(mask_dim=5, dim=4, pos_weight=2.0, norm="GN")
    losses["boundary"] = brm.loss(brm(features), labels, 255)
    losses["map"] = map_loss(MotionPrompt(motion_map=motion, retrieved=grid.mean((2, 3))), labels, 255)
    return {name: value.detach() for name, value in losses.items()}


def process(rank: int, store: str, points: int, queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    with FakeTensorMode():
        # The memory of a step is predicted from shapes, by one process only.
        shared_denominator(torch.ones(()))
    queue.put({name: value.item() for name, value in losses_of(*SHARES[rank], points).items()})
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("points", [0, 30])
def test_two_processes_have_the_loss_of_one(points, tmp_path):
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    pair = [context.Process(target=process, args=(n, str(tmp_path / "store"), points, queue)) for n in (0, 1)]
    for one in pair:
        one.start()
    found = [queue.get(timeout=600) for _ in pair]
    for one in pair:
        one.join()
    whole = losses_of(0, len(CLIPS), points)
    assert whole.keys() == found[0].keys() and all(whole.values())
    for name, value in whole.items():
        assert (found[0][name] + found[1][name]) / 2 == pytest.approx(value.item(), rel=1e-5), name
        # Each on its own would not do: the processes have different numbers of frames and masks.
        assert found[0][name] != pytest.approx(found[1][name], rel=1e-3)


def test_one_process_divides_by_what_it_has():
    amount = torch.tensor([0.25, 3.0], requires_grad=True)
    assert shared_denominator(amount).equal(amount.detach()) and not shared_denominator(amount).requires_grad
    assert shared_denominator(torch.tensor(0), at_least=1) == 1


def test_draws_of_a_clip_depend_on_its_seed_alone():
    alone = ClipDraws([(7, 2)], torch.device("cpu"))
    among = ClipDraws([(9, 3), (7, 2)], torch.device("cpu"))
    for rows in (2, 5):
        drawn = alone.uniform([rows], (rows, 4, 2))
        assert drawn.equal(among.uniform([1, rows], (rows + 1, 4, 2))[1:]) and 0 <= drawn.min() < drawn.max() < 1
    assert not drawn.equal(alone.uniform([5], (5, 4, 2)))
