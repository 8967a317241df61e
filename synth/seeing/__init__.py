"""Classical vision: what the embedded teacher sees in a picture, at a glance and closely."""
