"""Every key that SKA-VCT adds to Detectron2's config, with its default and meaning.

Defaults follow the paper where it gives a value (docs/method.md, docs/recipe.md). Sizes are pixels of the
network's input unless stated otherwise.
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
    # Your own Python modules that register parts of the model or datasets (docs/extending.md): names of modules
    # next to the config file, in the current folder or on PYTHONPATH, or paths of .py files.
    cfg.IMPORTS = []

    # s4, ms3, avss, or your own dataset: DATASETS.OWN.NAME, or one registered by a module in IMPORTS.
    cfg.DATASETS.SUBSET = "ms3"
    # Your own dataset, described without code; configs/_base_/datasets/own.yaml explains every key.
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

    # Folder with AVSBench_object and AVSBench_semantic. Empty: $DETECTRON2_DATASETS, else "datasets".
    cfg.DATASETS.ROOT = ""
    # Validation set during training (best checkpoint); DATASETS.TEST is scored by --eval-only.
    cfg.DATASETS.VAL = ()
    # Use COMBO's / VCT's rebuilt 384 px folders and the files made by datasets/prepare.py, where they exist.
    cfg.DATASETS.PREFER_REBUILT = True
    # Output folder of datasets/prepare.py; empty: <dataset root>/prepared.
    cfg.DATASETS.PREPARED = ""
    # CSV file with a column "clip" that lists clips to exclude (datasets/check.py --fix-list writes one).
    cfg.DATASETS.LEAVE_OUT = ""
    # The check before training (--check) reads file contents for at most this many seconds.
    cfg.DATASETS.CHECK_SECONDS = 20.0

    # Height and width of the network's input.
    cfg.INPUT.SIZE = (384, 384)
    # Size at which predictions are compared with ground truth (224 x 224 in the literature).
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
    # Sample the jitter per frame and per pre-mask, as VCT does; else once per clip, for frames only.
    cfg.INPUT.COLOR_AUG_PER_IMAGE = False
    # Training: random crop to INPUT.SIZE; without it the resized image must fit.
    cfg.INPUT.RANDOM_CROP = True
    # Value of padding pixels in the image.
    cfg.INPUT.PAD_VALUE = 128
    # Training: load and compute only frames with ground truth.
    cfg.INPUT.ONLY_ANNOTATED = True
    # Training: maximum number of frames per clip, sampled anew each time; 0 = all. No module mixes frames, so more
    # clips of fewer frames cost the same and are more diverse.
    cfg.INPUT.FRAMES_PER_CLIP = 0

    cfg.INPUT.AUDIO = CN()
    # pickle, npy, wav, or auto (the first of these that exists).
    cfg.INPUT.AUDIO.SOURCE = "auto"
    # Training: random gain, uniform within +- this many decibels; 0 = off.
    cfg.INPUT.AUDIO.GAIN_DB = 0.0
    # Training: probability that a clip's audio is replaced and its masks are emptied; 0 = off.
    cfg.INPUT.AUDIO.NEGATIVES = 0.0
    # Replacements: silence, noise (white, at a random level) and other (audio of a clip with other classes; if
    # classes are unknown, the remaining kinds are used instead).
    cfg.INPUT.AUDIO.NEGATIVE_KINDS = ["silence", "noise", "other"]

    cfg.INPUT.FLOW = CN()
    # Folder of the flow files; empty: <dataset root>/flow.
    cfg.INPUT.FLOW.ROOT = ""
    # Normalization: frame (divide by the frame's maximum, as published), clip (by the clip's maximum) or diagonal
    # (by DIAGONAL_SHARE times the diagonal of the image).
    cfg.INPUT.FLOW.NORM = "frame"
    cfg.INPUT.FLOW.DIAGONAL_SHARE = 0.25
    # Flow fields per second passed to the model; if more are stored, they are averaged in groups.
    cfg.INPUT.FLOW.SERIES = 1
    # How groups of stored fields are reduced: mean, or middle (the middle field of each group, a single instant).
    cfg.INPUT.FLOW.GROUPING = "mean"
    # Height and width of the flow grid passed to the model.
    cfg.INPUT.FLOW.SIZE = (24, 24)
    # A clip's first frame: forward (flow to the next frame) or zero (as published, since no frame precedes it).
    cfg.INPUT.FLOW.FIRST_FRAME = "forward"
    # Clips without a flow file: error, or zero (use zero flow).
    cfg.INPUT.FLOW.MISSING = "error"
    # Camera motion: none, affine (subtract the dominant affine motion of each field: pan, zoom, rotation), or
    # affine_soft (the same where it exceeds the noise that it leaves, so a still camera's flow stays as it is).
    cfg.INPUT.FLOW.CAMERA = "none"
    # Compute missing flow when a clip is first loaded and store it in INPUT.FLOW.ROOT for later epochs.
    cfg.INPUT.FLOW.ONLINE = False
    # Method for missing flow: dis or farneback, with INPUT.FLOW.SERIES fields per second and the defaults of
    # datasets/compute_flow.py.
    cfg.INPUT.FLOW.METHOD = "dis"

    # On-disk cache of decoded training images, so that later epochs decode nothing.
    cfg.INPUT.CACHE = CN()
    # Folder, preferably on a local disk; empty: no cache. It can be deleted to free space.
    cfg.INPUT.CACHE.ROOT = ""
    # Maximum size, GiB; a full cache stores nothing more.
    cfg.INPUT.CACHE.MAX_GB = 50.0
    # Maximum short side of cached images, pixels; 0: that of INPUT.SIZE.
    cfg.INPUT.CACHE.SHORT_SIDE = 0
    # Memory for decoded images, masks, flow and audio of training clips, GiB per process that loads data; 0: none.
    # Saves small datasets a quarter of a training step on a CPU.
    cfg.INPUT.CACHE.MEMORY_GB = 0.0

    cfg.INPUT.PRE_MASK = CN()
    # Folder of the class-agnostic segment images; empty: the published location inside the release.
    cfg.INPUT.PRE_MASK.ROOT = ""


def _add_model_config(cfg: CN) -> None:
    # Settings of your own parts; any keys, e.g. {"BANDS": 8}.
    cfg.MODEL.EXTRA = CN(new_allowed=True)
    cfg.MODEL.META_ARCHITECTURE = "SKAVCT"
    cfg.MODEL.NUM_CLASSES = 2  # background included
    cfg.MODEL.HIDDEN_DIM = 256
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.280, 103.530]
    cfg.MODEL.PIXEL_STD = [58.395, 57.120, 57.375]
    # Apply torch.compile to backbones, pixel decoder and decoder on first use (takes minutes; on the CPU it needs
    # a C++ compiler).
    cfg.MODEL.COMPILE = False
    # False: train from scratch, without downloads: the weights of the parts (MODEL.BACKBONE_WEIGHTS,
    # MODEL.PRE_MASK.WEIGHTS, MODEL.AUDIO.WEIGHTS) are not loaded, and the audio encoder is trained.
    cfg.MODEL.PRETRAINED = True
    # Checkpoint of the visual backbone only; MODEL.WEIGHTS is for complete models.
    cfg.MODEL.BACKBONE_WEIGHTS = ""
    # Resize Swin's position tables and the query mixer's grid when a checkpoint was trained at another size.
    cfg.MODEL.RESIZE_ON_LOAD = False
    # Parameters not loaded from MODEL.WEIGHTS, by the prefix of their names in this model, e.g.
    # ["decoder.class_embed."].
    cfg.MODEL.WEIGHTS_SKIP = []

    # Visual backbone: build_swin_backbone (MODEL.SWIN) or build_timm_backbone (MODEL.TIMM).
    cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = -1
    # build_timm_backbone: batch norms keep their pretrained statistics, scale and shift.
    cfg.MODEL.BACKBONE.FREEZE_NORMS = False
    # Activation checkpointing: less memory for about a third more time. Blocks store only their inputs and are
    # recomputed in the backward pass, including those of the pre-mask encoder; MODEL.PIXEL_DECODER and
    # MODEL.DECODER have the same key.
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

    # Siamese encoder of class-agnostic segment images (COMBO): the backbone's architecture, separate weights.
    cfg.MODEL.PRE_MASK = CN()
    cfg.MODEL.PRE_MASK.ENABLED = False
    cfg.MODEL.PRE_MASK.REDUCTION = 16
    cfg.MODEL.PRE_MASK.WEIGHTS = ""

    cfg.MODEL.AUDIO = CN()
    # Class in AUDIO_ENCODER_REGISTRY: VGGishEncoder or YAMNetEncoder. WEIGHTS and FREEZE apply to any encoder,
    # YAMNET_MLP_DIM to YAMNetEncoder, the other keys to VGGishEncoder.
    cfg.MODEL.AUDIO.NAME = "VGGishEncoder"
    # Output channels of VGGish's six convolutions.
    cfg.MODEL.AUDIO.CHANNELS = [64, 128, 256, 256, 512, 512]
    # Hidden widths of the per-cell MLP.
    cfg.MODEL.AUDIO.MLP_DIMS = [4096, 4096]
    # Hidden width of the per-cell MLP behind YAMNet.
    cfg.MODEL.AUDIO.YAMNET_MLP_DIM = 256
    # True needs MODEL.AUDIO.WEIGHTS; without them, False trains from scratch.
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
    # Whether mixed precision applies to convolutions and linear layers; locations, norms and softmax stay in
    # float32. False: everything in float32, as published.
    cfg.MODEL.PIXEL_DECODER.AMP = True
    # Width of the mask features; 0 = MODEL.HIDDEN_DIM.
    cfg.MODEL.PIXEL_DECODER.MASK_DIM = 0

    cfg.MODEL.SKA = CN()
    cfg.MODEL.SKA.ENABLED = True
    # Class in SKA_REGISTRY: SKA is the published form; TemporalSKA matches a series of flow fields
    # (INPUT.FLOW.SERIES > 1) with the audio over time; FlowMagnitude ignores the audio and activates all motion.
    cfg.MODEL.SKA.NAME = "SKA"
    # magnitude (published) or uvm (u, v and magnitude).
    cfg.MODEL.SKA.CHANNELS = "magnitude"
    cfg.MODEL.SKA.GRID = (24, 24)
    cfg.MODEL.SKA.FLOW_DIM = 64
    cfg.MODEL.SKA.NUM_HEADS = 4
    # Whether the log speed of each location is added to the logits: "auto" (TemporalSKA yes, SKA no), "on" or
    # "off". Quote it: YAML reads a bare on as a boolean. ENERGY_INIT is the initial value of the learnt weight.
    cfg.MODEL.SKA.ENERGY_PRIOR = "auto"
    cfg.MODEL.SKA.ENERGY_INIT = 1.0
    # TemporalSKA: unit of that speed: flow (that of the flow) or frame (the frame's largest speed).
    cfg.MODEL.SKA.ENERGY_UNIT = "flow"
    # TemporalSKA: width of a head, weight of the match.
    cfg.MODEL.SKA.SERIES_DIM = 8
    cfg.MODEL.SKA.MATCH_SCALE = 6.0
    # TemporalSKA: subtract the means of motion and audio over the second before comparing them.
    cfg.MODEL.SKA.CENTRED = True
    # TemporalSKA: time steps per second at which they are compared; 0 = the number of flow fields.
    cfg.MODEL.SKA.STEPS = 0
    # TemporalSKA: second (the 100 log-mel hops of exactly the frame's second) or patch (VGGish's patch, which for
    # frame k begins at 0.96 k seconds and so drifts from the flow by 0.04 s per frame).
    cfg.MODEL.SKA.AUDIO = "second"
    # TemporalSKA: speed at which a location gets weight 1/2, as a fraction of the image diagonal per second; needs
    # INPUT.FLOW.NORM diagonal, since other units have no absolute meaning. 0 = no floor.
    cfg.MODEL.SKA.SPEED_FLOOR = 0.005
    # TemporalSKA: scale the map by a learnt confidence that something is audible and moving.
    cfg.MODEL.SKA.CONFIDENCE = True
    # TemporalSKA: softmax (the attention, stretched to [0, 1]) or sigmoid (each location judged on its own, so two
    # that sound may both be high; CONFIDENCE is then not used).
    cfg.MODEL.SKA.MAP = "softmax"
    # Normalization in SKA's flow encoder: BN as published, or GN, which is independent of the batch.
    cfg.MODEL.SKA.NORM = "BN"
    # Also add the map, times learnt vectors, to the mask features and the keys of the decoder's visual memories.
    cfg.MODEL.SKA.MAP_AS_FEATURE = False
    # With it: radii of wider copies of the map in the mask features, as fractions of the map's longer side.
    cfg.MODEL.SKA.MAP_RADII = []
    # Weight of the cross-entropy of the map against the mask where the foreground moves; 0 = off.
    cfg.MODEL.SKA.MAP_LOSS = 0.0
    # TemporalSKA: weight of the contrastive loss between a clip's own and other clips' audio; 0 = off.
    cfg.MODEL.SKA.CONTRAST = 0.0

    cfg.MODEL.MPQG = CN()
    # Whether the motion map reweights the features from which queries are generated; False is VCT's PPQG.
    cfg.MODEL.MPQG.MOTION = True
    # Initial value of the learnt gate: 1 as published, 0 for KEVA's residual gate.
    cfg.MODEL.MPQG.GATE_INIT = 1.0
    # KEVA: number of queries initialised with the features at the maxima of the motion map; 0 = off.
    cfg.MODEL.MPQG.ANCHORS = 0
    # Features from which anchors are sampled: modulated (by the motion map) or plain.
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
    # KEVA: subtract the local average from the mask features that the head reads.
    cfg.MODEL.BRM.HIGH_FREQUENCY = False
    # KEVA: strength with which contours sharpen the masks in inference; 0 = off, as published.
    cfg.MODEL.BRM.FUSION = 0.0
    cfg.MODEL.BRM.DIM = 128
    # BN as published, or GN, which is independent of the batch.
    cfg.MODEL.BRM.NORM = "BN"
    cfg.MODEL.BRM.POS_WEIGHT = 5.0
    cfg.MODEL.BRM.LOSS_WEIGHT = 0.5


def _add_criterion_config(cfg: CN) -> None:
    # Additional losses: classes in LOSS_REGISTRY.
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
    # Learning rate factor of all backbones: visual, pre-mask, audio.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # The audio encoder's own, e.g. 1.0 for one learnt from scratch beside a pretrained visual one; -1: as above.
    cfg.SOLVER.AUDIO_MULTIPLIER = -1.0
    # WarmupPolyLR as published, or WarmupCosineLR.
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    cfg.SOLVER.WARMUP_ITERS = 0
    # The gradient norm of the whole model is clipped at this value; 0 = off.
    cfg.SOLVER.CLIP_FULL_MODEL_NORM = 0.01
    # Steps whose loss or gradient is not finite that a run may skip; each is logged with its clips, and counted as
    # skipped_steps. 0 = the first one stops the run.
    cfg.SOLVER.SKIP_SICK_STEPS = 0
    # Clips per step, over all GPUs.
    cfg.SOLVER.IMS_PER_BATCH = 8
    # Mixed precision in training.
    cfg.SOLVER.AMP.ENABLED = False
    # bf16, fp16 (CUDA, with loss scaling), or auto: bf16 if the GPU supports it, else fp16; off on the CPU.
    cfg.SOLVER.AMP.DTYPE = "auto"
    # Parameters to freeze, by the prefix of their names, e.g. ["backbone."].
    cfg.SOLVER.FROZEN = []
    # Number of periodic checkpoints to keep (besides the best and the final one); 0 = all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 2
    # Clips per step and GPU in validation and testing.
    cfg.TEST.BATCH_SIZE = 1
    # Also return motion map and boundary, for visualization.
    cfg.TEST.RETURN_EXTRAS = False
    # Predictor's masks are where the score exceeds this, chosen on validation data; 0: the class with the highest
    # score, as in the papers and in every evaluation.
    cfg.TEST.THRESHOLD = 0.0
    # How scores are averaged: combo, tpavi, dataset or pooled (docs/scores.md). All are reported; this one is the
    # headline and selects the best checkpoint.
    cfg.TEST.CONVENTION = "combo"
    # Clips of each validation set whose predictions TensorBoard shows after every evaluation; 0: none.
    cfg.TEST.IMAGES = 4
    # Write predictions as images in AVSBench's layout and as COCO's run lengths; tools/score.py scores both.
    cfg.TEST.SAVE_PREDICTIONS = False

    cfg.LOG = CN()
    # Project of Weights & Biases that also receives what TensorBoard shows (extra wandb); empty: none.
    cfg.LOG.WANDB = ""
