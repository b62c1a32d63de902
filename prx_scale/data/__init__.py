"""Data sets: images, captions and their encodings."""
