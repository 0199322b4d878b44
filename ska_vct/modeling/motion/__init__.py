"""Motion modules: compute a sound-activated motion map from audio features and flow."""
