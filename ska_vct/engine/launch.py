"""Start a function in one process, in one process per GPU, or in those that torchrun has started."""

import argparse
import os
import sys
from collections.abc import Callable

import detectron2.engine
import torch
import torch.distributed as dist
from detectron2.utils import comm

from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.errors import InputError


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Run ``main(args)``; errors of the input end the program with one sentence.

    Args:
        main: importable function.
        args: of :func:`ska_vct.engine.setup.default_argument_parser`.
    """
    with one_sentence_errors():
        if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
            _join_torchrun(args)
            main(args)
            comm.synchronize()
            dist.destroy_process_group()
            return
        available = torch.cuda.device_count()
        if args.num_gpus is None:
            args.num_gpus = min(1, available)
        wants_cpu = "MODEL.DEVICE" in args.opts and args.opts[args.opts.index("MODEL.DEVICE") + 1 :][:1] == ["cpu"]
        if args.num_gpus > available and not wants_cpu:
            raise InputError(
                f"--num-gpus {args.num_gpus} but this machine has {available} CUDA devices; use --num-gpus 0 "
                f"for the CPU, or add MODEL.DEVICE cpu for {args.num_gpus} CPU processes."
            )
        try:
            detectron2.engine.launch(
                _guarded,
                max(1, args.num_gpus),
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args),
            )
        except torch.multiprocessing.ProcessExitedException as error:
            # The process that failed has said why.
            sys.exit(error.exit_code)


def _guarded(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    # Children of a multi-process run report their own errors.
    with one_sentence_errors():
        main(args)


def _join_torchrun(args: argparse.Namespace) -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    use_cuda = torch.cuda.is_available() and args.num_gpus != 0
    if use_cuda:
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {local_rank + 1} but there are {torch.cuda.device_count()} CUDA "
                "devices; lower --nproc-per-node or add --num-gpus 0 for the CPU."
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if use_cuda else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
