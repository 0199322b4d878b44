"""From files on disk to clips: dataset facts and readers, audio, images, flow, augmentation, mapper."""
