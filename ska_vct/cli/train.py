"""``ska-vct-train`` and ``ska-vct-eval``; ``tools/train_net.py`` in a checkout."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ska_vct.cli._parser import cluster_parameters, command_parser, whole_number
from ska_vct.data.flow.names import CLUSTERS
from ska_vct.evaluation.names import CONVENTIONS
from ska_vct.utils.cli import one_sentence_errors

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_TRAIN = """Train or score SKA-VCT.

Examples:
    {program} --config configs/synth/quickstart.yaml
    {program} --config configs/ms3/swin_b_384.yaml --num-gpus 2 MODEL.AUDIO.WEIGHTS vggish.pth
    {program} --config configs/ms3/swin_b_384.yaml --resume
    {program} --config configs/ms3/swin_b_384.yaml --eval-only MODEL.WEIGHTS model_best.pth
    {program} --config configs/ms3/swin_b_384.yaml --eval-only --metric-convention tpavi \\
        MODEL.WEIGHTS model_best.pth TEST.SAVE_PREDICTIONS True
    torchrun --nproc-per-node 2 {module} --config configs/ms3/swin_b_384.yaml
    {program} --config configs/ms3/swin_b_384.yaml --submit slurm \\
        --cluster-option tasks_per_node=4 gpus_per_node=4 slurm_partition=gpu --log-folder output/jobs

A training does not replace another: continue it with --resume, or choose another OUTPUT_DIR. SIGTERM, SIGUSR1,
SIGHUP and Ctrl-C stop it after the current iteration with a checkpoint; the exit status is 75, of Ctrl-C 76.

Everything goes to OUTPUT_DIR (default: output/<folder>/<name> of the config): model_best.pth, the last
checkpoints, config.yaml, metrics.json, TensorBoard events, and inference/<dataset>/ with scores of every
convention (results.json, results.md, per_clip.csv) and, if saved, predictions.
"""
_EVAL = """Score SKA-VCT's weights on DATASETS.TEST.

Examples:
    {program} --config configs/ms3/swin_b_384.yaml MODEL.WEIGHTS model_best.pth
    {program} --config ms3/swin_b_384 --metric-convention tpavi MODEL.WEIGHTS model_best.pth \\
        TEST.SAVE_PREDICTIONS True

Scores of every convention (results.json, results.md, per_clip.csv) and, if saved, predictions go to
OUTPUT_DIR/inference/<dataset>/ (default of OUTPUT_DIR: output/<folder>/<name> of the config).
"""


def build_parser(description: str, *, scores_only: bool = False) -> argparse.ArgumentParser:
    """The options of training and scoring."""
    parser = command_parser(description)
    add = parser.add_argument
    # fmt: off
    add("--config-file", "--config", default="", metavar="FILE",
        help="config file or its name, e.g. configs/synth/quickstart.yaml")
    add("--resume", action="store_true",
        help="continue the output folder's run at its newest checkpoint, if there is one (docs/reliability.md)")
    if not scores_only:
        add("--eval-only", action="store_true",
            help="score MODEL.WEIGHTS (or, with --resume, the last checkpoint) on DATASETS.TEST")
        add("--submit", choices=CLUSTERS, help="submit to a cluster (needs submitit), queued again when preempted")
        add("--cluster-option", nargs="+", default=[], metavar="KEY=VALUE",
            help="options of submitit, such as nodes=2 tasks_per_node=4 gpus_per_node=4 slurm_partition=gpu")
        add("--log-folder", default="output/jobs", metavar="DIR",
            help="logs of submitted jobs (default: %(default)s)")
    add("--num-gpus", type=whole_number(0), default=None, metavar="N",
        help="processes, one GPU each; 0: one process on the CPU; default: 1 if there is a GPU, else 0")
    add("--num-machines", type=whole_number(1), default=1, metavar="N",
        help="machines of the run (default: %(default)s)")
    add("--machine-rank", type=whole_number(0), default=0, metavar="N", help="number of this machine, from 0")
    add("--dist-url", default="auto", metavar="URL",
        help="where processes meet, e.g. tcp://host:port; default: auto")
    add("--rank-timeout", type=whole_number(1), default=30, metavar="MINUTES",
        help="how long a process waits for the others (default: %(default)s)")
    add("--check", action=argparse.BooleanOptionalAction, default=True,
        help="look at the datasets' files for some seconds first (default), so that none stops the run later")
    add("--metric-convention", choices=CONVENTIONS,
        help="whose scores count; default: TEST.CONVENTION of the config (docs/scores.md)")
    add("opts", nargs=argparse.REMAINDER,
        help='changes to the config: "KEY VALUE" pairs, e.g. SOLVER.BASE_LR 0.0002')
    # fmt: on
    return parser


def _predict_memory(cfg: "CfgNode") -> float:
    from ska_vct.profiling.costs import step_bytes

    return step_bytes(cfg)


def run(args: argparse.Namespace, *, eval_only: bool) -> None:
    """Train or score in as many processes as ``args`` says."""
    with one_sentence_errors():
        from ska_vct.engine.launch import launch
        from ska_vct.engine.run import train_or_evaluate

        launch(
            partial(
                train_or_evaluate,
                args.config_file,
                args.opts,
                eval_only=eval_only,
                resume=args.resume,
                num_gpus=args.num_gpus,
                check=args.check,
                convention=args.metric_convention,
                predict_memory=_predict_memory,
            ),
            num_gpus=args.num_gpus,
            on_cpu=("MODEL.DEVICE", "cpu") in zip(args.opts, args.opts[1:], strict=False),
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            timeout=args.rank_timeout,
        )


def main(
    arguments: Sequence[str] | None = None, *, program: str = "ska-vct-train", module: str = "-m ska_vct.cli.train"
) -> None:
    """``ska-vct-train``."""
    args = build_parser(_TRAIN.format(program=program, module=module)).parse_args(arguments)
    if args.submit:
        _submit(args)
    else:
        run(args, eval_only=args.eval_only)


def _submit(args: argparse.Namespace) -> None:
    with one_sentence_errors():
        from ska_vct.engine.cluster import submit_training

        words = ["--config", args.config_file, "--rank-timeout", str(args.rank_timeout)]
        words += ["--num-gpus", "0"] if args.num_gpus == 0 else []
        words += ["--eval-only"] if args.eval_only else []
        words += [] if args.check else ["--no-check"]
        words += ["--metric-convention", args.metric_convention] if args.metric_convention else []
        parameters = cluster_parameters(args.cluster_option)
        job = submit_training(args.submit, args.log_folder, [*words, *args.opts], parameters=parameters)
        print(f"Submitted job {job.job_id}; logs in {args.log_folder}")
        if args.submit == "local":
            # A local job ends with the program that started it.
            job.result()


def main_eval(arguments: Sequence[str] | None = None) -> None:
    """``ska-vct-eval``."""
    args = build_parser(_EVAL.format(program="ska-vct-eval"), scores_only=True).parse_args(arguments)
    run(args, eval_only=True)


if __name__ == "__main__":
    main()
