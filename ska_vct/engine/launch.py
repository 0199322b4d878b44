"""Start a function in one process, in one process per GPU, or in those that torchrun has started."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial

import detectron2.engine
import torch
import torch.distributed as dist
from detectron2.utils import comm

from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.errors import InputError

from .resume.stopping import STOP_SIGNALS

_ENVIRONMENT = ("RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE")


def launch(
    main: Callable[[], object],
    *,
    num_gpus: int | None = None,
    on_cpu: bool = False,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    timeout: float = 30.0,
) -> None:
    """Call ``main()`` in every process of a run.

    Args:
        main: an importable function, or a ``functools.partial`` of one.
        num_gpus: processes of this machine, one GPU each; 0: one process on the CPU; None: one process.
        on_cpu: the processes compute on the CPU, so that no GPU is needed for each.
        num_machines, machine_rank, dist_url: see ``detectron2.engine.launch``.
        timeout: minutes that a process waits for the others.

    Raises:
        InputError: there are fewer GPUs than processes.
        SystemExit: one of several processes failed; it has said why.
    """
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _join_torchrun(num_gpus, timeout)
        main()
        comm.synchronize()
        dist.destroy_process_group()
        return
    _check_machines(num_machines, machine_rank, dist_url)
    available = torch.cuda.device_count()
    processes = max(1, min(1, available) if num_gpus is None else num_gpus)
    if num_gpus is not None and num_gpus > available and not on_cpu:
        raise InputError(
            f"--num-gpus {num_gpus} but this machine has {available} CUDA devices; use --num-gpus 0 for the "
            f"CPU, or add MODEL.DEVICE cpu to train with as many processes on it."
        )
    alone = processes * num_machines == 1
    try:
        with nullcontext() if alone else _signals_passed_on():
            detectron2.engine.launch(
                main if alone else partial(_guarded, main),
                processes,
                num_machines=num_machines,
                machine_rank=machine_rank,
                dist_url=dist_url,
                timeout=timedelta(minutes=timeout),
            )
    except torch.multiprocessing.ProcessExitedException as error:
        # The process that failed has said why.
        sys.exit(error.exit_code)


def _check_machines(num_machines: int, machine_rank: int, dist_url: str) -> None:
    if machine_rank >= num_machines:
        raise InputError(
            f"--machine-rank {machine_rank}, but --num-machines is {num_machines}; machines are numbered from 0 "
            f"to {num_machines - 1}."
        )
    if num_machines > 1 and not dist_url.startswith(("tcp://", "file://")):
        raise InputError(
            f"--dist-url is '{dist_url}', but {num_machines} machines need an address at which they meet: "
            "tcp://HOST:PORT of the machine with --machine-rank 0."
        )


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """Let the processes of a run hear what this one is asked, which only waits for them."""

    def pass_on(number: int, frame: object) -> None:
        # A terminal sends Ctrl-C to all processes itself.
        for child in multiprocessing.active_children() if number != signal.SIGINT else ():
            os.kill(child.pid, number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for name in STOP_SIGNALS if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _guarded(main: Callable[[], object]) -> None:
    # Children of a multi-process run report their own errors.
    with one_sentence_errors():
        main()


def _join_torchrun(num_gpus: int | None, timeout: float) -> None:
    # Also what a scheduler's script sets (scripts/slurm_train.sh).
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise InputError(
            f"The environment has LOCAL_RANK and WORLD_SIZE but not {', '.join(missing)}; start the processes "
            "with torchrun or scripts/slurm_train.sh, or unset them."
        )
    local_rank = int(os.environ["LOCAL_RANK"])
    use_cuda = torch.cuda.is_available() and num_gpus != 0
    if use_cuda:
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {local_rank + 1} but there are {torch.cuda.device_count()} CUDA "
                "devices; lower --nproc-per-node or add --num-gpus 0 for the CPU."
            )
        torch.cuda.set_device(local_rank)
    try:
        dist.init_process_group("nccl" if use_cuda else "gloo", timeout=timedelta(minutes=timeout))
    except dist.DistError as error:
        raise InputError(
            f"Process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not meet the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {timeout:g} minutes "
            f"({str(error).splitlines()[0][:200]}); check that address and that all processes were started."
        ) from None
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
