"""Every key SKA-VCT adds to Detectron2's configuration, with its default and what it means.

Defaults are the paper's where it gives a value (docs/method.md, docs/recipe.md). Sizes are pixels of the network's
input unless stated otherwise.
"""

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg as get_detectron2_cfg


def add_ska_vct_config(cfg: CN) -> None:
    """Add SKA-VCT's keys to ``cfg`` in place."""
    _add_data_config(cfg)
    _add_model_config(cfg)
    _add_criterion_config(cfg)
    _add_solver_config(cfg)


def get_cfg() -> CN:
    """Detectron2's default configuration with SKA-VCT's keys."""
    cfg = get_detectron2_cfg()
    add_ska_vct_config(cfg)
    return cfg


def _add_data_config(cfg: CN) -> None:
    # Python modules of your own that register parts of the model or datasets (docs/extending.md): names of modules
    # beside the config file, in the current folder or on PYTHONPATH, or paths of .py files.
    cfg.IMPORTS = []

    # s4, ms3, avss, or a dataset of your own: DATASETS.OWN.NAME, or one that a module in IMPORTS registers.
    cfg.DATASETS.SUBSET = "ms3"
    # A dataset of your own without code; configs/_base_/datasets/own.yaml explains every key.
    own = cfg.DATASETS.OWN = CN()
    own.NAME, own.TITLE = "", ""
    own.CLASSES = ("background", "object")
    own.TABLE = ""
    own.IMAGES, own.VIDEO, own.AUDIO, own.LOG_MEL, own.MASKS = "", "", "", "", ""
    own.FRAME_RATE = 1.0
    own.FIRST_NUMBER = 0
    own.DIGITS = 0
    own.SECONDS = 0
    own.ANNOTATED = "all"

    # Folder that holds AVSBench_object and AVSBench_semantic. Empty: $DETECTRON2_DATASETS, else "datasets".
    cfg.DATASETS.ROOT = ""
    # Validation set during training (best checkpoint); DATASETS.TEST is scored by --eval-only.
    cfg.DATASETS.VAL = ()
    # Use COMBO's / VCT's rebuilt 384 px folders, and what datasets/prepare.py made, where they exist.
    cfg.DATASETS.PREFER_REBUILT = True
    # Folder that datasets/prepare.py has filled; empty: <dataset root>/prepared.
    cfg.DATASETS.PREPARED = ""
    # csv file with a column "clip" (datasets/check.py --fix-list writes one): do without these clips.
    cfg.DATASETS.LEAVE_OUT = ""
    # The check before training (--check) reads file contents for at most this many seconds.
    cfg.DATASETS.CHECK_SECONDS = 20.0

    # Height and width that the network sees.
    cfg.INPUT.SIZE = (384, 384)
    # Size at which ground truth is compared and predictions are resized (the literature's 224 x 224).
    cfg.INPUT.EVAL_SIZE = (224, 224)
    cfg.INPUT.FORMAT = "RGB"
    # Training: the short side becomes int(scale * min(INPUT.SIZE)) for one of these scales.
    cfg.INPUT.SCALES = [0.1 * x for x in range(5, 21)]
    # Training: the long side never exceeds this.
    cfg.INPUT.MAX_LONG_SIDE = 896
    # Training: probability of a horizontal flip.
    cfg.INPUT.FLIP_PROB = 0.5
    # Training: Detectron2's SSD colour jitter.
    cfg.INPUT.COLOR_AUG_SSD = True
    # Draw the jitter anew for every frame and every pre-mask, as VCT does; else once per clip, for frames only.
    cfg.INPUT.COLOR_AUG_PER_IMAGE = False
    # Training: random crop to INPUT.SIZE; without it the resized image must fit.
    cfg.INPUT.RANDOM_CROP = True
    # Value of padding pixels in the image.
    cfg.INPUT.PAD_VALUE = 128
    # Training: load and compute only frames that carry a loss.
    cfg.INPUT.ONLY_ANNOTATED = True
    # Training: at most this many frames of a clip, drawn anew each time; 0 = all. No module mixes frames, so more
    # clips of fewer frames cost the same and differ more.
    cfg.INPUT.FRAMES_PER_CLIP = 0

    cfg.INPUT.AUDIO = CN()
    # auto (first of the following that exists), pickle, npy or wav.
    cfg.INPUT.AUDIO.SOURCE = "auto"
    # Training: gain drawn uniformly from +- this many decibels; 0 = off.
    cfg.INPUT.AUDIO.GAIN_DB = 0.0
    # Training: probability that a clip's audio is replaced and its masks are emptied; 0 = off.
    cfg.INPUT.AUDIO.NEGATIVES = 0.0
    # By what: silence, noise (white, at a level drawn anew) and other (a clip of other classes, where classes are
    # known; elsewhere the others take its share).
    cfg.INPUT.AUDIO.NEGATIVE_KINDS = ["silence", "noise", "other"]

    cfg.INPUT.FLOW = CN()
    # Folder of the flow files; empty: <dataset root>/flow.
    cfg.INPUT.FLOW.ROOT = ""
    # Unit: frame (divide by the frame's own maximum, as published), clip (by the clip's maximum) or
    # diagonal (by DIAGONAL_SHARE times the diagonal of the image).
    cfg.INPUT.FLOW.NORM = "frame"
    cfg.INPUT.FLOW.DIAGONAL_SHARE = 0.25
    # Flow fields per second handed to the model; the store may keep more (they are averaged in groups).
    cfg.INPUT.FLOW.SERIES = 1
    # How stored fields become fewer: mean, or middle (the one field in the middle of each share: an instant).
    cfg.INPUT.FLOW.GROUPING = "mean"
    # Side of the flow grid handed to the model.
    cfg.INPUT.FLOW.SIZE = (24, 24)
    # A clip's first frame: forward (its own flow, to the next frame) or zero (published: no flow leads to it).
    cfg.INPUT.FLOW.FIRST_FRAME = "forward"
    # error or zero: what to do for a clip without a flow file.
    cfg.INPUT.FLOW.MISSING = "error"
    # none, or affine: take out of each field what most of the image does together (pan, zoom, rotation).
    cfg.INPUT.FLOW.CAMERA = "none"
    # Compute flow that is missing when a clip is first loaded, and keep it for later epochs in INPUT.FLOW.ROOT.
    cfg.INPUT.FLOW.ONLINE = False
    # How: dis or farneback, with INPUT.FLOW.SERIES fields per second of a video, and the other settings of
    # datasets/compute_flow.py at their defaults.
    cfg.INPUT.FLOW.METHOD = "dis"

    # Decoded images kept on disk for training, so that later epochs decode nothing.
    cfg.INPUT.CACHE = CN()
    # Folder, best on a local disk; empty: no cache. Remove it to make room.
    cfg.INPUT.CACHE.ROOT = ""
    # Most that it may hold, GiB; then nothing more is kept.
    cfg.INPUT.CACHE.MAX_GB = 50.0
    # Images are kept with at most so many pixels on their short side; 0: that of INPUT.SIZE.
    cfg.INPUT.CACHE.SHORT_SIDE = 0

    cfg.INPUT.PRE_MASK = CN()
    # Folder of the class-agnostic segment images; empty: the published place inside the release.
    cfg.INPUT.PRE_MASK.ROOT = ""


