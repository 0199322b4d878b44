"""SKA-VCT: audio-visual segmentation in which sound has to explain the motion it lights up."""

__version__ = "0.1.0"
