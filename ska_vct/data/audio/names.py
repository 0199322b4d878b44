"""Constants that command lines share with the audio code."""

# Root mean square of the noise in robustness scores, of full scale: -20 dB, as loud as speech and music.
NOISE_LEVEL = 0.1