def _add_model_config(cfg: CN) -> None:
    # Settings of parts of your own; any keys, e.g. {"BANDS": 8}.
    cfg.MODEL.EXTRA = CN(new_allowed=True)
    cfg.MODEL.META_ARCHITECTURE = "SKAVCT"
    cfg.MODEL.NUM_CLASSES = 2  # background included
    cfg.MODEL.HIDDEN_DIM = 256
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.280, 103.530]
    cfg.MODEL.PIXEL_STD = [58.395, 57.120, 57.375]
    # torch.compile backbones, pixel decoder and decoder on first use (minutes; needs a C++ compiler on the CPU).
    cfg.MODEL.COMPILE = False
    # Checkpoint of the visual backbone alone; MODEL.WEIGHTS holds whole models.
    cfg.MODEL.BACKBONE_WEIGHTS = ""
    # Resize Swin's position tables and the query mixer's grid of a file that was made for another size.
    cfg.MODEL.RESIZE_ON_LOAD = False
    # Parts that MODEL.WEIGHTS does not fill, by the start of our names, e.g. ["decoder.class_embed."].
    cfg.MODEL.WEIGHTS_SKIP = []

    # Visual backbone: build_swin_backbone (MODEL.SWIN) or build_timm_backbone (MODEL.TIMM).
    cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = -1
    # Training in less memory for about a third more time: blocks keep their inputs alone and are computed again in
    # the backward pass. The pre-mask encoder's too; MODEL.PIXEL_DECODER and MODEL.DECODER have the same key.
    cfg.MODEL.BACKBONE.CHECKPOINT = False
    cfg.MODEL.SWIN = CN()
    cfg.MODEL.SWIN.EMBED_DIM = 128
    cfg.MODEL.SWIN.DEPTHS = [2, 2, 18, 2]
    cfg.MODEL.SWIN.NUM_HEADS = [4, 8, 16, 32]
    cfg.MODEL.SWIN.WINDOW_SIZE = 12
    cfg.MODEL.SWIN.PATCH_SIZE = 4
    cfg.MODEL.SWIN.PRETRAIN_IMG_SIZE = 384
    cfg.MODEL.SWIN.MLP_RATIO = 4.0
    cfg.MODEL.SWIN.QKV_BIAS = True
    cfg.MODEL.SWIN.APE = False
    cfg.MODEL.SWIN.PATCH_NORM = True
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.3
    cfg.MODEL.TIMM = CN()
    cfg.MODEL.TIMM.NAME = "resnet50"
    cfg.MODEL.TIMM.DROP_PATH_RATE = 0.0
    # Further keyword arguments of the timm model, e.g. {"embed_dims": [16, 32, 40, 64]}.
    cfg.MODEL.TIMM.KWARGS = CN(new_allowed=True)

    # Siamese encoder of class-agnostic segment images (COMBO); the backbone's architecture, own weights.
    cfg.MODEL.PRE_MASK = CN()
    cfg.MODEL.PRE_MASK.ENABLED = False
    cfg.MODEL.PRE_MASK.REDUCTION = 16
    cfg.MODEL.PRE_MASK.WEIGHTS = ""

    cfg.MODEL.AUDIO = CN()
    # Class of AUDIO_ENCODER_REGISTRY; the other keys are VGGishEncoder's, WEIGHTS and FREEZE any encoder's.
    cfg.MODEL.AUDIO.NAME = "VGGishEncoder"
    # Output channels of VGGish's six convolutions.
    cfg.MODEL.AUDIO.CHANNELS = [64, 128, 256, 256, 512, 512]
    # Hidden widths of the per-cell MLP.
    cfg.MODEL.AUDIO.MLP_DIMS = [4096, 4096]
    # Frozen needs MODEL.AUDIO.WEIGHTS; unfrozen trains from scratch.
    cfg.MODEL.AUDIO.FREEZE = True
    cfg.MODEL.AUDIO.WEIGHTS = ""

    cfg.MODEL.PIXEL_DECODER = CN()
    cfg.MODEL.PIXEL_DECODER.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.PIXEL_DECODER.ENC_LAYERS = 6
    cfg.MODEL.PIXEL_DECODER.NUM_HEADS = 8
    cfg.MODEL.PIXEL_DECODER.NUM_POINTS = 4
    cfg.MODEL.PIXEL_DECODER.FEEDFORWARD_DIM = 1024
    cfg.MODEL.PIXEL_DECODER.DROPOUT = 0.0
    cfg.MODEL.PIXEL_DECODER.CHECKPOINT = False
    # Implementation of deformable attention: auto (Triton on CUDA, else torch), torch, triton, ms_deform_attn (the
    # package torch-ms-deform-attn) or grid_sample. Results are the same up to rounding.
    cfg.MODEL.PIXEL_DECODER.DEFORM_ATTN = "auto"
    # Whether mixed precision reaches convolutions and linear layers; places, norms and softmax stay in float32.
    # False: all of it in float32, as published.
    cfg.MODEL.PIXEL_DECODER.AMP = True
    # Width of the mask features; 0 = MODEL.HIDDEN_DIM.
    cfg.MODEL.PIXEL_DECODER.MASK_DIM = 0

    cfg.MODEL.SKA = CN()
    cfg.MODEL.SKA.ENABLED = True
    # Class of SKA_REGISTRY: SKA is the published form; TemporalSKA matches a series of fields
    # (INPUT.FLOW.SERIES > 1) with the sound as it unfolds; FlowMagnitude hears nothing, whatever moves lights up.
    cfg.MODEL.SKA.NAME = "SKA"
    # magnitude (published) or uvm (u, v and magnitude).
    cfg.MODEL.SKA.CHANNELS = "magnitude"
    cfg.MODEL.SKA.GRID = (24, 24)
    cfg.MODEL.SKA.FLOW_DIM = 64
    cfg.MODEL.SKA.NUM_HEADS = 4
    # Whether the logits get the log of how much a place moves: "auto" (TemporalSKA yes, SKA no), "on" or "off";
    # quoted in YAML, where a bare on is a truth value. ENERGY_INIT is the start of its learnt weight.
    cfg.MODEL.SKA.ENERGY_PRIOR = "auto"
    cfg.MODEL.SKA.ENERGY_INIT = 1.0
    # TemporalSKA: width of a head, weight of the match.
    cfg.MODEL.SKA.SERIES_DIM = 8
    cfg.MODEL.SKA.MATCH_SCALE = 6.0
    # TemporalSKA: compare motion and sound without their means over the second, as a correlation does.
    cfg.MODEL.SKA.CENTRED = True
    # TemporalSKA: steps of the second at which they are compared; 0 = as many as flow fields.
    cfg.MODEL.SKA.STEPS = 0
    # TemporalSKA: second (the 100 log-mel hops of exactly the frame's second) or patch (VGGish's patch, which for
    # frame k begins at 0.96 k seconds: out of step with the flow by 0.04 s more in every frame).
    cfg.MODEL.SKA.AUDIO = "second"
    # TemporalSKA: speed at which a location counts half, as a share of the image's diagonal per second; needs
    # INPUT.FLOW.NORM diagonal, other units have no absolute meaning. 0 = no floor.
    cfg.MODEL.SKA.SPEED_FLOOR = 0.005
    # TemporalSKA: scale the map by a learnt confidence that something is heard and moves.
    cfg.MODEL.SKA.CONFIDENCE = True
    # Norms of SKA's flow encoder: BN as published, or GN, which does not depend on the batch.
    cfg.MODEL.SKA.NORM = "BN"
    # The map also marks the mask features and the keys of the decoder's visual memories, each by a learnt vector.
    cfg.MODEL.SKA.MAP_AS_FEATURE = False
    # Weight of the cross-entropy of the map against the mask where the foreground moves; 0 = off.
    cfg.MODEL.SKA.MAP_LOSS = 0.0
    # TemporalSKA: weight of the contrast between a clip's own and other clips' audio; 0 = off.
    cfg.MODEL.SKA.CONTRAST = 0.0

    cfg.MODEL.MPQG = CN()
    # Whether the motion map reweights the features queries are made from; off it is VCT's PPQG.
    cfg.MODEL.MPQG.MOTION = True
    # Start of the learnt gate: 1 as published, 0 for KEVA's residual gate.
    cfg.MODEL.MPQG.GATE_INIT = 1.0
    # KEVA: so many queries start as the features where the motion map is highest; 0 = off.
    cfg.MODEL.MPQG.ANCHORS = 0
    # Features that anchors are taken from: modulated (by the motion map) or plain.
    cfg.MODEL.MPQG.ANCHOR_FEATURES = "modulated"
    cfg.MODEL.MPQG.PRE_DIM = 256
    cfg.MODEL.MPQG.MIXER_DIM = 256
    # Height and width of the query mixer's grid; (0, 0) = INPUT.SIZE / 4. Other features are resized to it.
    cfg.MODEL.MPQG.MIXER_GRID = (0, 0)
    cfg.MODEL.MPQG.NUM_PROTOTYPES = 0
    cfg.MODEL.MPQG.NUM_HEADS = 4
    cfg.MODEL.MPQG.GUMBEL_TAU = 1.0

    cfg.MODEL.DECODER = CN()
    cfg.MODEL.DECODER.NUM_QUERIES = 100
    cfg.MODEL.DECODER.NUM_LAYERS = 9
    cfg.MODEL.DECODER.NUM_HEADS = 8
    cfg.MODEL.DECODER.FEEDFORWARD_DIM = 2048
    cfg.MODEL.DECODER.CHECKPOINT = False

    cfg.MODEL.BRM = CN()
    cfg.MODEL.BRM.ENABLED = True
    # KEVA: the head reads the mask features less their local average.
    cfg.MODEL.BRM.HIGH_FREQUENCY = False
    # KEVA: how much contours sharpen the masks in inference; 0 = not at all, as published.
    cfg.MODEL.BRM.FUSION = 0.0
    cfg.MODEL.BRM.DIM = 128
    # BN as published, or GN, which does not depend on the batch.
    cfg.MODEL.BRM.NORM = "BN"
    cfg.MODEL.BRM.POS_WEIGHT = 5.0
    cfg.MODEL.BRM.LOSS_WEIGHT = 0.5


