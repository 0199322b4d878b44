"""What users get wrong on command lines and in config files: the command, and what its message must name."""

from dataclasses import dataclass

QUICKSTART = ("--config", "synth/quickstart", "--num-gpus", "0", "--no-check")
FILE = "config.yaml"  # a mistake's own config file


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        command: train, eval, predict or visualize.
        words: of its command line.
        says: what its message must name.
        yaml: content of ``FILE`` in the current folder; empty: none.
    """

    command: str
    words: tuple[str, ...]
    says: str
    yaml: str = ""

    def __str__(self) -> str:
        return f"{self.command} {' '.join(self.words[-2:])} {self.yaml}".strip()[:70]


def _overrides() -> list[Mistake]:
    # fmt: off
    wrong = {
        # Sizes: 0, negative, wrong length or type.
        "INPUT.SIZE": ["(0, 0)", "(-64, 64)", "(64,)", "(64, 64, 3)", "64", "()", "('a', 'b')", "(64.0, 64.0)",
                       "None"],
        "INPUT.EVAL_SIZE": ["(0, 48)", "(48, -1)", "(48,)", "big"],
        "INPUT.SCALES": ["[]", "[0]", "[-1.0]", "['x']", "0.5", "[1e999]"],
        "INPUT.MAX_LONG_SIDE": ["0", "-5", "1.5"],
        "INPUT.FLIP_PROB": ["-0.1", "1.5", "often"],
        "INPUT.PAD_VALUE": ["-1", "256"],
        "INPUT.FRAMES_PER_CLIP": ["-1", "True"],
        "INPUT.FORMAT": ["BGR"],
        "INPUT.AUDIO.SOURCE": ["mp3"],
        "INPUT.AUDIO.GAIN_DB": ["-3"],
        "INPUT.AUDIO.NEGATIVES": ["2"],
        "INPUT.AUDIO.NEGATIVE_KINDS": ["[]", "['music']"],
        "INPUT.FLOW.SIZE": ["(0, 24)", "(24,)", "24"],
        "INPUT.FLOW.SERIES": ["0", "-1"],
        "INPUT.FLOW.NORM": ["max"],
        "INPUT.FLOW.METHOD": ["raft_large"],
        "INPUT.FLOW.DIAGONAL_SHARE": ["0"],
        "INPUT.CACHE.MAX_GB": ["0", "-1"],
        "MODEL.DEVICE": ["gpu", "cuda:x"],
        "MODEL.META_ARCHITECTURE": ["SKAVCTT"],
        "MODEL.NUM_CLASSES": ["0", "1", "-2"],
        "MODEL.HIDDEN_DIM": ["0", "-32", "33"],
        "MODEL.PIXEL_MEAN": ["[1.0]", "[]", "0.5"],
        "MODEL.PIXEL_STD": ["[0.0, 1.0, 1.0]", "[1.0, 1.0]"],
        "MODEL.BACKBONE.NAME": ["resnet", "7"],
        "MODEL.TIMM.NAME": ["''"],
        "MODEL.TIMM.DROP_PATH_RATE": ["1.0", "-0.1"],
        "MODEL.SWIN.DEPTHS": ["[2, 2]", "[2, 2, 0, 2]", "[]"],
        "MODEL.SWIN.WINDOW_SIZE": ["0"],
        "MODEL.AUDIO.NAME": ["VGG"],
        "MODEL.AUDIO.CHANNELS": ["[8, 16]", "[]", "[8, 16, 32, 32, 64, 0]"],
        "MODEL.AUDIO.MLP_DIMS": ["[-4]", "[0]"],
        "MODEL.PIXEL_DECODER.ENC_LAYERS": ["0", "-1"],
        "MODEL.PIXEL_DECODER.NUM_HEADS": ["0", "-4", "5"],
        "MODEL.PIXEL_DECODER.NUM_POINTS": ["0"],
        "MODEL.PIXEL_DECODER.IN_FEATURES": ["['res2']", "[]"],
        "MODEL.PIXEL_DECODER.DEFORM_ATTN": ["cuda"],
        "MODEL.PIXEL_DECODER.MASK_DIM": ["-1"],
        "MODEL.SKA.NAME": ["SKAA"],
        "MODEL.SKA.GRID": ["(0, 24)", "(24, 24, 24)", "()"],
        "MODEL.SKA.NUM_HEADS": ["0", "3"],
        "MODEL.SKA.STEPS": ["1", "-2"],
        "MODEL.SKA.NORM": ["LN"],
        "MODEL.SKA.MAP_LOSS": ["-1"],
        "MODEL.MPQG.ANCHORS": ["-1"],
        "MODEL.MPQG.MIXER_GRID": ["(0, 5)", "(-1, -1)", "5"],
        "MODEL.MPQG.NUM_PROTOTYPES": ["-1", "7"],
        "MODEL.MPQG.GUMBEL_TAU": ["0", "-1"],
        "MODEL.DECODER.NUM_QUERIES": ["0", "-6", "None"],
        "MODEL.DECODER.NUM_LAYERS": ["0", "-1"],
        "MODEL.DECODER.NUM_HEADS": ["0", "7"],
        "MODEL.BRM.DIM": ["0"],
        "MODEL.BRM.FUSION": ["-0.5"],
        "MODEL.LOSSES": ["['Loss']", "['MapLoss', 'MapLoss']", "[1]"],
        "MODEL.CRITERION.NUM_POINTS": ["-1"],
        "MODEL.CRITERION.OVERSAMPLE_RATIO": ["0.5"],
        "MODEL.CRITERION.MASK_WEIGHT": ["-5"],
        "SOLVER.OPTIMIZER": ["SGD"],
        "SOLVER.BASE_LR": ["0", "-0.1", "fast", "1e999"],
        "SOLVER.WEIGHT_DECAY": ["-1"],
        "SOLVER.MAX_ITER": ["0", "-10", "1.5"],
        "SOLVER.IMS_PER_BATCH": ["0", "-2"],
        "SOLVER.CHECKPOINT_PERIOD": ["0", "-1"],
        "SOLVER.CHECKPOINTS_TO_KEEP": ["-1"],
        "SOLVER.LR_SCHEDULER_NAME": ["Cosine"],
        "SOLVER.AMP.DTYPE": ["half"],
        "SOLVER.FROZEN": ["[1]", "['']"],
        "SOLVER.CLIP_FULL_MODEL_NORM": ["-1"],
        "TEST.EVAL_PERIOD": ["-1"],
        "TEST.BATCH_SIZE": ["0", "-1"],
        "TEST.CONVENTION": ["mean"],
        "TEST.IMAGES": ["-1"],
        "DATALOADER.NUM_WORKERS": ["-1"],
        "DATASETS.SUBSET": ["ms4", "3"],
        "DATASETS.TRAIN": ["()", "('avsbench_ms3_trian',)", "(1,)"],
        "DATASETS.CHECK_SECONDS": ["-1"],
        "DATASETS.OWN.FRAME_RATE": ["0"],
        "DATASETS.OWN.CLASSES": ["()", "('background',)"],
        "SEED": ["-2", "1.5"],
        "OUTPUT_DIR": ["''", "7"],
        "IMPORTS": ["[3]", "['']"],
    }
    # fmt: on
    return [Mistake("train", (*QUICKSTART, key, value), key) for key, values in wrong.items() for value in values]


def _files() -> list[Mistake]:
    wrong = {
        "_BASE_: 5": "_BASE_",
        "_BASE_: [1, 2]": "_BASE_",
        "_BASE_: {a: b}": "_BASE_",
        "_BASE_: nowhere.yaml": "nowhere.yaml",
        f"_BASE_: {FILE}": "its own base",
        "MODEL: 3": "MODEL",
        "MODEL:": "MODEL",
        "- 1": "holds no keys",
        "": "holds no keys",
        "MODEL: [": "plain YAML",
        "SOLVER: {BASE_LR: .nan}": "SOLVER.BASE_LR",
        "SOLVER: {MAX_ITER: null}": "SOLVER.MAX_ITER",
        "SOLVER: {MAX_ITTER: 3}": "SOLVER.MAX_ITTER",
        "INPUT: {SIZE: [64, 64, 64]}": "INPUT.SIZE",
        "INPUT: {SIZE: {H: 64, W: 64}}": "INPUT.SIZE",
        "MODEL: {DECODER: {NUM_LAYERS: -3}}": "MODEL.DECODER.NUM_LAYERS",
        "VERSION: 1": "VERSION",
        "IMPORTS: [no_such_module_of_mine]": "no_such_module_of_mine",
        "1: 2": "1",
    }
    words = ("--config", FILE, "--num-gpus", "0", "--no-check")
    return [Mistake("train", words, says, yaml or "\n") for yaml, says in wrong.items()]


def _options() -> list[Mistake]:
    train = ("--config", "synth/quickstart")
    predict = ("--weights", "model.pth", "--config", "synth/quickstart", "--out", "masks", "clip")
    evaluate = (*QUICKSTART, "MODEL.WEIGHTS", "model.pth")
    draw = ("--config", "synth/quickstart", "--out", "images", "--num-gpus", "0", "--weights", "model.pth")
    return [
        Mistake("train", (*train, "--num-gpus", "-1"), "--num-gpus"),
        Mistake("train", (*train, "--num-gpus", "two"), "--num-gpus"),
        Mistake("train", (*train, "--num-gpus", "1.5"), "--num-gpus"),
        Mistake("train", (*train, "--num-gpus", "99"), "--num-gpus 99"),
        Mistake("train", (*train, "--num-machines", "0"), "--num-machines"),
        Mistake("train", (*train, "--machine-rank", "-1"), "--machine-rank"),
        Mistake("train", (*train, "--num-gpus", "0", "--machine-rank", "1"), "--machine-rank"),
        Mistake("train", (*train, "--num-gpus", "0", "--num-machines", "2"), "--dist-url"),
        Mistake("train", (*train, "--num-gpus", "0", "--num-machines", "2", "--dist-url", "x"), "--dist-url"),
        Mistake("train", ("--config", "synth/quikstart"), "synth/quikstart"),
        Mistake("train", (*QUICKSTART, "SOLVER.BASE_LR"), "SOLVER.BASE_LR"),
        Mistake("train", (*QUICKSTART, "SOLVER.BASE_LRR", "1"), "SOLVER.BASE_LRR"),
        Mistake("train", (*QUICKSTART, "MODEL.DECODER", "1"), "MODEL.DECODER"),
        Mistake("train", (*QUICKSTART, "MODEL.HIDDEN_DIM.X", "1"), "MODEL.HIDDEN_DIM"),
        Mistake("eval", QUICKSTART, "--eval-only needs a model"),
        Mistake("eval", evaluate, "model.pth"),
        Mistake("eval", (*evaluate, "DATASETS.TEST", "()"), "DATASETS.TEST"),
        Mistake("eval", (*evaluate, "TEST.BATCH_SIZE", "0"), "TEST.BATCH_SIZE"),
        Mistake("eval", (*evaluate, "MODEL.SKA.GRID", "(0, 0)"), "MODEL.SKA.GRID"),
        Mistake("eval", (*evaluate, "--metric-convention", "mean"), "--metric-convention"),
        Mistake("predict", (*predict, "--set", "INPUT.SIZE", "(0, 0)"), "INPUT.SIZE"),
        Mistake("predict", (*predict, "--set", "MODEL.DECODER.NUM_QUERIES", "-1"), "NUM_QUERIES"),
        Mistake("predict", (*predict, "--set", "INPUT.SIZE"), "INPUT.SIZE"),
        Mistake("predict", (*predict, "--device", "gpu"), "MODEL.DEVICE"),
        Mistake("predict", predict, "model.pth"),
        Mistake("predict", (*predict, "--num", "0"), "--num"),
        Mistake("predict", (*predict, "--num", "-3"), "--num"),
        Mistake("visualize", (*draw, "--num", "0"), "--num"),
        Mistake("visualize", (*draw, "--dataset", "ms5"), "ms5"),
        Mistake("visualize", (*draw, "INPUT.EVAL_SIZE", "(0, 0)"), "INPUT.EVAL_SIZE"),
    ]


MISTAKES = [*_overrides(), *_files(), *_options()]
