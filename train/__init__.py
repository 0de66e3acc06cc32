"""Small training recipes: image data, the EDM loss, a resumable loop, and the test loss that
verifies a bundled model."""
