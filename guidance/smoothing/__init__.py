"""Gradients of black-box functions from their values alone: a source of gradients for guidance."""
