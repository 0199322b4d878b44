"""Files of images, video and audio: opened by format, checked by header, decoded within bounds."""