def _add_criterion_config(cfg: CN) -> None:
    # Further losses: classes of LOSS_REGISTRY.
    cfg.MODEL.LOSSES = []
    cfg.MODEL.CRITERION = CN()
    cfg.MODEL.CRITERION.CLASS_WEIGHT = 2.0
    cfg.MODEL.CRITERION.MASK_WEIGHT = 5.0
    cfg.MODEL.CRITERION.DICE_WEIGHT = 5.0
    cfg.MODEL.CRITERION.PROTO_WEIGHT = 1.0
    cfg.MODEL.CRITERION.NO_OBJECT_WEIGHT = 0.1
    cfg.MODEL.CRITERION.DEEP_SUPERVISION = True
    # Points per mask; 0 = every cell of the mask grid, no sampling.
    cfg.MODEL.CRITERION.NUM_POINTS = 12544
    cfg.MODEL.CRITERION.OVERSAMPLE_RATIO = 3.0
    cfg.MODEL.CRITERION.IMPORTANCE_RATIO = 0.75


def _add_solver_config(cfg: CN) -> None:
    cfg.VERSION = 2
    cfg.SEED = 8434882
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    cfg.SOLVER.BASE_LR = 1e-4
    cfg.SOLVER.WEIGHT_DECAY = 0.05
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # Learning rate factor of every backbone: visual, pre-mask, audio.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # WarmupPolyLR as published, or WarmupCosineLR.
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    cfg.SOLVER.WARMUP_ITERS = 0
    # The gradient norm of the whole model is clipped at this value; 0 = off.
    cfg.SOLVER.CLIP_FULL_MODEL_NORM = 0.01
    # Clips, over all GPUs.
    cfg.SOLVER.IMS_PER_BATCH = 8
    # Mixed precision in training.
    cfg.SOLVER.AMP.ENABLED = False
    # bf16, fp16 (with scaled losses; CUDA), or auto: bf16 where the GPU computes in it, else fp16; off on the CPU.
    cfg.SOLVER.AMP.DTYPE = "auto"
    # Parameters, by the start of their names, that keep their initial values, e.g. ["backbone."].
    cfg.SOLVER.FROZEN = []
    # Periodic checkpoints kept, the newest ones (the best and the final one stay anyway); 0 = all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 2
    # Clips per step and GPU in validation and testing.
    cfg.TEST.BATCH_SIZE = 1
    # Also return what one wants to look at: motion map and boundary.
    cfg.TEST.RETURN_EXTRAS = False
    # How scores are averaged: combo, tpavi, dataset or pooled (docs/scores.md); all are reported, this one is the
    # headline and chooses the best checkpoint.
    cfg.TEST.CONVENTION = "combo"
    # Clips of each validation set whose predictions TensorBoard shows after every evaluation; 0: none.
    cfg.TEST.IMAGES = 4
    # Write predictions as images in AVSBench's layout and as COCO's run lengths; tools/score.py scores both.
    cfg.TEST.SAVE_PREDICTIONS = False
