"""Draws the procedural scenes that synth/scenes.py offers; never imported by the embedded teacher."""
