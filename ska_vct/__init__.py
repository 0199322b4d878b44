"""SKA-VCT: audio-visual segmentation in which audio must explain the motion of what is segmented."""

from ska_vct.utils.lazy import lazy_names

__version__ = "0.1.0"

_HOMES = {
    "Predictor": "engine.predictor",
    "get_cfg": "config",
    "load_model": "engine.pretrained",
}
__all__ = ["Predictor", "__version__", "get_cfg", "load_model"]
__getattr__ = lazy_names(__name__, _HOMES)
