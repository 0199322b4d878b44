"""Joins data, model, evaluation and checkpoints into programs; the only package that imports all of them."""

import warnings

# Known and harmless: Detectron2 and timm are written for older releases of torch.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch\.jit|timm|torch\.cuda\.amp|detectron2)")
warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release", category=UserWarning)
