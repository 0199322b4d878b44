"""SKA-VCT: audio-visual segmentation in which audio must explain the motion of what is segmented."""

from ska_vct.utils.lazy import lazy_names
from ska_vct.utils.quiet import ignore_library_warnings

__version__ = "0.1.0"

_HOMES = {
    "Predictor": "engine.predictor",
    "get_cfg": "config",
    "load_model": "engine.pretrained",
}
__all__ = ["Predictor", "__version__", "get_cfg", "load_model"]
__getattr__ = lazy_names(__name__, _HOMES)

# Before any module imports the libraries that warn; processes that are started from this one import it as well.
ignore_library_warnings()
