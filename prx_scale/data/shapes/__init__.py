"""Images of flat shapes with exact captions and an exact detector: a real, small text-to-image problem."""
