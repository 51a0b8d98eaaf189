"""Image files: decoding, reading by windows, the size of pixels, resampling and padding."""
