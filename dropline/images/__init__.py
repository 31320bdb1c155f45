"""From untrusted bytes to pixels: format, limits and decoding."""
