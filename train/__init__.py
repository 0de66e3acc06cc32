"""Small training recipes: image data, the EDM loss, a resumable loop, and the number a bundled
model is checked by."""
