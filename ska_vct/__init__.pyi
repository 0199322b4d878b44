from ska_vct.config import get_cfg as get_cfg
from ska_vct.engine.predictor import Predictor as Predictor
from ska_vct.engine.pretrained import load_model as load_model

__version__: str
