"""Image features: image sources, feature networks, moments, and files of statistics."""
