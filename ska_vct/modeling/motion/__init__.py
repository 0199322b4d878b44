"""Motion modules: from audio features and flow to a sound-activated motion map."""
