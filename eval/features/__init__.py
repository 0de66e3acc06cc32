"""Image features: sources of images, feature networks, moments, files of statistics."""
